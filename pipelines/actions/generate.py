"""`attnlab generate`: generate texts with the language model of a finished run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from pipelines.actions.predict import input_examples, read_input
from pipelines.errors import UserError
from pipelines.runs.load import LoadedRun, load_run_model
from pipelines.seeds import derive
from pipelines.shown import printable
from pipelines.storage import atomic
from pipelines.storage.paths import require_writable
from pipelines.tasks.language_modelling import LanguageModelling


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Args:
        max_new_tokens: most tokens of a text; it also ends at the model's end token.
        temperature: divides the logits before the softmax; 0 always takes the most probable token.
        top_p: sample from the most probable tokens with this total probability (nucleus sampling,
            Holtzman et al. 2020).
        top_k: sample from so many of the most probable tokens; 0: from all.

    Raises:
        UserError: a value is outside its range.
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
        """Return the arguments of transformers' `generate`."""
        if self.temperature == 0:
            return {"do_sample": False, "max_new_tokens": self.max_new_tokens}
        return {"do_sample": True, **asdict(self)}


def generate_command(
    run: str, prompts: Sequence[str], source: str | None, sampling: Sampling, *, count: int, seed: int,
    out: str | None,
) -> None:  # fmt: skip
    """Generate `count` texts for each prompt: as plain text to standard output, as JSON lines to `out`.

    Args:
        prompts: beginnings of the texts; without any, and without `source`, one empty prompt is used.
        source: a data file with the columns of the run, or lines of text; "-" for standard input.

    Raises:
        UserError: the run is no finished language modelling of a decoder, or a prompt is too long.
    """
    require_writable("--out", out, [source])
    finished = load_run_model(run)
    task = finished.task
    if not isinstance(task, LanguageModelling) or finished.config.model.family != "decoder":
        came = f"{finished.config.task.name} with model.family {finished.config.model.family}"
        fix = "a run of language_modelling with a decoder such as gpt2; attnlab predict serves other runs"
        raise UserError(run, "this run cannot generate text", came, fix)
    every = [*prompts, *(_prompts(source, finished) if source else [])] or [""]
    written = texts(task, finished.model, every, sampling, count=count, seed=seed)
    if out is None:
        for row in written:
            print(printable(f"{row['prompt']}{row['text']}\n"), flush=True)
        return
    lines = (json.dumps(row, ensure_ascii=False) for row in written)
    atomic.write_bytes(Path(out), ("\n".join(lines) + "\n").encode())


@torch.no_grad()
def texts(
    task: LanguageModelling,
    model: PreTrainedModel,
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    count: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yield `count` texts per prompt as {prompt, sample, text}; the texts of a prompt depend on no other."""
    for prompt in prompts:
        torch.manual_seed(derive(seed, f"generate {prompt}"))
        found = task.generate(model, prompt, sampling.search(), count)
        for number, text in enumerate(found, start=1):
            yield {"prompt": prompt, "sample": number, "text": text}


def _prompts(source: str, finished: LoadedRun) -> list[str]:
    data = finished.config.data
    rows = input_examples(read_input(source, finished.task, data), finished.task, data.columns)
    return [row["text"] for row in rows]
