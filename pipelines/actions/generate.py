"""`attnlab generate`: texts that a language model of a finished run writes by itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pipelines.actions.predict import read_input
from pipelines.errors import UserError
from pipelines.runs.load import LoadedRun, load_run_model
from pipelines.seeds import derive
from pipelines.storage import atomic
from pipelines.tasks.language_modelling import LanguageModelling


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Args:
        max_new_tokens: written at most; a text also ends where the model ends it.
        temperature: divides the scores before the softmax; 0 takes the likeliest token each time.
        top_p: draw among the likeliest tokens that have this probability together (Holtzman et al. 2020).
        top_k: draw among so many of the likeliest tokens; 0 among all.
    """

    max_new_tokens: int = 100
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise UserError("--temperature", "must be 0 or more", self.temperature)
        if not 0 < self.top_p <= 1:
            raise UserError("--top-p", "must be above 0 and at most 1", self.top_p)

    def search(self) -> dict[str, Any]:
        """Arguments of transformers' `generate`."""
        if self.temperature == 0:
            return {"do_sample": False, "max_new_tokens": self.max_new_tokens}
        return {"do_sample": True, **asdict(self)}


def generate_command(
    run: str, prompts: Sequence[str], source: str | None, sampling: Sampling, *, count: int, seed: int,
    out: str | None,
) -> None:  # fmt: skip
    """Write `count` texts for each prompt: to standard output as they read, to `out` as JSON lines.

    Args:
        prompts: what the texts begin with; none and no `source`: the model begins by itself.
        source: a data file with the columns of the run, or lines of text; "-" for standard input.

    Raises:
        UserError: no finished run of a decoder's language modelling, or a prompt too long for the model.
    """
    finished = load_run_model(run)
    if not isinstance(finished.task, LanguageModelling) or finished.config.model.family != "decoder":
        came = f"{finished.config.task.name} with model.family {finished.config.model.family}"
        fix = "a run of language_modelling with a decoder such as gpt2; attnlab predict asks other runs"
        raise UserError(run, "this run does not write text freely", came, fix)
    begins = [*prompts, *(_texts(source, finished) if source else [])] or [""]
    written = texts(finished, begins, sampling, count=count, seed=seed)
    if out is None:
        for row in written:
            sys.stdout.write(f"{row['prompt']}{row['text']}\n\n")
            sys.stdout.flush()
        return
    lines = (json.dumps(row, ensure_ascii=False) for row in written)
    atomic.write_bytes(Path(out), ("\n".join(lines) + "\n").encode())


@torch.no_grad()
def texts(
    finished: LoadedRun, prompts: Sequence[str], sampling: Sampling, *, count: int, seed: int
) -> Iterator[dict[str, Any]]:
    """`count` texts of each prompt as {prompt, sample, text}; those of one prompt do not depend on the
    others beside it."""
    for prompt in prompts:
        torch.manual_seed(derive(seed, f"generate {prompt}"))
        for number, text in enumerate(
            finished.task.generate(finished.model, prompt, sampling.search(), count), start=1
        ):
            yield {"prompt": prompt, "sample": number, "text": text}


def _texts(source: str, finished: LoadedRun) -> list[str]:
    table = read_input(source, finished.task, finished.config.data.encoding)
    column = finished.config.data.columns.get("text", "text")
    rows = table.take(table.columns)
    found = [row.get(column) if isinstance(row, dict) else None for row in rows]
    for place, text in enumerate(found):
        if not isinstance(text, str):
            raise UserError(table.place(place), f"has no text in {column!r}")
    return found
