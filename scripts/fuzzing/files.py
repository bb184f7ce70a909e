"""Mutated data files of every format, through `inspect`."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.corpora import forecasting, language_modelling, ner, question_answering, text_classification
from scripts.forks import run
from tests.hostile import TEXTS
from tests.pipelines.mutated_runs import settings

Rows = Sequence[Mapping[str, Any]]
STATUSES = (0, 1, 2, 75)


# ---- good files
def separated(delimiter: str) -> Callable[[Rows], bytes]:
    """Return the writer of a table with a delimiter."""

    def write(rows: Rows) -> bytes:
        file = io.StringIO()
        table = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        table.writeheader()
        plain = (str, int, float)
        table.writerows(
            {key: one if isinstance(one, plain) else json.dumps(one) for key, one in row.items()}
            for row in rows
        )
        return file.getvalue().encode()

    return write


def lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return sink.getvalue()


def conll(rows: Rows) -> bytes:
    blocks = ("\n".join(f"{w}\t{t}" for w, t in zip(row["tokens"], row["ner_tags"])) for row in rows)
    return ("\n\n".join(blocks) + "\n").encode()


def texts(rows: Rows) -> bytes:
    return "".join(row["text"] + "\n" for row in rows).encode()


def document(rows: Rows) -> bytes:
    return json.dumps(list(rows), ensure_ascii=False).encode()


def tagged(rows: Rows) -> Rows:
    return [{"tokens": row["tokens"], "ner_tags": row["tags"]} for row in rows]


TABLES = {"csv": separated(","), "tsv": separated("\t"), "json": document, "jsonl": lines, "parquet": parquet}
ROWS: Mapping[str, Rows] = {
    "text_classification": text_classification.generate(24, 0, "train"),
    "ner": tagged(ner.generate(24, 0, "train")),
    "question_answering": question_answering.generate(24, 0, "train"),
    "forecasting": forecasting.generate(80, 0, "train"),
    "language_modelling": language_modelling.generate(24, 0, "train"),
}
FILES = [(task, ending, write) for task in ROWS for ending, write in TABLES.items()]
FILES += [("ner", "conll", conll), ("ner", "txt", conll), ("language_modelling", "txt", texts)] * 4


# ---- mutations of bytes
def cut(content: bytes, draw: Random) -> bytes:
    start, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    return content[:start] if draw.random() < 0.5 else content[:start] + content[end:]


def flipped(content: bytes, draw: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.randint(1, 8) if content else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def mixed(content: bytes, draw: Random) -> bytes:
    task, _, write = draw.choice(FILES)
    other = write(ROWS[task])
    place = draw.randrange(len(content) + 1)
    return content[:place] + other[draw.randrange(len(other)) :][:3000] + content[place:]


def encoded(content: bytes, draw: Random) -> bytes:
    encoding = draw.choice(
        ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp037", "utf-7", "shift-jis")
    )
    return content.decode("utf-8", errors="replace").encode(encoding, errors="replace")


def odd(content: bytes, draw: Random) -> bytes:
    pieces = [text.encode("utf-8", errors="surrogatepass") for text in TEXTS.values()]
    pieces += [
        b'"',
        b"'",
        b'""',
        b"\t",
        b",",
        b"\r",
        b"\n\n",
        b"\x00",
        b"\xff",
        b"{",
        b"[" * 3000,
        b"null",
        b"\\",
    ]
    pieces += [b"NaN", b"1e999", b"-", b'{"a": [1, null]}', b"\xef\xbb\xbf", b" " * 50, b"9" * 400, b"=1+1"]
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.choice(pieces) + content[place + draw.choice((0, 0, 1, 20)) :]


def huge(content: bytes, draw: Random) -> bytes:
    place = draw.randrange(len(content) + 1)
    return (
        content[:place]
        + draw.choice((b"word ", b"x", b'"', b"\xe4\xb8\x80", b"a,")) * 200_000
        + content[place:]
    )


def lines_changed(content: bytes, draw: Random) -> bytes:
    found = content.split(b"\n")
    place = draw.randrange(len(found))
    match draw.randrange(5):
        case 0:
            del found[place]
        case 1:
            found.insert(place, found[draw.randrange(len(found))])
        case 2:
            found[0] = found[0] + b"," + found[0] + b"\t" + found[0]  # duplicated headers
        case 3:
            draw.shuffle(found)
        case _:
            return draw.choice((b"\r\n", b"\r", b"\n\n", b"\x0b", b"\x85")).join(found)
    return b"\n".join(found)


def of_another_form(content: bytes, draw: Random) -> bytes:
    return draw.choice(
        (b"", b"\n", b"null", b"[]", b"{}", b"[{}]", b"[[1]]", b'"x"', b"7", content * 2, content[:4])
    )


def header_twice(content: bytes, draw: Random) -> bytes:
    first, _, rest = content.partition(b"\n")
    names = [b"text", b"label", b"tokens", b"id", b"", b" text", b"TEXT", b"cluster", b"date"]
    for name in draw.sample(names, 3):
        first = first.replace(draw.choice(names), name) if draw.random() < 0.5 else first + b"," + name
    return first + b"\n" + rest


MUTATIONS = (cut, flipped, mixed, encoded, odd, odd, huge, lines_changed, of_another_form, header_twice)


def values_changed(rows: Rows, draw: Random) -> Rows:
    """Return rows with a few values replaced by values of another kind, or columns left out."""
    values: tuple[Any, ...] = (
        None,
        "",
        " ",
        0,
        -1,
        1.5,
        True,
        [],
        ["x"],
        {},
        {"a": 1},
        [None],
        [[]],
        float("nan"),
        "\u202e",
        2**70,
    )
    changed = [dict(row) for row in rows]
    for _ in range(draw.randint(1, 4)):
        row = draw.choice(changed)
        name = draw.choice(sorted(row))
        match draw.randrange(4):
            case 0:
                for each in changed:
                    each.pop(name, None)
            case 1:
                for each in changed:
                    each[name] = draw.choice(values)
            case _:
                row[name] = draw.choice(values)
        changed = [row for row in changed if row] or [{"text": "x"}]
    return changed


def ended(folder: Path, seed: int, number: int) -> tuple[str, list[str], str]:
    """Return how one file ended, what it was, and what was said."""
    draw = Random(f"files {seed} {number}")
    task, ending, write = FILES[number % len(FILES)]
    content, names = write(ROWS[task]), []
    if draw.random() < 0.3:
        with suppress(ValueError, TypeError, OverflowError, KeyError, pa.ArrowException):
            content, names = write(values_changed(ROWS[task], draw)), ["values"]  # where it can be written
    while not names or draw.random() < 0.3:
        mutation = draw.choice(MUTATIONS)
        content, names = mutation(content, draw), [*names, mutation.__name__]
    good, bad = folder / f"good.{ending}", folder / f"bad.{ending}"
    good.write_bytes(write(ROWS[task]))
    bad.write_bytes(content)
    own = [one for one in settings(task) if not one.startswith("data.")]
    skip = draw.choice(([], ["data.on_bad_row=skip"], ["data.streaming=true"]))
    status, _, said = run(["inspect", *own, f"data.train={bad}", f"data.validation={good}", *skip])
    known = {"0": "inspected", "2": "refused"}.get(str(status), str(status))
    end = known if isinstance(status, str) or status in STATUSES else "unknown status"
    if end in ("traceback", "hangs", "unknown status") and (keep := os.environ.get("KEEP")):
        Path(keep, f"{seed}-{number}.{ending}").write_bytes(content)
    return end, [task, ending, *names, *skip], said
