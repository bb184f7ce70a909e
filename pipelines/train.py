"""The training loop, on accelerate: read `fit` from top to bottom.

The loss of a step is the sum over its target tokens divided by their number, over all processes and
micro-batches; so neither accumulation nor the process count changes what is learned. Every random
draw follows from (seed, step): a resumed run seeks to its step and goes on bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

import custom_attention
from pipelines import scaling, unpadding
from pipelines.batches import Step, plan_of
from pipelines.checkpoint import (
    CheckpointStore,
    load_model_tensors,
    load_optimizer_tensors,
    model_tensors,
    optimizer_tensors,
)
from pipelines.config import RunConfig
from pipelines.dropout import quicken_dropout
from pipelines.errors import Interrupted
from pipelines.evaluation import Evaluation, evaluate
from pipelines.features import Features, two_lengths
from pipelines.interruption import StopRequest
from pipelines.optim import build_optimizer, set_learning_rate
from pipelines.probe import Probe
from pipelines.progress import Reporter
from pipelines.randomness import derive
from pipelines.results import RunFolder
from pipelines.row_gradients import RowGradients, large_tables
from pipelines.sharding import shard, whole
from pipelines.steps import Seen, Taken, read
from pipelines.task import Example, Task
from pipelines.trackers import track, tracking
from pipelines.transfer import to_device

GPU_STEPS_PER_LOOK = 10  # a GPU works ahead of Python; each look at a number lets it run dry


@dataclass(frozen=True)
class Prepared:
    """A split ready to use: rows and their features."""

    examples: Sequence[Example]
    features: Features


@dataclass
class TrainState:
    """What a run has come to; all of it is in every checkpoint."""

    step: int = 0  # optimizer steps taken
    best_step: int | None = None
    best_score: float | None = None  # of the selecting metric, signed so that more is better
    best_scores: dict[str, float] = field(default_factory=dict)  # every metric at best_step
    best_task_state: dict[str, Any] = field(default_factory=dict)  # what the task tuned at best_step
    evaluations_since_best: int = 0
    diverged_at: int | None = None
    train_seconds: float = 0.0
    train_cpu_seconds: float = 0.0  # of this process: what other work on the machine does not change
    # since the last line of the log
    loss_sum: float = 0.0
    num_targets: int = 0

    def stopped_early(self, patience: int | None) -> bool:
        return patience is not None and self.evaluations_since_best >= patience


@dataclass
class Training:
    """One run's parts, and the steps that use them."""

    config: RunConfig
    accelerator: Accelerator
    model: torch.nn.Module
    task: Task
    train: Prepared
    validation: Prepared | None
    folder: RunFolder
    stop: StopRequest
    reporter: Reporter
    state: TrainState = field(default_factory=TrainState)

    def __post_init__(self) -> None:
        config, on_cpu = self.config, self.accelerator.device.type == "cpu"
        batch = to_device(self.task.collate(two_lengths(self.train.features)), self.accelerator.device)
        self.unpadding = unpadding.that_suits(self.model, self.task, batch)
        self.plan = plan_of(
            config,
            self.train.features,
            len(self.train.examples),
            num_ranks=self.accelerator.num_processes,
            on_cpu=on_cpu,
            skips_padding=self.unpadding is not None,
        )
        self.num_steps = config.max_steps or config.num_epochs * self.plan.steps_per_epoch
        self.store = CheckpointStore(self.folder.checkpoints, say=self.reporter.say)
        self.probe = Probe(self.task, self.validation or self.train, self.reporter.say)
        for parameter in custom_attention.variant_parameters(self.model).values():
            parameter.requires_grad_(config.train_variant)
        if on_cpu:
            quicken_dropout(self.model)
        self._distribute()
        self._eval_every_steps = self.config.eval_every_steps or self.plan.steps_per_epoch
        self._failed = torch.zeros((), dtype=torch.bool, device=self.accelerator.device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        alone = self.accelerator.num_processes == 1 and config.sharding == "none"
        self.row_gradients = RowGradients(large_tables(self.model) if alone and on_cpu else [])

    def _distribute(self) -> None:
        """A copy of the model on every rank (DDP), or a share of it; and the optimizer of what is there."""
        sharded = self.config.sharding == "fsdp2"
        model = shard(self.model) if sharded else self.model
        optimizer = build_optimizer(self.config, model, custom_attention.variant_parameters(model))
        self.model = model if sharded else self.accelerator.prepare_model(model)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)

    # ---- the loop
    def fit(self) -> TrainState:
        """Train to the end, to early stopping or to divergence; leave the chosen weights in the model.

        Raises:
            Interrupted: a signal asked to stop; a sealed checkpoint stands.
        """
        self._resume()
        config, state = self.config, self.state
        self.model.train()
        with (
            tracking(self.accelerator, config, self.folder.path),
            self.reporter.phase("training", self.num_steps, state.step) as phase,
        ):
            while state.step < self.num_steps and not state.stopped_early(config.early_stopping_patience):
                begun, computed = time.perf_counter(), time.process_time()
                seen = read([self.take_step(self.plan.step(number)) for number in self._until_next_look()])
                state.train_seconds += time.perf_counter() - begun
                state.train_cpu_seconds += time.process_time() - computed
                for step in seen:
                    if not step.is_finite:
                        self._diverge(step)
                        break
                    self._count(step)
                    phase.advance(1, f"loss {step.loss:.4f}")
                if state.diverged_at is not None:
                    break
                self._advise()
                self._diagnose()
                saved = self._evaluate_and_save()
                if any(step.asked_to_stop for step in seen):
                    self._leave(saved)
        self._load_chosen()
        if state.diverged_at is None:
            self._diagnose(final=True)
        return state

    def _until_next_look(self) -> range:
        """The steps taken before a number is read: `sync_every_steps`, or fewer where something is due."""
        config, step = self.config, self.state.step
        on_cpu = self.accelerator.device.type == "cpu"
        most = config.sync_every_steps or (1 if on_cpu else GPU_STEPS_PER_LOOK)
        duties = (self._eval_every_steps, config.checkpoint_every_steps, config.diagnostics_every_steps)
        due = [step + every - step % every for every in duties if every is not None]
        due += [scaling.AFTER_STEP] * (step < scaling.AFTER_STEP)
        return range(step, min(step + most, self.num_steps, *due))

    def take_step(self, step: Step) -> Taken:
        """One optimizer step; its numbers stay on the device.

        A loss or gradient that is not finite on any rank leaves weights and optimizer state as they were,
        and so does every step after it (`found_inf`, as in mixed-precision training): the run ends where
        the numbers are read, with the weights of the last good step.
        """
        rate = set_learning_rate(self.optimizer, self.config, step.number, self.num_steps)
        everywhere = [index for hand in step.micro_batches for batch in hand for index in batch]
        num_targets = int(self.train.features.num_targets[everywhere].sum())
        mine = step.micro_batches[self.accelerator.process_index]
        scale = self.accelerator.num_processes / max(1, num_targets)  # DDP averages over ranks
        total = self.accumulate(step.number, mine, scale)
        asked = torch.full_like(total, float(self.stop.requested))
        sums = self.accelerator.reduce(torch.stack([total, asked]), reduction="sum")
        self.row_gradients.gather()
        grad_norm = whole(
            torch.nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm or math.inf)
        )
        self._failed |= ~(torch.isfinite(sums[0]) & torch.isfinite(grad_norm))
        self.optimizer.optimizer.found_inf = self._failed.float()
        self.optimizer.step()
        self.row_gradients.clear(self.optimizer)
        return Taken(rate, num_targets, torch.cat([sums, grad_norm.float().reshape(1)]))

    def accumulate(
        self, step: int, micro_batches: Sequence[tuple[int, ...]], scale: float, *, exchange: bool = True
    ) -> torch.Tensor:
        """Add the gradients of this rank's micro-batches; returns the sum of their target losses.

        Args:
            exchange: sum the gradients over the ranks, in the backward of the last micro-batch.
        """
        total = torch.zeros((), device=self.accelerator.device)
        for number, batch in enumerate(micro_batches):
            is_last = number == len(micro_batches) - 1
            with nullcontext() if is_last and exchange else self.accelerator.no_sync(self.model):
                total += self._backward(step, batch, scale)
        return total

    def _backward(self, step: int, batch: tuple[int, ...], scale: float) -> torch.Tensor:
        """Forward and backward of one micro-batch; returns the sum of its target losses.

        An empty micro-batch runs one feature with weight 0, because ranks communicate in backward.
        """
        features = [self.train.features[index] for index in batch or (0,)]
        seed = derive(self.config.seed, "dropout", step, *(feature["example_id"] for feature in features))
        collated, device = self.task.collate(features), self.accelerator.device
        skipping = self.unpadding.of(collated["attention_mask"], device) if self.unpadding else nullcontext()
        inputs = to_device(collated, device)
        with custom_attention.site_dropout(seed), skipping:
            with self.accelerator.autocast():
                loss = self.task.loss(self.model, inputs) * bool(batch)
            self.accelerator.backward(loss * scale)
        return loss.detach()

    # ---- now and then
    def _count(self, step: Seen) -> None:
        """A step is done: it counts, and is logged where a line is due."""
        state = self.state
        state.step += 1
        state.loss_sum += step.loss_sum
        state.num_targets += step.num_targets
        if state.step % self.config.log_every_steps and state.step != self.num_steps:
            return
        self._log(
            event="step",
            epoch=state.step / self.plan.steps_per_epoch,
            loss=state.loss_sum / max(1, state.num_targets),
            grad_norm=step.grad_norm,
            learning_rate=step.learning_rate,
            seconds=state.train_seconds,
        )
        state.loss_sum, state.num_targets = 0.0, 0

    def _advise(self) -> None:
        """Say once whether several copies of the model are worth it; a sharded one would not fit into one."""
        copies = self.accelerator.num_processes if self.config.sharding == "none" else 1
        if copies > 1 and self.state.step == scaling.AFTER_STEP:
            self.reporter.say(scaling.advice(self))

    def _diagnose(self, final: bool = False) -> None:
        """Look at attention where it is due, before the checkpoint of the same step, and in the end."""
        every, step = self.config.diagnostics_every_steps, self.state.step
        if every is None or (step % every and not final):
            return
        sites = self.probe.look(self.accelerator, self.accelerator.unwrap_model(self.model))
        if sites is not None and self.accelerator.is_main_process:
            chosen = self.state.best_step or step
            self.folder.log_diagnostics(chosen if final else step, sites, final=final)

    def _evaluate_and_save(self) -> bool:
        """Score validation and write a checkpoint where they are due; whether one was written."""
        config, state = self.config, self.state
        at_end = state.step == self.num_steps
        evaluation_due = at_end or state.step % self._eval_every_steps == 0
        if evaluation_due and self.validation is not None:
            self._evaluate()
        save_due = evaluation_due or (
            config.checkpoint_every_steps is not None and state.step % config.checkpoint_every_steps == 0
        )
        if save_due:
            self._save()
        return save_due

    def _evaluate(self) -> None:
        state = self.state
        evaluation = self.score("validation", self.validation)
        scores = evaluation.scores
        self._log(event="evaluation", split="validation", loss=evaluation.loss, **scores)
        metric = self.task.metrics[self.selecting_metric]
        score = scores[self.selecting_metric] * (1 if metric.higher_is_better else -1)
        self.reporter.say(
            f"step {state.step}: validation {self.selecting_metric} {scores[self.selecting_metric]:.2f}"
        )
        if state.best_score is None or score > state.best_score:
            state.best_score, state.best_scores = score, scores
            state.best_task_state = self.task.state()
            state.best_step, state.evaluations_since_best = state.step, 0
            if self.accelerator.is_main_process:
                self.folder.write_evaluation("validation", evaluation)
        else:
            state.evaluations_since_best += 1

    def _save(self) -> None:
        weights = model_tensors(self.accelerator.unwrap_model(self.model))  # a sharded one needs every rank
        moments = optimizer_tensors(self.optimizer)
        if self.accelerator.is_main_process:
            best = () if self.state.best_step is None else (self.state.best_step,)
            self.store.save(self.state.step, weights, moments, asdict(self.state), protect=best)
        self.accelerator.wait_for_everyone()

    def _leave(self, saved: bool) -> None:
        if not saved:
            self._save()
        raise Interrupted(f"stopped at step {self.state.step} of {self.num_steps}; a checkpoint is written")

    def _diverge(self, step: Seen) -> None:
        """Not a crash but a finding: say where, keep the last good checkpoint, end the run."""
        self.state.diverged_at = self.state.step + 1
        self._log(event="diverged", step=self.state.diverged_at, loss=step.loss, grad_norm=step.grad_norm)
        self.reporter.say(
            f"diverged at step {self.state.diverged_at}: loss {step.loss}, gradient norm {step.grad_norm}; "
            "no weight was changed by it"
        )

    # ---- beginning and end
    def _resume(self) -> None:
        """Continue from the newest checkpoint that verifies; seek to its step, replay nothing."""
        found = self.store.newest_valid() if self.accelerator.is_main_process else None
        [step] = broadcast_object_list([found.step if found else None])
        if step is not None:
            checkpoint = found or self.store.at(step)
            load_model_tensors(self.accelerator.unwrap_model(self.model), checkpoint.model_tensors())
            load_optimizer_tensors(self.optimizer.optimizer, checkpoint.optimizer_tensors())
            self.state = TrainState(**checkpoint.state)
            self.reporter.say(f"resumed at step {checkpoint.step} of {self.num_steps}")
        if self.accelerator.is_main_process:
            self.folder.rewind_logs(step)
        if step is None:
            self._diagnose()

    def _load_chosen(self) -> None:
        """Go back to the weights of the best validation score, and to what the task tuned with them."""
        if self.state.best_task_state:
            self.task.restore(self.state.best_task_state)
        if self.state.diverged_at is None and self.state.best_step not in (None, self.state.step):
            chosen = self.store.at(self.state.best_step)
            load_model_tensors(self.accelerator.unwrap_model(self.model), chosen.model_tensors())

    @property
    def selecting_metric(self) -> str:
        return self.config.select_by or self.task.primary

    def score(self, split: str, prepared: Prepared) -> Evaluation:
        """Evaluate a split with the model as it stands."""

        def tick(num_features: int) -> None:
            phase.advance(num_features)
            if agreed_to_stop(self.accelerator, self.stop):
                raise Interrupted(
                    f"stopped while evaluating after step {self.state.step}; it will be evaluated again"
                )

        with self.reporter.phase(f"evaluating {split}", len(prepared.features)) as phase:
            return evaluate(
                self.accelerator,
                self.model,
                self.task,
                prepared.examples,
                prepared.features,
                max_tokens=self.config.eval_max_tokens,
                tune=split == "validation",
                tick=tick,
            )

    def _log(self, **event: Any) -> None:
        event = {"step": self.state.step, **event}
        if self.accelerator.is_main_process:
            self.folder.log(event)
        track(self.accelerator, event)


def agreed_to_stop(accelerator: Accelerator, stop: StopRequest) -> bool:
    """Whether any rank was asked to stop: all ranks call this at the same place and leave together."""
    asked = torch.tensor(float(stop.requested), device=accelerator.device)
    return bool(accelerator.reduce(asked, reduction="sum").item())
