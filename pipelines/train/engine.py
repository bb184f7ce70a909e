"""The engine takes one optimizer step: forward and backward of every micro-batch, then the update.

The loss of a step is the sum over its target tokens divided by their number, over all ranks and
micro-batches. So neither accumulation nor the number of ranks changes the gradient. The variants' transfer
loss is the mean over its features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from transformers import PreTrainedModel

import custom_attention
from custom_attention.runtime.transfer import Transfer
from custom_attention.training import has_transfer
from pipelines.config.load import RunConfig
from pipelines.data.features import Prepared, two_lengths
from pipelines.distributed.sharding import shard, whole
from pipelines.distributed.skipped import expect_skipped, refuse_skipped_layers
from pipelines.distributed.stop import StopRequest
from pipelines.distributed.transfer import to_device
from pipelines.models.attention import variant_errors_as_user_errors
from pipelines.seeds import derive
from pipelines.tasks.base import Batch, Task
from pipelines.train.batches import BatchPlan, MicroBatch, Step, plan_of
from pipelines.train.optimizer import build_optimizer, masks_steps, num_warmup_steps, set_learning_rate
from pipelines.train.speed import unpadding
from pipelines.train.speed.allocator import return_freed_memory
from pipelines.train.speed.dropout import quicken_dropout
from pipelines.train.speed.embedding_gradients import RowGradients, large_tables
from pipelines.train.speed.quicken import quicken
from pipelines.train.speed.token_layout import up_to_last_target
from pipelines.train.speed.unpadding import Unpadding


@dataclass(frozen=True)
class Scales:
    """The factors on the losses of a step: of a target, and on the transfer loss of a feature."""

    target: float = 1.0
    feature: float = 1.0


@dataclass(frozen=True)
class PendingStep:
    """A step that was taken, its numbers still on the device: reading them waits for the device."""

    learning_rate: float
    num_targets: int  # over all ranks
    # (5,): sum of target losses, transfer loss, ranks asked to stop, gradient norm, penalty
    numbers: torch.Tensor


@dataclass(frozen=True)
class StepResult:
    """A step that was taken, its numbers read from the device; all of them are over all ranks."""

    learning_rate: float
    num_targets: int
    loss_sum: float  # over the targets
    transfer: float  # loss of the variants, mean over the features
    asked_to_stop: bool
    grad_norm: float  # before clipping
    penalty: float  # of the variants, before the step

    @property
    def loss(self) -> float:
        """Mean loss of a target."""
        return self.loss_sum / max(1, self.num_targets)

    @property
    def is_finite(self) -> bool:
        numbers = self.loss_sum, self.transfer, self.grad_norm, self.penalty
        return all(math.isfinite(number) for number in numbers)


def read_results(steps: Sequence[PendingStep]) -> list[StepResult]:
    """Read the numbers of several steps in one transfer from the device."""
    rows = torch.stack([step.numbers for step in steps]).tolist()
    return [
        StepResult(step.learning_rate, step.num_targets, loss_sum, transfer, asked > 0, grad_norm, penalty)
        for step, (loss_sum, transfer, asked, grad_norm, penalty) in zip(steps, rows)
    ]


@dataclass
class Engine:
    """A model on its device with its optimizer, ready to take steps; made by `build_engine`.

    Attributes:
        num_steps: optimizer steps of the whole run.
        parameters: the parameters that are trained.
        has_penalty, has_transfer: a variant has one.
    """

    config: RunConfig
    accelerator: Accelerator
    task: Task
    train: Prepared
    plan: BatchPlan  # the examples of each step
    model: torch.nn.Module  # as accelerate or FSDP wraps it
    optimizer: AcceleratedOptimizer
    unpadding: Unpadding | None  # None: layers compute padding too
    row_gradients: RowGradients
    stop: StopRequest

    def __post_init__(self) -> None:
        self.num_steps = self.config.max_steps or self.config.num_epochs * self.plan.steps_per_epoch
        num_warmup_steps(self.config, self.num_steps)  # refuses a warm-up that does not fit
        self._masks_steps = masks_steps(self.optimizer.optimizer)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.has_penalty = custom_attention.penalty(self.model) is not None
        self.has_transfer = has_transfer(self.model)
        stacks = [stack for _, stack in custom_attention.attached(self.model)]
        self._reads_another = any(stack.site.kind != "self" for stack in stacks)
        # Whether any step so far was not finite; on the device, so that no step waits for it.
        self._failed = torch.zeros((), dtype=torch.bool, device=self.accelerator.device)

    def take_step(self, step: Step) -> PendingStep:
        """Take one optimizer step without reading a number from the device.

        If a loss or gradient is not finite on any rank, this step and every later one leave weights and
        optimizer state unchanged (`found_inf`, as in mixed-precision training). The run ends where the
        numbers are read, with the weights of the last finite step.
        """
        rate = set_learning_rate(self.optimizer, self.config, step.number, self.num_steps)
        features = [index for of_rank in step.micro_batches for batch in of_rank for index in batch]
        num_targets = int(self.train.features.num_targets[features].sum())
        mine = step.micro_batches[self.accelerator.process_index]
        of_ranks = self.accelerator.num_processes  # DDP averages over ranks
        scales = Scales(of_ranks / max(1, num_targets), of_ranks / max(1, len(features)))
        custom_attention.set_progress(self.model, self.progress_at(step.number))
        totals = self.accumulate(step.number, mine, scales)
        penalty = self._add_penalty()
        asked = totals.new_full((1,), float(self.stop.requested))
        sums = self.accelerator.reduce(torch.cat([totals, asked]), reduction="sum")
        sums[1] /= max(1, len(features))
        self.row_gradients.gather()
        grad_norm = whole(
            torch.nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm or math.inf)
        )
        self._failed |= ~(torch.isfinite(sums).all() & torch.isfinite(grad_norm))
        if self._masks_steps:
            self.optimizer.optimizer.found_inf = self._failed.float()
            self.optimizer.step()
        elif not self._failed:  # waits for the device
            self.optimizer.step()
        self.row_gradients.clear(self.optimizer)
        return PendingStep(rate, num_targets, torch.cat([sums, torch.stack([grad_norm.float(), penalty])]))

    def progress_at(self, step: int) -> float:
        """Return the progress of training at a step, from 0.0 to 1.0."""
        return step / max(1, self.num_steps - 1)

    def accumulate(
        self,
        step: int,
        micro_batches: Sequence[MicroBatch],
        scales: Scales = Scales(),
        *,
        exchange: bool = True,
    ) -> torch.Tensor:
        """Accumulate the gradients of micro-batches; return the sums of their target losses and of the
        transfer losses of their features, (2,).

        Args:
            step: number of the step, which decides the dropout.
            micro_batches: those of this rank.
            scales: factors on every loss.
            exchange: exchange the gradients between the ranks, in the backward of the last micro-batch.
        """
        totals = torch.zeros(2, device=self.accelerator.device)
        for number, batch in enumerate(micro_batches):
            is_last = number == len(micro_batches) - 1
            with nullcontext() if is_last and exchange else self.accelerator.no_sync(self.model):
                totals += self._backward(step, batch, scales)
        return totals

    def _add_penalty(self) -> torch.Tensor:
        """Add the gradient of the variants' penalty, a function of parameters only; return the penalty.

        It is no part of a forward, so neither micro-batches nor ranks change what it adds.
        """
        penalty = custom_attention.penalty(self.model) if self.has_penalty else None
        if penalty is None:
            return torch.zeros((), device=self.accelerator.device)
        if penalty.requires_grad:
            gradients = torch.autograd.grad(whole(penalty), self.parameters, allow_unused=True)
            for parameter, gradient in zip(self.parameters, gradients):
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return whole(penalty.detach()).float()

    def _backward(self, step: int, batch: MicroBatch, scales: Scales) -> torch.Tensor:
        """Run forward and backward of one micro-batch; return what `accumulate` sums.

        An empty micro-batch runs one feature with weight 0, because ranks communicate in backward.
        """
        features = [self.train.features[index] for index in batch or (0,)]
        seed = derive(self.config.seed, "dropout", step, *(feature["example_id"] for feature in features))
        collated, device = self.task.collate(features), self.accelerator.device
        skipping = self.unpadding.skip(collated, device) if self.unpadding else nullcontext()
        inputs = to_device(collated, device)
        with (
            custom_attention.site_dropout(seed),
            skipping,
            self._transferring(collated, batch, scales) as found,
        ):
            with self.accelerator.autocast():
                loss = self.task.loss(self.model, inputs) * bool(batch)
            self.accelerator.backward(loss * scales.target)
        if any(self.train.features.lengths[index] > self.config.max_tokens for index in batch):
            return_freed_memory()  # blocks of one long input fit no other, and it takes seconds anyway
        of_sites = 0.0 if found is None or found.loss is None else found.loss
        return torch.stack([loss.detach(), torch.as_tensor(of_sites, device=device) * len(batch)])

    @contextmanager
    def _transferring(self, collated: Batch, batch: MicroBatch, scales: Scales) -> Iterator[Transfer | None]:
        """Let the transfer loss of a micro-batch count as its features among those of the step."""
        if not self.has_transfer:
            yield None
            return
        known = [up_to_last_target(collated.get("labels")), collated.get("attention_mask")]
        read = [mask.bool().to(self.accelerator.device) for mask in known if mask is not None]
        share = scales.feature * len(batch)
        with (
            variant_errors_as_user_errors(),
            custom_attention.transferring(self.model, share, read if self._reads_another else ()) as found,
        ):
            yield found


def build_engine(
    config: RunConfig,
    accelerator: Accelerator,
    model: PreTrainedModel,
    task: Task,
    train: Prepared,
    stop: StopRequest,
) -> Engine:
    """Build the engine of a run: speed-ups applied to the model, then a copy or a shard of it on every rank.

    Args:
        model: with its variants attached, on the device of `accelerator`; changed in place.
        stop: asked in every step whether this rank should stop.
    """
    device, on_cpu = accelerator.device, accelerator.device.type == "cpu"
    padded = to_device(task.collate(two_lengths(train.features)), device)
    skipping = unpadding.unpadding_for(model, task, padded)
    plan = plan_of(
        config,
        train.features,
        len(train.examples),
        num_ranks=accelerator.num_processes,
        on_cpu=on_cpu,
        skips_padding=skipping is not None,
    )
    for parameter in custom_attention.variant_parameters(model).values():
        parameter.requires_grad_(config.train_variant)
    if on_cpu:
        quicken_dropout(model)
    quicken(model, device)
    if config.sharding == "fsdp2":
        refuse_skipped_layers(model)
    else:
        expect_skipped(accelerator, model, lambda: task.loss(model, padded))
    distributed, optimizer = _distribute(config, accelerator, model)
    alone = accelerator.num_processes == 1 and config.sharding == "none"
    row_gradients = RowGradients(large_tables(distributed) if alone and on_cpu else [])
    return Engine(
        config, accelerator, task, train, plan, distributed, optimizer, skipping, row_gradients, stop
    )


def _distribute(
    config: RunConfig, accelerator: Accelerator, model: torch.nn.Module
) -> tuple[torch.nn.Module, AcceleratedOptimizer]:
    """Put a copy of the model (DDP) or a shard of it (FSDP2) on every rank, and build its optimizer."""
    sharded = config.sharding == "fsdp2"
    if sharded:
        model = shard(model)
    optimizer = build_optimizer(config, model, custom_attention.variant_parameters(model))
    if not sharded:
        model = accelerator.prepare_model(model)
    return model, accelerator.prepare_optimizer(optimizer)
