"""Build a mirror of the Hub from ../shared, so that the shipped configurations run without a network.

    ATTNLAB_MIRROR=$(.venv/bin/python -m tests.mirror) .venv/bin/attnlab train ...

Each data set has the file names, columns and splits of its card on the Hub; its rows are those in ../shared,
fewer or other ones than the Hub's. No folder states a commit, so runs are known by what they read. Data sets
that ../shared lacks have made-up rows.
"""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"
HOME = REPOSITORY / ".mirror"  # ignored by git
SPLITS = ("train", "validation", "test")
Rows = list[dict[str, Any]]


def mirror() -> Path:
    """Return the mirror, which is built once for each state of this file and of the data.

    Raises:
        FileNotFoundError: ../shared is not there.
    """
    stated = (SHARED / "data" / "README.md").read_bytes() + Path(__file__).read_bytes()
    folder = HOME / hashlib.sha256(stated).hexdigest()[:12]
    if not folder.is_dir():
        HOME.mkdir(exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=HOME))
        build(building)
        try:
            building.rename(folder)
        except OSError:  # another process was first
            shutil.rmtree(building)
    return folder


def build(root: Path) -> None:
    """Build the mirror in an empty folder."""
    for name, fill in DATA_SETS.items():
        folder = root / "datasets" / name
        folder.mkdir(parents=True)
        fill(folder)
    for name, source in MODELS.items():
        folder = root / "models" / name
        folder.mkdir(parents=True)
        for file in sorted((SHARED / source).iterdir()):
            (folder / file.name).symlink_to(file)


# ---- reading and writing
def read(source: str, split: str) -> Rows:
    """Return the rows of a split in ../shared."""
    import pyarrow.parquet

    rows: Rows = pyarrow.parquet.read_table(SHARED / "data" / source / f"{split}.parquet").to_pylist()
    return rows


def link(source: str, target: Path) -> None:
    """Link to a file of ../shared."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(SHARED / "data" / source)


def write(rows: Rows, target: Path) -> None:
    """Write rows as parquet or CSV."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".csv":
        with open(target, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), target)


def card(folder: Path, configurations: Mapping[str, Mapping[str, str]]) -> None:
    """Write the card of a data set: configuration -> split -> files."""
    lines = ["---", "configs:"]
    for name, splits in configurations.items():
        lines += [f'- config_name: "{name}"', "  data_files:"]
        lines += [f'  - {{split: {split}, path: "{path}"}}' for split, path in splits.items()]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")


# ---- data sets that the Hub's own machines have converted: CONFIGURATION/SPLIT/0000.parquet
def converted(source: str, configuration: str) -> Callable[[Path], None]:
    """Return what links the files of a source as the branch refs/convert/parquet has them."""

    def fill(folder: Path) -> None:
        for split in SPLITS:
            link(f"{source}/{split}.parquet", folder / configuration / split / "0000.parquet")

    return fill


def scitldr(folder: Path) -> None:
    """Abstracts are lists of sentences; other configurations stand beside them."""
    for split in SPLITS:
        rows = [
            {
                "source": re.split(r"(?<=[.!?]) (?=[A-Z])", row["document"]),
                "paper_id": row["id"],
                "target": row["references"],
            }
            for row in read("summarization/scitldr", split)
        ]
        for configuration in ("Abstract", "AIC"):
            write(rows, folder / configuration / split / "0000.parquet")


# ---- data sets with a card that lists their files
def squad(source: str, configuration: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        for split in ("train", "validation"):
            link(f"{source}/{split}.parquet", folder / configuration / f"{split}-00000-of-00001.parquet")
        splits = {split: f"{configuration}/{split}-*" for split in ("train", "validation")}
        card(folder, {configuration: splits})

    return fill


def tatoeba(folder: Path) -> None:
    pairs = [
        {"english": row["translation"]["en"], "non_english": row["translation"]["de"]}
        for split in SPLITS
        for row in read("translation/tatoeba_en_de", split)
    ]
    write(pairs, folder / "en-de" / "train-00000-of-00001.parquet")
    card(folder, {"en-de": {"train": "en-de/train-*"}})


def wikitext(folder: Path) -> None:
    """The lines of one part as three splits, with the empty lines that the Hub's rows have."""
    texts = [row["text"] for row in read("lm/wikitext2", "validation")]
    ends = {"train": (0, 2000), "validation": (2000, 2230), "test": (2230, len(texts))}
    for split, (begin, end) in ends.items():
        rows = [{"text": text} for line in texts[begin:end] for text in (f" {line} \n", "")]
        write(rows, folder / "wikitext-2-raw-v1" / f"{split}-00000-of-00001.parquet")
    card(folder, {"wikitext-2-raw-v1": {split: f"wikitext-2-raw-v1/{split}-*" for split in SPLITS}})


def etth1(folder: Path) -> None:
    link("timeseries/etth1/ETTh1.csv", folder / "ETT-small" / "ETTh1.csv")
    card(folder, {"ETTh1": {"train": "ETT-small/ETTh1.csv"}})


# ---- data sets whose splits follow from the names of their files
def dialogsum(folder: Path) -> None:
    """One summary a row, so dialogues of test stand there three times."""
    for split in SPLITS:
        rows = [
            {"id": f"{row['id']}_{n}", "dialogue": row["dialogue"], "summary": summary, "topic": row["topic"]}
            for row in read("summarization/dialogsum", split)
            for n, summary in enumerate(row["references"], start=1)
        ]
        write(rows, folder / f"{split}.csv")


def shakespeare(folder: Path) -> None:
    """Passages of about 2,000 letters."""
    speeches = [row["text"] for split in SPLITS for row in read("lm/tiny_shakespeare", split)]
    write([{"Text": "\n\n".join(part)} for part in batched_by_size(speeches, 2000)], folder / "train.csv")


def batched_by_size(texts: Iterable[str], letters: int) -> Iterable[list[str]]:
    """Yield texts together until they have so many letters."""
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if sum(map(len, batch)) >= letters:
            yield batch
            batch = []


def omniglot(folder: Path) -> None:
    for split, parts in {"train": ("train",), "test": ("validation", "test")}.items():
        rows = [row for part in parts for row in read("vision/omniglot_small1", part)]
        characters = sorted({row["character"] for row in rows})
        shown = [
            {"image": row["image"], "alphabet": row["label"], "label": characters.index(row["character"])}
            for row in rows
        ]
        write(shown, folder / "data" / f"{split}-00000-of-00001.parquet")


def digits(folder: Path) -> None:
    for split in ("train", "test"):
        rows = [{"audio": row["audio"], "label": row["label"]} for row in read("audio/fsdd", split)]
        write(rows, folder / "data" / f"{split}-00000-of-00001.parquet")


# ---- data sets with made-up rows
def made_up(configuration: str, row: Callable[[int], dict[str, Any]]) -> Callable[[Path], None]:
    """Return what writes 100 rows a split, under a card."""

    def fill(folder: Path) -> None:
        for split in SPLITS:
            rows = [row(number) for number in range(100)]
            write(rows, folder / configuration / f"{split}-00000-of-00001.parquet")
        card(folder, {configuration: {split: f"{configuration}/{split}-*" for split in SPLITS}})

    return fill


def conll2003(folder: Path) -> None:
    import pyarrow.parquet
    from datasets import ClassLabel, Dataset, Features, List, Value

    tags = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
    features = Features(
        {"id": Value("string"), "tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=tags))}
    )
    rows = [{"id": str(n), "tokens": ["EU", "rejects", str(n)], "ner_tags": [3, 0, 0]} for n in range(100)]
    for split in SPLITS:
        target = folder / "conll2003" / split / "0000.parquet"
        target.parent.mkdir(parents=True)
        pyarrow.parquet.write_table(Dataset.from_list(rows, features=features).data.table, target)


DATA_SETS: Mapping[str, Callable[[Path], None]] = {
    "leondz/wnut_17": converted("ner/wnut17", "wnut_17"),
    "GateNLP/broad_twitter_corpus": converted("ner/btc", "broad-twitter-corpus"),
    "eriktks/conll2003": conll2003,
    "rajpurkar/squad": squad("qa/squad_v1", "plain_text"),
    "rajpurkar/squad_v2": squad("qa/squad_v2", "squad_v2"),
    "sentence-transformers/parallel-sentences-tatoeba": tatoeba,
    "knkarthick/dialogsum": dialogsum,
    "allenai/scitldr": scitldr,
    "Salesforce/wikitext": wikitext,
    "Trelis/tiny-shakespeare": shakespeare,
    "dpdl-benchmark/omniglot": omniglot,
    "mteb/free-spoken-digit-dataset": digits,
    "thuml/Time-Series-Library": etth1,
    "nyu-mll/glue": made_up("sst2", lambda n: {"sentence": f"a joy of {n} scenes", "label": n % 2, "idx": n}),
    "abisee/cnn_dailymail": made_up(
        "3.0.0",
        lambda n: {"article": f"News {n} is long.", "highlights": f"News {n} .\nLong .", "id": str(n)},
    ),
    "wmt/wmt16": made_up("de-en", lambda n: {"translation": {"de": f"Guten Tag {n}", "en": f"Good day {n}"}}),
}
MODELS: Mapping[str, str] = {"sentence-transformers/all-MiniLM-L6-v2": "models/minilm-l6"}

if __name__ == "__main__":
    print(mirror())
