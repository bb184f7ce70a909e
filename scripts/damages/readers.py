"""The commands that read a folder, each with the files that are damaged for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.damages.folders import kept_run, training, without_loading
from scripts.forks import Command

RESULTS = ("model/model.safetensors", "predictions.test.jsonl", "statistics.test.parquet")
NOT_FINISHED = "runs are missing|not finished yet"  # what a report says of a run without its manifest
NOT_OF_THE_RECORD = ("log.txt", "failure.txt", "starts.json")  # whose damage changes no number


@dataclass(frozen=True)
class Reader:
    """A command that reads a folder.

    Attributes:
        name: of its line in the table.
        files: what is damaged for it, below its folder.
        results: files that it leaves; another content of one is another result.
        prints_results: what it prints is its result too, not a word about it.
        tells: a pattern of what it prints about a damage, beside its results.
        checks: it must tell every damage of a file of the record.
    """

    name: str
    command: Command
    files: Sequence[Path]
    results: Sequence[Path] = ()
    prints_results: bool = False
    tells: str = "nothing is told here"
    checks: bool = False
    before: Callable[[], object] = lambda: None


def readers(kind: str, place: Path) -> Iterator[Reader]:
    """Yield the commands that read a folder of a kind, which is at `place`."""
    yield from globals()[f"of_{kind}"](place)


def of_ablation(place: Path) -> Iterator[Reader]:
    folder, again, file = place / "runs" / "small", place / "again", str(place / "small.yaml")
    files = [*files_of(folder), *files_of(kept_run(place / "runs"))]
    results = [folder / "results.json", folder / "results.csv"]
    yield Reader("report", ("report", str(folder)), files, results, tells=NOT_FINISHED)
    yield Reader("verify", ("verify", str(folder)), files, checks=True)
    yield Reader("status", ("status", str(folder)), files)
    yield Reader("ls runs", ("ls", "runs", str(place / "runs")), files)
    yield Reader("plan", ("plan", file, "--pilot", str(folder)), files, prints_results=True)
    yield Reader("ablate", ("ablate", file, "--out", str(folder)), files, results)
    push = ("push", str(folder), "org/name", "--dry-run")
    yield Reader("push --dry-run", push, files, before=without_loading)
    repeated = ("reproduce", str(folder), "--out", str(again))
    yield Reader("reproduce", repeated, files, prints_results=True)


def of_unfinished(place: Path) -> Iterator[Reader]:
    folder = place / "runs" / "small"
    files, results = files_of(kept_run(place / "runs", "failure.txt")), [folder / "results.json"]
    yield Reader("status, a run failed", ("status", str(folder)), files)
    yield Reader("report, a run failed", ("report", str(folder)), files, results, tells=NOT_FINISHED)
    command = ("ablate", str(place / "small.yaml"), "--out", str(folder), "--jobs", "1")
    of_tries = [path for path in files if path.name in ("failure.txt", "starts.json")]  # it takes seconds
    made = [kept_run(place / "runs", "failure.txt") / name for name in RESULTS[1:]]
    yield Reader("ablate, a run failed", command, of_tries, made)


def of_run(place: Path) -> Iterator[Reader]:
    from attnlab import load_run

    run, again = place / "run", place / "again"
    files, text = files_of(run), str(run)
    yield Reader("verify RUN", ("verify", text), files, checks=True)
    lines = str(place / "lines.txt")
    yield Reader("predict", ("predict", text, "--input", lines), files, prints_results=True)
    evaluate = ("evaluate", text, "--split", "test")
    yield Reader("evaluate", evaluate, files, prints_results=True)
    yield Reader("fold", ("fold", text, str(place / "folded")), files, [place / "folded/model.safetensors"])
    push = ("push", text, "org/name", "--dry-run")
    yield Reader("push --dry-run RUN", push, files, before=without_loading)
    repeated = ("reproduce", text, "--out", str(again))
    yield Reader("reproduce RUN", repeated, files, prints_results=True)
    yield Reader("train, finished", training(place, attention=["temperature"]), files)

    def load() -> None:
        loaded = load_run(text)
        print(sum(value.double().sum().item() for value in loaded.model.state_dict().values()))

    yield Reader("attnlab.load_run", load, files, prints_results=True)


def of_stopped(place: Path) -> Iterator[Reader]:
    results = [place / "run" / name for name in RESULTS]
    yield Reader(
        "train, stopped", training(place, attention=["temperature"]), files_of(place / "run"), results
    )


def of_cache(place: Path) -> Iterator[Reader]:
    results = [place / "run" / name for name in RESULTS]
    yield Reader(
        "train, from a cache", training(place, attention=["temperature"]), files_of(place / "cache"), results
    )


def of_push(place: Path) -> Iterator[Reader]:
    command = ("push", str(place / "run"), "org/name", "--dry-run")
    yield Reader("push --dry-run again", command, files_of(place / "run" / "hub"), before=without_loading)


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder at every depth, without locks."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(path for path in found if path.name != ".lock")
