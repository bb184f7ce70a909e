"""The reference: transformers' Trainer with the documented defaults of the official example scripts.

It reads the same features as attnlab's loop, so that only the loops differ: how inputs are padded and cut
into batches, and the work around the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

from pipelines.models.build import build_model
from pipelines.tasks.base import Feature, Task
from pipelines.tasks.shared.writing_forms import start_token
from pipelines.train.loop import Training
from scripts.benchmarks import ours
from scripts.benchmarks.cases import Case

IGNORED = -100
FILLERS = {"labels": IGNORED}  # everything else is padded with 0, the id of each tokenizer's padding here

Item = dict[str, torch.Tensor]


class Clock(TrainerCallback):
    """Records the CPU seconds at the end of every step."""

    def __init__(self) -> None:
        self.ticks: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ticks.append(time.process_time())


def training(case: Case, folder: Path) -> Callable[[int], float]:
    """Return a turn of `case.num_steps` steps, after one warm-up step: useful tokens per CPU second."""
    run = ours.build(case, folder, sets_up_libraries=False)
    model = plain_model(run)
    items, config = items_of(run.task, run.train.features), run.config
    counts_labels = config.model.family == "encoder_decoder"
    del run  # its memory must not count for the reference

    def turn(number: int) -> float:
        seen: list[int] = []

        def collate(chosen: Sequence[Item]) -> Item:
            batch = padded(chosen, case.pad_to)
            seen.append(useful_tokens(batch, counts_labels=counts_labels))
            return batch

        clock = Clock()
        options = {"max_steps": case.num_steps + 1, "seed": number}
        options["per_device_train_batch_size"] = config.batch_size
        trainer = trainer_of(model, folder, collate, options)
        trainer.train_dataset = items
        trainer.add_callback(clock)
        trainer.train()
        return sum(seen[1 : case.num_steps + 1]) / (clock.ticks[-1] - clock.ticks[0])

    return turn


def evaluation(case: Case, folder: Path) -> Callable[[int], float]:
    """Return a turn over the validation split, with generation if the task has it: examples per CPU second.

    Post-processing into answers and scores is left out here; attnlab's side includes it.
    """
    run = ours.build(case, folder, sets_up_libraries=False)
    model = plain_model(run)
    validation = run.validation
    assert validation is not None
    items = items_of(run.task, validation.features)
    options: dict[str, Any] = {"per_device_eval_batch_size": case.eval_batch_size}
    if run.config.task.name in ("summarization", "translation"):
        searching: Any = copy(model.generation_config)
        task: Any = run.task  # one that writes
        searching.update(decoder_start_token_id=start_token(model), **task.search())
        options |= {"predict_with_generate": True, "generation_config": searching}
    trainer = trainer_of(model, folder, lambda chosen: padded(chosen, case.pad_to), options)

    def turn(_: int) -> float:
        begun = time.process_time()
        trainer.predict(items)  # type: ignore[arg-type]  # a list is a data set for it
        return len(validation.examples) / (time.process_time() - begun)

    return turn


def plain_model(run: Training) -> torch.nn.Module:
    """Return the stock model of transformers, with plain autograd."""
    return build_model(run.config, run.task.head, run.task.processor, run.task.model_options())


def trainer_of(
    model: torch.nn.Module,
    folder: Path,
    collate: Callable[[Sequence[Item]], Item],
    options: dict[str, Any],
) -> Seq2SeqTrainer:
    """Return a Trainer without logging and saving, on the CPU unless `options` say otherwise."""
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(folder / "trainer"),
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        **({"use_cpu": True} | options),
    )
    return Seq2SeqTrainer(model=model, args=arguments, data_collator=collate)


def items_of(task: Task, features: Sequence[Feature]) -> list[Item]:
    """Return the arguments of the model's forward for each feature, unpadded."""
    return [_item(task.collate([feature])) for feature in features]


def _item(batch: dict[str, Any]) -> Item:
    names = ("input_ids", "attention_mask", "token_type_ids", "labels")
    item = {name: batch[name][0] for name in names if name in batch}
    if "first" in batch:
        item |= {"start_positions": batch["first"][0], "end_positions": batch["last"][0]}
    return item


def padded(items: Sequence[Item], pad_to: int | None) -> Item:
    """Return one batch, every sequence padded to the longest or to `pad_to`."""
    batch = {}
    for name in items[0]:
        rows = [item[name] for item in items]
        if rows[0].dim() == 0:
            batch[name] = torch.stack(rows)
            continue
        longest = pad_to or max(len(row) for row in rows)
        batch[name] = torch.full((len(rows), longest), FILLERS.get(name, 0))
        for place, row in enumerate(rows):
            batch[name][place, : len(row)] = row
    return batch


def useful_tokens(batch: Item, *, counts_labels: bool) -> int:
    """Tokens that are no padding, of the source and, where they are another sequence, of the target."""
    tokens = int(batch["attention_mask"].sum())
    return tokens + (int((batch["labels"] != IGNORED).sum()) if counts_labels else 0)
