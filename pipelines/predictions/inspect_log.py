"""Logs of inspect_ai: `.json`, and `.eval`, a zip archive with a JSON file for each sample.

A log (version 2) has `eval`, `status` and `samples`; a sample has `id`, `epoch`, `input`, `target`,
`output.completion` and `scores`, {scorer: {"value": number, text, list or mapping, ...}}. The texts C, I, P
and N count 1, 0, 1/2 and 0, as `value_to_float` has it; samples of several epochs are averaged, as by the
default reducer. In an archive they are `samples/<id>_epoch_<n>.json`. Read in inspect_ai/log/_recorders/
eval.py and scorer/_metric.py of 0.3.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import UserError, as_clause
from pipelines.predictions.outputs import Outputs

LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
SAMPLES = "samples/"
DAMAGED = "copy the log again"


def is_log(value: Any) -> bool:
    """Return whether a JSON value is a log."""
    return isinstance(value, dict) and "eval" in value and ("samples" in value or "status" in value)


def read_json(value: Mapping[str, Any], where: str) -> Outputs:
    """Return what a log of one JSON file holds.

    Raises:
        UserError: it has no samples.
    """
    samples = value.get("samples")
    if not isinstance(samples, list) or not samples:
        fix = "give a log that was written with its samples (log_samples)"
        raise UserError(where, "is a log without samples", accepted=fix)
    return _read(samples, where, value.get("status"))


def read_zip(file: Path, where: str) -> Outputs:
    """Return what an archive holds.

    Raises:
        UserError: it is damaged, or no log.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            listed = [name for name in names if name.startswith(SAMPLES) and name.endswith(".json")]
            samples = [json.loads(archive.read(name)) for name in listed]
            header = json.loads(archive.read("header.json")) if "header.json" in names else {}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise UserError(where, f"cannot be read as a log ({as_clause(error)})", accepted=DAMAGED) from error
    except NotImplementedError as error:
        fix = "inspect log convert --to json writes it as JSON"
        raise UserError(where, "is packed in a way that is not known here", accepted=fix) from error
    if not samples:
        fix = "a log of inspect_ai has samples/; unpack other archives"
        raise UserError(where, "is a zip archive without samples", accepted=fix)
    return _read(samples, where, header.get("status") if isinstance(header, dict) else None)


def _read(samples: Sequence[Any], where: str, status: object) -> Outputs:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for sample in samples:
        if not isinstance(sample, dict) or not isinstance(sample.get("id"), str | int):
            raise UserError(where, "has a sample without an id", accepted=DAMAGED)
        groups.setdefault(str(sample["id"]), []).append(sample)
    epochs = {len(group) for group in groups.values()}
    if len(epochs) > 1:
        fix = "give a log that ran to its end"
        raise UserError(where, "has samples with different numbers of epochs", sorted(epochs), fix)
    [count] = epochs
    # Archives list samples in the order of their ends.
    ids = sorted(groups, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    called = list(
        dict.fromkeys(name for group in groups.values() for one in group for name, _ in _scores(one))
    )
    scores = {
        name: [_mean([dict(_scores(one)).get(name) for one in groups[i]]) for i in ids] for name in called
    }
    texts = [_completion(groups[name][0]) for name in ids]
    told = f", {count} epochs averaged" if count > 1 else ""
    ended = "" if status in (None, "success") else f", ended with status {status}"
    return Outputs(
        where=where,
        layout=f"a log of inspect_ai, id from its samples{told}{ended}",
        count=len(ids),
        ids=tuple(ids),
        predictions=None if count > 1 or None in texts else texts,
        no_predictions=f"it has {count} epochs of every sample"
        if count > 1
        else "a sample has no completion",
        scores=scores,
        shown=[[groups[name][0].get("input"), groups[name][0].get("target")] for name in ids],
    )


def _scores(sample: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the scores of a sample by the name of the scorer, with that of the value where it has several."""
    for scorer, score in (sample.get("scores") or {}).items():
        value = score.get("value") if isinstance(score, dict) else score
        if isinstance(value, dict):
            yield from ((f"{scorer}.{name}", _number(one)) for name, one in value.items())
        else:
            yield scorer, _number(value)


def _number(value: Any) -> Any:
    """Return the number that a letter or a word stands for; anything else as it is."""
    if isinstance(value, str):
        return LETTERS.get(value, LETTERS.get(value.lower(), value))
    return value


def _mean(values: Sequence[Any]) -> Any:
    """Return the mean over epochs; a value that is no number as it is, for the message."""
    if len(values) == 1:
        return values[0]
    wrong = [one for one in values if not isinstance(one, int | float)]
    return wrong[0] if wrong else math.fsum(values) / len(values)


def _completion(sample: Mapping[str, Any]) -> str | None:
    output = sample.get("output")
    if not isinstance(output, dict):
        return None
    if isinstance(output.get("completion"), str):
        return str(output["completion"])
    choices = output.get("choices")
    message = choices[0].get("message") if isinstance(choices, list) and choices else None
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else None
