"""Forward and backward of every variant over stock attention in attnlab's loop: time and memory as ratios.

A step of the stock arm and one of the model with a variant are timed back to back, in alternating order,
with dropout drawn as in the loop; a ratio is that of such a pair. The row `stock` compares the stock arm
with a copy of itself: ratios within its range mean nothing. Models are in training mode, dropout included,
because a step costs that; they have two layers of a usual width, so that attention has the same share as in
a deep model and the head has little. On a GPU (not measured yet: none was available) bfloat16 and longer
inputs.
"""

from __future__ import annotations

import copy
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf

import custom_attention
from pipelines.registry import catalog
from scripts.benchmarks.table import Table, with_range

TURNS = 7
VOCABULARY = 500
# Refused at cross-attention, which has no own position.
SELF_ONLY = (
    "alibi",
    "exclusive",
    "forgetting",
    "multi_token",
    "relative_bias",
    "selective",
    "sliding_window",
)
STOCK = "stock"
TARGETS = {"temperature": 1.02, "gate": 1.06, "hidden_gate": 1.06, "value_residual": 1.06}  # of time
KERNEL_TARGET = 1.10
ON_GPU = torch.cuda.is_available()
LONG = (512, 1024, 2048, 4096)
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Case:
    """A model and the shape of its batch; `target_len` is of an encoder-decoder, whose decoder reads it."""

    name: str
    build: Callable[[], hf.PreTrainedModel]
    batch_size: int
    length: int
    target_len: int | None = None

    def batch(self) -> dict[str, torch.Tensor]:
        """Examples of unequal length, padded, as micro-batches are."""
        ids = torch.randint(5, VOCABULARY, (self.batch_size, self.length))
        mask = torch.ones_like(ids)
        for row in range(self.batch_size):
            mask[row, self.length - (row + 1) * self.length // 16 :] = 0
        batch = {"input_ids": ids, "attention_mask": mask}
        if self.target_len is not None:
            batch["decoder_input_ids"] = torch.randint(5, VOCABULARY, (self.batch_size, self.target_len))
        return batch


def _encoder(attention_dropout: float = 0.1) -> hf.PreTrainedModel:
    """Return an encoder of MiniLM's width: 12 heads of 32."""
    sizes: dict[str, Any] = {
        "hidden_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    }
    dropout: dict[str, Any] = {"attention_probs_dropout_prob": attention_dropout}
    config = hf.BertConfig(vocab_size=VOCABULARY, max_position_embeddings=max(LONG), **sizes, **dropout)
    return hf.BertForTokenClassification(config)


def _decoder() -> hf.PreTrainedModel:
    sizes: dict[str, Any] = {"n_embd": 384, "n_layer": 2, "n_head": 6, "n_positions": max(LONG)}
    return hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=VOCABULARY, **sizes))


def small_encoder() -> hf.PreTrainedModel:
    """Return an encoder whose step takes milliseconds on any machine."""
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes["intermediate_size"] = 32
    return hf.BertForTokenClassification(hf.BertConfig(vocab_size=VOCABULARY, **sizes))


def _encoder_decoder() -> hf.PreTrainedModel:
    sizes: dict[str, Any] = {"d_model": 384, "d_kv": 64, "num_heads": 6, "num_layers": 2, "d_ff": 1024}
    sizes["decoder_start_token_id"] = 0
    return hf.T5ForConditionalGeneration(hf.T5Config(vocab_size=VOCABULARY, **sizes))


def cases() -> list[Case]:
    if ON_GPU:
        return [
            *(Case(f"encoder, {n}", _encoder, 2**14 // n, n) for n in LONG),
            *(Case(f"decoder, {n}", _decoder, 2**14 // n, n) for n in LONG),
            *(Case(f"T5, {n}/128", _encoder_decoder, 2**14 // n, n, 128) for n in LONG),
        ]
    return [
        Case("encoder, 128", _encoder, 4, 128),
        Case("encoder, 512", _encoder, 1, 512),
        Case("encoder, 512, no attention dropout", lambda: _encoder(0.0), 1, 512),
        Case("decoder, 512", _decoder, 1, 512),
        Case("T5, 512/128", _encoder_decoder, 1, 512, 128),
    ]


class Arm:
    """One model of a case; measures the cost of its steps."""

    def __init__(self, case: Case, model: hf.PreTrainedModel, variant: str) -> None:
        self.model, self.batch = copy.deepcopy(model), case.batch()
        where = {"kind": "self"} if variant in SELF_ONLY else None
        custom_attention.attach(self.model, variant, where=where)
        if ON_GPU:
            torch.nn.Module.to(self.model, device="cuda", dtype=torch.bfloat16)
            self.batch = {name: value.to("cuda") for name, value in self.batch.items()}
        self.model.train()

    def step(self) -> None:
        with custom_attention.site_dropout(1):
            self.model(**self.batch).logits.float().square().mean().backward()
        self.model.zero_grad(set_to_none=True)

    def seconds(self) -> float:
        """Return the CPU seconds of one step; on a GPU, wall-clock seconds."""
        if not ON_GPU:
            begun = time.process_time()
            self.step()
            return time.process_time() - begun
        torch.cuda.synchronize()
        begun = time.perf_counter()
        self.step()
        torch.cuda.synchronize()
        return time.perf_counter() - begun

    def peak_bytes(self) -> int:
        """Return the peak memory of one step, in bytes, besides the model and its batch."""
        if ON_GPU:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self.step()
            return torch.cuda.max_memory_allocated() - before
        return _in_a_child(self._resident_growth)

    def _resident_growth(self) -> int:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak begins anew
        before = _status("VmRSS")
        self.step()
        return _status("VmHWM") - before


def _in_a_child(measure: Callable[[], int]) -> int:
    """Measure in a forked process: its peak does not count memory that earlier steps freed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(measure()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return int(text)


def _status(field: str) -> int:
    with open("/proc/self/status") as file:
        [line] = [line for line in file if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024


@dataclass(frozen=True)
class Cost:
    """One variant in one case.

    Attributes:
        times: of steps, over those of stock beside them.
        memory: that a step adds, over stock's.
        seconds: of one step, the median.
    """

    times: list[float]
    memory: float
    seconds: float


def measure(case: Case, names: list[str]) -> dict[str, Cost]:
    """Return the cost of every variant in a case."""
    print(f"{case.name} ...", file=sys.stderr, flush=True)
    torch.manual_seed(0)
    model = case.build()
    reference = Arm(case, model, STOCK)
    arms = {name: Arm(case, model, name) for name in names}
    whole = reference.peak_bytes()  # before any step of this process, which would keep freed memory
    memory = {name: arm.peak_bytes() / whole for name, arm in arms.items()}
    for arm in (reference, *arms.values()):
        arm.step()  # warm-up
    times: dict[str, list[float]] = {name: [] for name in arms}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(TURNS):
        for name, arm in arms.items():
            first, second = (reference, arm) if turn % 2 else (arm, reference)
            one, other = first.seconds(), second.seconds()
            times[name].append(other / one if turn % 2 else one / other)
            seconds[name].append(other if turn % 2 else one)
    return {name: Cost(times[name], memory[name], statistics.median(seconds[name])) for name in arms}


def run() -> Table:
    found_entries = ((name, catalog.find(catalog.VARIANT, name)) for name in catalog.names(catalog.VARIANT))
    entries = {name: entry for name, entry in found_entries if entry is not None}
    names = sorted(entries, key=lambda name: (name != STOCK, entries[name].path != "kernel", name))
    measured = {case.name: measure(case, possible(case, names)) for case in cases()}
    rows, records = [], []
    for name in names:
        path = entries[name].path
        target = TARGETS.get(name, KERNEL_TARGET) if path == "kernel" and name != STOCK else None
        costs = {case: found[name] for case, found in measured.items() if name in found}
        worst = max(statistics.median(cost.times) for cost in costs.values())
        met = None if target is None else worst <= target
        cells = [
            f"{with_range(costs[c].times)} · {costs[c].memory:.2f}" if c in costs else "–" for c in measured
        ]
        verdict = "–" if target is None else f"≤ {target:.2f} {'met' if met else 'MISSED'}"
        rows.append((name, path, *cells, verdict))
        records += [
            {"variant": name, "case": case, "times": cost.times, "memory": cost.memory}
            for case, cost in costs.items()
        ]
    columns = ("variant", "runs on", *(f"{name}: time · memory" for name in measured), "target, time")
    return Table(columns, rows, records, all_met=not any("MISSED" in row[-1] for row in rows))


def possible(case: Case, names: list[str]) -> list[str]:
    """Return the variants that this model accepts: `unscaled` refuses a model without a factor."""
    return [name for name in names if not (name == "unscaled" and case.target_len is not None)]
