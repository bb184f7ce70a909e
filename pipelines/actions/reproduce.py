"""`attnlab reproduce`: repeat a run or an ablation from what it has stored, and compare the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.ablation import results
from pipelines.ablation.folder import StoredAblation, open_ablation
from pipelines.ablation.preregistration import manifests
from pipelines.actions.ablate import run_ablation
from pipelines.actions.train import train
from pipelines.comparison import scored_run, significance
from pipelines.comparison.scored_run import ScoredRun
from pipelines.config.load import ablation_from_dict, run_from_dict
from pipelines.errors import RunFailed, UserError
from pipelines.hub.address import is_address, parse
from pipelines.publish.portable import locate_files
from pipelines.runs import identity, intact, recorded
from pipelines.runs.locate import find_record
from pipelines.shown import plural, printable
from pipelines.storage.names import CELLS, RUN, RUNS
from pipelines.storage.run_folder import RunFolder

EQUAL, WITHIN, DIFFERENT = "equal bits", "within the interval", "different"
ALIKE = "the conditions are equal, so the bits should be"


@dataclass(frozen=True)
class Reproduced:
    """The result of repeating one run or one comparison."""

    name: str
    result: str  # EQUAL, WITHIN or DIFFERENT
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.result}" + (f" ({self.detail})" if self.detail else "")


def reproduce_command(folder: str, out: str | None, jobs: int | None) -> None:
    """Repeat a run or an ablation in a new folder and print the result of every comparison.

    Args:
        folder: of a finished run or an ablation, or "hub:ORG/NAME".
        out: the new folder; None: `folder`-reproduced.
        jobs: runs side by side on this machine.

    Raises:
        UserError: the folder holds neither a finished run nor an ablation with results, or `out` is where
            its own runs are.
        RunFailed: something is different.
    """
    old, new = find_record(folder), Path(out or _default_folder(folder))
    _refuse_itself(old, new)
    if (old / RUNS).exists():
        found = repeat_ablation(old, new, jobs)
    elif RunFolder(old).manifest() is not None:
        found = [repeat_run(folder, old, new)]
    else:
        raise UserError(folder, "is neither a finished run nor an ablation", accepted="see attnlab ls runs")
    for one in found:
        print(printable(str(one)))
    counts = Counter(one.result for one in found)
    summary = ", ".join(f"{counts[word]} {word}" for word in (EQUAL, WITHIN, DIFFERENT) if counts[word])
    print(printable(f"{summary}; the new runs are in {new}"))
    if counts[DIFFERENT]:
        raise RunFailed(f"{folder}: not reproduced")


def _refuse_itself(old: Path, new: Path) -> None:
    """Refuse a folder in which the runs to be repeated would be found, so that nothing would be trained.

    Raises:
        UserError: it is that of the run, or of the ablation, or shares its runs.
    """
    taken = {place.resolve() for place in (old, old.parent, old.parent / CELLS)}
    if {place.resolve() for place in (new, new / CELLS)} & taken:
        what = "is where the runs are that are to be repeated, so nothing would be trained"
        raise UserError("--out", what, str(new), "name a new folder")


def _default_folder(folder: str) -> str:
    if is_address(folder):
        return f"runs/{parse(folder).repo.split('/')[1]}-reproduced"
    return f"{folder.rstrip('/')}-reproduced"


def repeat_run(name: str, old: Path, new: Path) -> Reproduced:
    """Run a finished run again into folder `new` and compare the two.

    Raises:
        UserError: a file of the run has changed; or it needs several processes, and `new` does not hold its
            repetition yet.
    """
    manifest = RunFolder(old).manifest()
    assert manifest is not None
    intact.require_as_written(RunFolder(old), manifest)
    settings = _without_side_effects(manifest["config"])
    config = run_from_dict(locate_files(settings, old, [RunFolder(old)]))
    _say_what_is_there(int(RunFolder(new).manifest() is not None), new)
    if config.processes > 1:
        what = f"ran on {config.processes} processes"
        advice = f"attnlab train {old}/{RUN} --out {new}, then attnlab reproduce {old} --out {new}"
        if RunFolder(new).manifest() is None:
            raise UserError(name, what, accepted=advice)
    else:
        train(config, str(new))
    other = list(conditions(old, new))
    for line in other:
        print(printable(line))
    return compare_runs(old, new, name, alike=not other and is_deterministic(new))


def _say_what_is_there(count: int, folder: Path) -> None:
    """Say which runs are not trained now, as they were in the new folder before: made earlier, or copied."""
    if count:
        print(
            printable(f"finished before this start, so not trained now: {plural(count, 'run')} in {folder}")
        )


def _without_side_effects(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run without pushing and tracking."""
    return {**run, "hub": None, "trackers": []}


def repeat_ablation(old: Path, new: Path, jobs: int | None) -> list[Reproduced]:
    """Run an ablation again below folder `new`, and compare every run and every primary comparison.

    Raises:
        UserError: no run of it has finished, a file of its runs has changed, or a run is not what its grid
            says.
    """
    stored = open_ablation(old)
    out = new / old.resolve().name
    has_copies = any("-r" in cell.folder.name for cell in stored.cells)  # made with --fresh
    finished = [RunFolder(cell.folder) for cell in stored.cells if RunFolder(cell.folder).manifest()]
    settings = stored.config.to_dict()
    settings["cells"] = {name: _without_side_effects(cell) for name, cell in settings["cells"].items()}
    config = ablation_from_dict(locate_files(settings, old, finished))
    # Computed, not read from results.json, which may be damaged.
    before = results.results_of([results.ended_ablation(old)], old)
    for run in finished:
        intact.require_as_written(run, run.manifest() or {})
    fresh = has_copies and not (out / RUNS).exists()
    _say_what_is_there(sum(1 for _ in manifests(new / CELLS)), new)
    run_ablation(config, str(out), jobs=jobs, executor="local", fresh=fresh)
    again = open_ablation(out)
    pairs = list(_pairs(stored, again))
    differing = {label: list(conditions(one, other)) for one, other, label in pairs}
    for line in dict.fromkeys(line for lines in differing.values() for line in lines):
        print(printable(line))
    alike = {label: not differing[label] and is_deterministic(other) for _, other, label in pairs}
    runs = [compare_runs(one, other, label, alike=alike[label]) for one, other, label in pairs]
    now = results.read_results(out) or {}
    return [*runs, *compare_results(before, now, alike=all(alike.values()))]


def _pairs(stored: StoredAblation, again: StoredAblation) -> Iterator[tuple[Path, Path, str]]:
    """Yield (old folder, new folder, label) of every run that had finished."""
    places = {cell.label: cell.folder for cell in again.cells}
    for cell, outcome in stored.outcomes().items():
        if outcome.status == "finished":
            yield cell.folder, places[cell.label], cell.label


def conditions(old: Path, new: Path) -> Iterator[str]:
    """Yield the differences in the settings, sources, data, versions and hardware of two runs."""
    runs = RunFolder(old), RunFolder(new)
    for line in identity.differences(*(run.identity() or {} for run in runs)):
        yield f"not the same run: {line}"
    manifests = [run.manifest() or {} for run in runs]
    for part in ("environment", "data"):
        shown = "data" if part == "data" else "conditions"
        before, now = (manifest.get(part) or {} for manifest in manifests)
        yield from (f"other {shown}: {line}" for line in identity.differences(before, now))


def is_deterministic(run: Path) -> bool:
    """Return whether a run gives the same bits each time; a GPU does so with `deterministic: true` only."""
    environment = (RunFolder(run).manifest() or {}).get("environment", {})
    return bool(environment.get("deterministic"))


def compare_runs(old: Path, new: Path, name: str, *, alike: bool) -> Reproduced:
    """Compare a finished run with its repetition.

    Equal bits: every example has the same statistics and prediction, and where the conditions are equal, so
    have the logs and what the manifest states. Within the interval: the conditions were others, and the 95 %
    interval of the difference over examples contains 0. Different: anything else.

    Args:
        alike: whether settings, sources, data, versions and machine are the same, so that the bits must be.
    """
    ended = [(RunFolder(run).manifest() or {}).get("status", "not finished") for run in (old, new)]
    if ended[0] != ended[1]:
        return Reproduced(name, DIFFERENT, f"it was {ended[0]} before, and is {ended[1]} now")
    stated = list(recorded.differences(old, new) if alike else recorded.data_differences(old, new))
    told = f"{stated[0]}{f' and {len(stated) - 1} more' if stated[1:] else ''}; {ALIKE}" if stated else ""
    if ended[0] == "diverged":  # it was not scored
        return Reproduced(name, DIFFERENT if told else EQUAL, told)
    split = scored_run.common_split([old, new])
    before, now = scored_run.read(old, name, split), scored_run.read(new, f"{name}, again", split)
    if before.examples != now.examples:
        return Reproduced(name, DIFFERENT, f"scored on other {split} examples")
    if before.metrics.keys() != now.metrics.keys():
        return Reproduced(name, DIFFERENT, "scored with other metrics")
    tables = [(before.statistics[metric], now.statistics[metric]) for metric in before.statistics]
    same = not any(significance.differing(*pair).any() for pair in tables)
    if same and before.prediction_hashes == now.prediction_hashes:
        return Reproduced(name, DIFFERENT if told else EQUAL, told)
    found = _compare_statistics(before, now, name)
    if alike:
        return Reproduced(name, DIFFERENT, f"{found.detail}; {ALIKE}")
    return Reproduced(name, DIFFERENT, f"{found.detail}; {told}") if told else found


def _compare_statistics(before: ScoredRun, now: ScoredRun, name: str) -> Reproduced:
    metric = before.manifest["primary"]
    tables = (before.statistics[metric], now.statistics[metric])
    result = significance.paired_test(
        [before.deletions(metric)], [now.deletions(metric)], [significance.differing(*tables)]
    )
    detail = f"{metric} {before.score(metric):.4g} -> {now.score(metric):.4g}"
    if result.identical:
        return Reproduced(name, WITHIN, f"{detail}; other predictions, the same statistics")
    low, high = result.ci95
    is_within = result.problem is None and low <= 0 <= high
    interval = "" if result.problem else f", 95 % interval of the difference {low:+.3g} to {high:+.3g}"
    return Reproduced(name, WITHIN if is_within else DIFFERENT, detail + interval)


def compare_results(old: Mapping[str, Any], new: Mapping[str, Any], *, alike: bool) -> Iterator[Reproduced]:
    """Compare every primary comparison with its repetition.

    Within the interval: the conditions were others, and the new difference is in the old 95 % interval.
    """
    rows = {(row["cell"], row["arm"], row["metric"]): row for row in new["comparisons"]}
    for before in old["comparisons"]:
        if not before["primary"]:
            continue
        key = before["cell"], before["arm"], before["metric"]
        now = rows[key]
        name = " / ".join(key)
        detail = f"{_shown(before)} -> {_shown(now)}"
        if before["seed_differences"] == now["seed_differences"]:
            yield Reproduced(name, EQUAL, _shown(now))
        elif alike:
            yield Reproduced(name, DIFFERENT, f"{detail}; {ALIKE}")
        elif None in (before["difference"], now["difference"]) or before["ci95"] is None:
            yield Reproduced(name, DIFFERENT, detail)
        else:
            low, high = before["ci95"]
            yield Reproduced(name, WITHIN if low <= now["difference"] <= high else DIFFERENT, detail)


def _shown(row: Mapping[str, Any]) -> str:
    difference = row["difference"]
    return row["verdict"] + ("" if difference is None else f" {difference:+.3g}")
