"""Read and score the files of a comparison again: its records must be what they give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.actions import compare
from pipelines.errors import UserError
from pipelines.predictions.table import NamedColumns
from pipelines.shown import printable
from pipelines.storage.names import COMPARISON, PREDICTIONS
from pipelines.storage.run_folder import RunFolder

STATED = ("ablation", "runs", "test")


def differences(folder: Path) -> Iterator[str]:
    """Yield what of a comparison its files do not give; say which file is not here to be read again."""
    try:
        stated = compare.stated_in(folder)
    except UserError:  # it is named as damaged
        return
    asked = stated.get("request")
    if asked is None:  # of an earlier version
        return
    files = [Path(one["file"]) for side in stated["sources"].values() for one in side]
    files += [Path(asked["references"])] if asked["references"] else []
    away = next((file for file in files if not file.is_file()), None)
    if away is not None:
        print(printable(f"{away} is no file of this machine, so the sides are not scored again"))
        return
    with TemporaryDirectory(prefix="attnlab-compare-") as scratch:
        request = compare.Request(**{**asked, "names": NamedColumns(**asked["names"])})
        try:
            compare.score(request, Path(scratch))
        except UserError as error:
            yield f"its files cannot be scored again: {error.sentence()}"
            return
        again = compare.stated_in(Path(scratch))
        yield from (
            f"{COMPARISON}: {name} is not what its files give"
            for name in STATED
            if again[name] != stated[name]
        )
        for name in stated["runs"].keys() & again["runs"].keys():
            before, now = (
                RunFolder(root / one["runs"][name]).manifest() or {"files": {}}
                for root, one in ((folder, stated), (Path(scratch), again))
            )
            wanted = [file for file in now["files"] if file.startswith(PREDICTIONS.partition("{")[0])]
            for file in wanted:
                if before["files"].get(file) != now["files"][file]:
                    yield f"{name}: {file}: is not what its source gives"
