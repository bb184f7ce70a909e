"""Hold every run of an ablation against what the grid says that it is: cell, arm, seed and settings.

A comparison is true only if each side is the run that it is called. Every reader of an ablation that makes
or passes on a claim asks here first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.ablation.cell import Cell
from pipelines.errors import UserError
from pipelines.hub.contents import CONTENTS
from pipelines.runs import identity, intact
from pipelines.storage.names import ABLATION, MANIFEST
from pipelines.storage.run_folder import RunFolder

SEED = "config.seed: "
Json = Mapping[str, Any]


def require(folder: Path, cells: Iterable[Cell]) -> None:
    """Refuse an ablation of which a run is not what the grid says.

    Args:
        folder: of the ablation.
        cells: its runs, of the grid and of the search; those that have not ended are passed over.

    Raises:
        UserError: it names the first such run, and counts what else is wrong.
    """
    found = list(differences(cells))
    if found:
        more = f" (and {len(found) - 1} more)" if found[1:] else ""
        fix = f"put the files back as attnlab wrote them; attnlab verify {folder} lists every finding"
        raise UserError(str(folder), f"a run is not what the grid says: {found[0]}{more}", accepted=fix)


def differences(cells: Iterable[Cell]) -> Iterator[str]:
    """Yield what contradicts the grid, each as "cell / arm / seed N: what"."""
    first: dict[tuple[str, str], tuple[Cell, Json]] = {}  # of each arm
    read: dict[str, tuple[Cell, Json]] = {}  # of each cell and its data settings, what was read
    floors: dict[str, tuple[Cell, str]] = {}  # of each data, task and model, what needs no model scores
    for cell in cells:
        run = RunFolder(cell.folder)
        manifest = run.manifest()
        if manifest is None:
            continue
        wrong = [
            f"{name}: {what}" for name, what in intact.contradictions(run, manifest, reads_settings=False)
        ]
        described = run.identity()
        if described is not None:
            other = identity.other_settings(described, cell.config)
            reads = not (cell.ablation.parent / CONTENTS).is_file()  # what was downloaded names no file here
            other += _other_files(described, manifest["config"], cell.config, reads=reads)
            wrong += [f"is not the run of {ABLATION}: {line}" for line in other]
            alike, known = first.setdefault((cell.cell, cell.arm), (cell, described))
            wrong += [f"is another run than {alike.label}: {line}" for line in _unlike(known, described)]
            settings = json.dumps([cell.cell, described["config"].get("data")], sort_keys=True)
            other_run, hashes = read.setdefault(settings, (cell, manifest["data"].get("hashes", {})))
            examples = identity.differences(hashes, manifest["data"].get("hashes", {}))
            wrong += [f"has read other examples than {other_run.label}: {line}" for line in examples]
            config, own = manifest["config"], json.dumps(manifest.get("baselines"), sort_keys=True)
            alike_in = json.dumps([settings, config.get("task"), config.get("model")], sort_keys=True)
            other_run, others = floors.setdefault(alike_in, (cell, own))
            if own != others:
                wrong.append(f"{MANIFEST}: states other scores without a model than {other_run.label}")
        yield from (f"{cell.label}: {line}" for line in wrong)


def _other_files(described: Json, read: Json, stated: Json, *, reads: bool = True) -> list[str]:
    """Return the files that the grid names otherwise than a run and that are not what the run has read.

    Args:
        reads: whether a file of another name may be read, and passes if it has the content.
    """
    contents, before, now = (dict(identity.flatten(one)) for one in (described["config"], read, stated))
    return [
        f"{name}: {before.get(name)!r} -> {now[name]!r}"
        for name, content in contents.items()
        if str(content).startswith(identity.CONTENT) and now.get(name) not in (None, before.get(name))
        if not reads or identity.content_of(now[name]) != content
    ]


def _unlike(one: Json, other: Json) -> Iterator[str]:
    """Yield what two runs of one arm do not share beside their seed: settings, contents of files, sources."""
    yield from (line for line in identity.differences(one, other) if not line.startswith(SEED))
