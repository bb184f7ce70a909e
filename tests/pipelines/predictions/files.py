"""Write files of predictions as other programs do, for a small set of examples."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TYPES = ("TOWN", "RIVER", "PEAK")


def tagged(count: int = 40, seed: int = 5) -> list[list[str]]:
    """Return sentences of IOB2 tags, one entity in four of two words."""
    chance = np.random.default_rng(seed)
    sentences = []
    for _ in range(count):
        tags: list[str] = []
        while len(tags) < int(chance.integers(3, 9)):
            if chance.random() < 0.45:
                kind = TYPES[chance.integers(len(TYPES))]
                tags += [f"B-{kind}", *([f"I-{kind}"] if chance.random() < 0.25 else [])]
            else:
                tags.append("O")
        sentences.append(tags)
    return sentences


def blurred(sentences: Sequence[Sequence[str]], share: float, seed: int) -> list[list[str]]:
    """Return tags of which a share is another one."""
    chance = np.random.default_rng([seed, int(1000 * share)])
    other = ("O", "B-TOWN", "B-PEAK", "I-RIVER")
    return [
        [other[chance.integers(4)] if chance.random() < share else tag for tag in tags] for tags in sentences
    ]


def conll(path: Path, sentences: Sequence[Sequence[str]]) -> Path:
    """Write sentences as CoNLL with made-up words."""
    blocks = ["\n".join(f"w{place}\t{tag}" for place, tag in enumerate(tags)) for tags in sentences]
    return text(path, "\n\n".join(blocks) + "\n")


def run_ner(path: Path, sentences: Sequence[Sequence[str]]) -> Path:
    """Write predictions.txt of run_ner.py."""
    return text(path, "".join(" ".join(tags) + "\n" for tags in sentences))


def run_translation(path: Path, texts: Sequence[str]) -> Path:
    """Write generated_predictions.txt of run_translation.py and run_summarization.py."""
    return text(path, "\n".join(texts))


def json_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    return text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def lm_eval(path: Path, scores: Mapping[str, Sequence[float]], *, metric: str = "exact_match") -> Path:
    """Write samples_<task>.jsonl of lm_eval, the filters one after the other."""
    rows = [
        {
            "doc_id": number,
            "doc": {"question": f"q{number}"},
            "target": str(number),
            "arguments": {"gen_args_0": {"arg_0": f"q{number}"}},
            "resps": [[f" the answer is {number}"]],
            "filtered_resps": [str(number)],
            "filter": name,
            "metrics": [metric],
            metric: value,
            "doc_hash": f"h{number}",
        }
        for name, values in scores.items()
        for number, value in enumerate(values)
    ]
    return json_lines(path, rows)


def inspect_samples(values: Sequence[Any], epochs: int = 1, scorer: str = "match") -> list[dict[str, Any]]:
    """Return samples of a log of inspect_ai; a value may be a list with one for each epoch."""
    return [
        {
            "id": f"s{number}",
            "epoch": epoch + 1,
            "input": f"q{number}",
            "target": "x",
            "output": {"completion": f"a{number}"},
            "scores": {scorer: {"value": value[epoch] if isinstance(value, list) else value}},
        }
        for number, value in enumerate(values)
        for epoch in range(epochs)
    ]


def inspect_json(path: Path, samples: Sequence[Mapping[str, Any]]) -> Path:
    log = {"version": 2, "status": "success", "eval": {"task": "t"}, "samples": list(samples)}
    return text(path, json.dumps(log))


def inspect_eval(path: Path, samples: Sequence[Mapping[str, Any]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"version": 2, "status": "success", "eval": {}}))
        for one in reversed(samples):  # samples are written as they end
            archive.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
    return path


def lighteval(path: Path, values: Sequence[float], *, before: bool = False) -> Path:
    """Write details_<task>.parquet of lighteval, of the present or of the earlier layout."""
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = [
        {"example": f"q{n}", "full_prompt": f"q{n}?", "predictions": [f"a{n}"], "metrics": {"qem": value}}
        if before
        else {
            "doc": {"query": f"q{n}", "id": str(n)},
            "model_response": {"text": [f"a{n}"]},
            "metric": {"qem": value},
        }
        for n, value in enumerate(values)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")
    return path
