"""Seeds together: one step of five runs as a single stacked model, over the steps of the five one by one.

The weights of the runs are stacked along a leading axis (`torch.func.stack_module_state`), so each operation
is done once for all of them; every run has its own batch, dropout, gradient norm and moments of AdamW. The
column of losses compares three steps without dropout: a stacked run must end in the numbers of that run
alone. It is not a mode of attnlab: docs/benchmarks.md says what it gave, and why.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from scripts.benchmarks import cases
from scripts.benchmarks.table import Table, with_range

RUNS = 5
TURNS = 9
STEPS_COMPARED = 3
TARGET = 1.5
RATE, MAX_NORM = 1e-3, 1.0
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Setting:
    """A small model and the shape of its batches, which have no padding."""

    name: str
    build: Callable[[], hf.PreTrainedModel]
    batch_size: int
    length: int
    vocabulary: int
    num_labels: int | None = None  # None: the labels are tokens

    def batch(self, seed: int) -> Batch:
        draw = torch.Generator().manual_seed(seed)
        shape = (self.batch_size, self.length)
        return {
            "input_ids": torch.randint(5, self.vocabulary, shape, generator=draw),
            "labels": torch.randint(0, self.num_labels or self.vocabulary, shape, generator=draw),
        }


def _t5() -> hf.PreTrainedModel:
    sizes: dict[str, Any] = {"d_model": 256, "d_kv": 32, "d_ff": 1024, "num_layers": 4, "num_heads": 8}
    sizes |= {"decoder_start_token_id": 0, "use_cache": False}
    config = hf.T5Config(vocab_size=8000, **sizes)
    return hf.T5ForConditionalGeneration(config)


def _bert() -> hf.PreTrainedModel:
    sizes: dict[str, Any] = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 512, "num_labels": 9}
    return hf.BertForTokenClassification(hf.BertConfig(vocab_size=4000, **sizes))


SETTINGS = (
    Setting("T5 of 9 M, batch 4 x 14", _t5, 4, 14, 8000),
    Setting("BERT small, batch 8 x 24", _bert, 8, 24, 4000, num_labels=9),
)


class OneByOne:
    """The runs as they are trained today."""

    def __init__(self, models: list[hf.PreTrainedModel], batches: list[Batch]) -> None:
        self.models, self.batches = models, batches
        self.optimizers = [torch.optim.AdamW(model.parameters(), RATE, fused=True) for model in models]

    def step(self) -> list[Tensor]:
        losses = []
        for model, batch, optimizer in zip(self.models, self.batches, self.optimizers):
            loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
        return losses


class Together:
    """The same runs as one stacked model."""

    def __init__(self, models: list[hf.PreTrainedModel], batches: list[Batch]) -> None:
        self.model = copy.deepcopy(models[0])
        self.model.set_attn_implementation("eager")  # vmap has no rule for the fused kernel of a CPU
        weights, self.buffers = stack_module_state(models)
        self.weights = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
        self.batch = {name: torch.stack([batch[name] for batch in batches]) for name in batches[0]}
        self.optimizer = torch.optim.AdamW(self.weights.values(), RATE, fused=True)
        self.losses = vmap(self._loss, randomness="different")

    def _loss(self, weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: Batch) -> Tensor:
        loss: Tensor = functional_call(self.model, (weights, buffers), kwargs=dict(batch)).loss
        return loss

    def step(self) -> list[Tensor]:
        losses = self.losses(self.weights, self.buffers, self.batch)
        losses.sum().backward()
        self._clip([weight.grad for weight in self.weights.values() if weight.grad is not None])
        self.optimizer.step()
        self.optimizer.zero_grad()
        return list(losses.detach())

    def _clip(self, gradients: list[Tensor]) -> None:
        """Clip the gradient of each run by its own norm."""
        norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
        factors = (MAX_NORM / (norms + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))


def measure(setting: Setting, device: str = "cpu", turns: int = TURNS) -> dict[str, Any]:
    """Return the seconds of a step of all runs in both ways, and the largest difference of a loss."""
    apart, stacked = _both(setting, device, in_training=True)
    clock = time.process_time if device == "cpu" else _device_clock
    seconds: dict[str, list[float]] = {"one_by_one": [], "together": []}
    apart.step(), stacked.step()  # warm-up
    for _ in range(turns):
        for name, way in (("one_by_one", apart), ("together", stacked)):
            begun = clock()
            way.step()
            seconds[name].append(clock() - begun)
    gains = [a / b for a, b in zip(seconds["one_by_one"], seconds["together"])]
    return {**seconds, "gains": gains, "loss_difference": _loss_difference(setting, device)}


def _both(setting: Setting, device: str, *, in_training: bool) -> tuple[OneByOne, Together]:
    models: list[hf.PreTrainedModel] = []
    for seed in range(RUNS):
        torch.manual_seed(seed)
        model: Any = setting.build()
        models.append(model.to(device).train(in_training))
    batches = [{name: t.to(device) for name, t in setting.batch(seed).items()} for seed in range(RUNS)]
    return OneByOne(copy.deepcopy(models), batches), Together(models, batches)


def _loss_difference(setting: Setting, device: str) -> float:
    apart, stacked = _both(setting, device, in_training=False)
    pairs = [zip(apart.step(), stacked.step()) for _ in range(STEPS_COMPARED)]
    return max(float((one - other).abs()) for pair in pairs for one, other in pair)


def _device_clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def run() -> Table:
    rows, records, all_met = [], [], True
    for setting in (one for one in SETTINGS if cases.chosen in one.name):
        found = measure(setting)
        gain = statistics.median(found["gains"])
        all_met &= gain >= TARGET
        rows.append(
            (
                setting.name,
                with_range(found["one_by_one"]),
                with_range(found["together"]),
                f"{with_range(found['gains'])}x",
                f"{found['loss_difference']:.1g}",
                f"≥ {TARGET}x {'met' if gain >= TARGET else 'MISSED'}",
            )
        )
        records.append({"setting": setting.name, **found})
    columns = (
        f"{RUNS} runs, one step",
        "CPU s, one by one",
        "CPU s, together",
        "gain",
        "loss differs by",
        "target",
    )
    return Table(columns, rows, records, all_met=all_met)
