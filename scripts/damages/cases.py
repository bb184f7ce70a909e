"""Cases: one damage of one file before one command, and what the command makes of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from scripts.damages.folders import MAKERS
from scripts.damages.kinds import DAMAGES
from scripts.damages.readers import NOT_OF_THE_RECORD, Reader, readers
from scripts.forks import Ended, run

GOOD = ("refused", "told", "same")
BAD = ("traceback", "silent", "left over")  # a temporary file is left over
SHOWN = 300  # characters of what a command said, in the record of a case


class Case(NamedTuple):
    """One damage of one file before one command."""

    kind: str  # of the folder
    command: str  # name of a reader
    file: str  # below the folder
    damage: str


class Folders:
    """The folders that are damaged: each is made once, and put back after every case."""

    def __init__(self, root: Path) -> None:
        self.intact, self.now = root / "intact", root / "now"
        self._right: dict[tuple[str, str], tuple[Ended, list[bytes]]] = {}
        self._readers: dict[str, dict[str, Reader]] = {}

    def readers(self, kind: str) -> dict[str, Reader]:
        """Return the readers of a kind of folder by their names; the folder is made if it is not there."""
        if kind not in self._readers:
            place = self.now / kind
            if not (self.intact / kind).exists():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True)
                MAKERS[kind](place)
                shutil.copytree(place, self.intact / kind, symlinks=True)
            self._put_back(kind)
            self._readers[kind] = {reader.name: reader for reader in readers(kind, place)}
        return self._readers[kind]

    def cases(self, kinds: Sequence[str]) -> Iterator[Case]:
        """Yield every case of some kinds of folders."""
        for kind in kinds:
            for reader in self.readers(kind).values():
                for file in reader.files:
                    for damage in DAMAGES:
                        yield Case(kind, reader.name, str(file.relative_to(self.now / kind)), damage)

    def happen(self, case: Case) -> dict[str, str]:
        """Damage the file, run the command, and return how it took that."""
        reader, place = self.readers(case.kind)[case.command], self.now / case.kind
        right = self._without_damage(case.kind, reader)
        DAMAGES[case.damage](place / case.file)
        ended = run(reader.command, reader.before)
        took = _took(case, reader, ended, _results(reader), right)
        if took in GOOD and any(place.rglob(".*.tmp")):
            took = "left over"
        self._put_back(case.kind)
        said = (ended.said.strip() or ended.printed.strip())[-SHOWN:]
        return {**case._asdict(), "took": took, "said": said.replace(str(place), "")}

    def _without_damage(self, kind: str, reader: Reader) -> tuple[Ended, list[bytes]]:
        """Return what a command says and leaves without any damage."""
        if (kind, reader.name) not in self._right:
            ended = run(reader.command, reader.before)
            usual = (0,) if reader.checks else (0, 1)  # one run of some ablations has failed
            if ended.status not in usual or "Traceback" in ended.said:
                raise SystemExit(
                    f"{reader.name}: ends with {ended.status} without damage: {ended.said[-500:]}"
                )
            self._right[kind, reader.name] = ended, _results(reader)
            self._put_back(kind)
        return self._right[kind, reader.name]

    def _put_back(self, kind: str) -> None:
        shutil.rmtree(self.now / kind, ignore_errors=True)
        shutil.copytree(self.intact / kind, self.now / kind, symlinks=True)


def _results(reader: Reader) -> list[bytes]:
    return [path.read_bytes() if path.is_file() else b"" for path in reader.results]


def _took(
    case: Case, reader: Reader, ended: Ended, results: Sequence[bytes], right: tuple[Ended, Sequence[bytes]]
) -> str:
    """Return how a command took a damage: one of `GOOD` or `BAD`."""
    before, expected = right
    if isinstance(ended.status, str):
        return "traceback"
    if ended.status != before.status:
        return "refused"
    says_more = _words(ended.said) != _words(before.said)
    prints_else = _words(ended.printed) != _words(before.printed)
    if results != expected or (prints_else and reader.prints_results):
        is_told = says_more or re.search(reader.tells, ended.printed)
        return "told" if is_told and "train" not in case.command else "silent"
    if says_more or prints_else:
        return "told"
    must_tell = reader.checks and Path(case.file).name not in NOT_OF_THE_RECORD
    return "silent" if must_tell else "same"


def _words(text: str) -> str:
    """Return what a command said without times and rates, which are never the same."""
    return re.sub(r"trained on \S+|[\d.]+ ?(?:s|/s|ms)\b|report: .*", "", text)


class Record:
    """The cases that have happened, one line each, which survives an interruption."""

    def __init__(self, root: Path) -> None:
        self.file = root / "cases.jsonl"
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        entries = map(json.loads, lines)
        self.entries = {Case(*(one[name] for name in Case._fields)): one for one in entries}

    def add(self, case: Case, entry: dict[str, str]) -> None:
        """Record one case."""
        self.entries[case] = entry
        with open(self.file, "a") as file:
            file.write(json.dumps(entry) + "\n")

    def is_good(self, case: Case) -> bool:
        """Return whether a case has happened and ended well; one that ended badly happens again."""
        return case in self.entries and self.entries[case]["took"] in GOOD
