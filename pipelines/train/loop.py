"""The training loop, on accelerate: read `fit` from top to bottom.

Every random draw follows from (seed, step), so a resumed run starts at its step and ends with the same bits
as an uninterrupted one. The step itself is in `engine.py`.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel

import custom_attention
from pipelines.config.load import RunConfig
from pipelines.data.features import Prepared
from pipelines.distributed.stop import StopRequest
from pipelines.errors import Interrupted
from pipelines.storage.run_folder import RunFolder
from pipelines.tasks.base import Task
from pipelines.train import process_advice
from pipelines.train.attention_log import AttentionLog
from pipelines.train.checkpoint import (
    CheckpointStore,
    load_model_tensors,
    load_optimizer_tensors,
    model_tensors,
    optimizer_tensors,
)
from pipelines.train.engine import Engine, StepResult, read_results
from pipelines.train.evaluate import Evaluation, evaluate
from pipelines.train.progress import Reporter
from pipelines.train.state import TrainState
from pipelines.train.trackers import track, tracking

GPU_STEPS_PER_SYNC = 10  # Python queues work ahead of a GPU; reading a number empties that queue


@dataclass
class Training:
    """The training of one run: its steps, and what is due between them (evaluation, checkpoints, logs).

    Attributes:
        plan: the examples of each step.
        num_steps: optimizer steps of the whole run.
        state: progress of the run, kept in every checkpoint.
    """

    config: RunConfig
    engine: Engine
    task: Task
    train: Prepared
    validation: Prepared | None
    folder: RunFolder
    stop: StopRequest
    reporter: Reporter
    state: TrainState = field(default_factory=TrainState)

    def __post_init__(self) -> None:
        self.plan, self.num_steps = self.engine.plan, self.engine.num_steps
        self.store = CheckpointStore(self.folder.checkpoints, say=self.reporter.say)
        self.attention_log = AttentionLog(self.task, self.validation or self.train, self.reporter.say)
        self._eval_every_steps = self.config.eval_every_steps or self.plan.steps_per_epoch

    @property
    def model(self) -> PreTrainedModel:
        """The model without the wrapper of accelerate."""
        model: PreTrainedModel = self.accelerator.unwrap_model(self.engine.model)
        return model

    # ---- the loop
    def fit(self) -> TrainState:
        """Train to the last step, to early stopping or to divergence, and load the best weights.

        Returns:
            The state at the end. The model has the weights of the best validation score, or of the last step
            without validation; after a divergence, those of the last finite step.

        Raises:
            Interrupted: a signal asked to stop; a checkpoint of the last step is on disk.
            RunFailed: a checkpoint cannot be written or none can be read.
        """
        self._resume()
        state = self.state
        self.engine.model.train()
        with (
            tracking(self.accelerator, self.config, self.folder.path),
            self.reporter.phase("training", self.num_steps, state.step) as phase,
        ):
            while not self._has_ended:
                started, cpu_started = time.perf_counter(), time.process_time()
                pending = [
                    self.engine.take_step(self.plan.step(number)) for number in self._until_next_sync()
                ]
                results = read_results(pending)
                state.train_seconds += time.perf_counter() - started
                state.train_cpu_seconds += time.process_time() - cpu_started
                for step in results:
                    if not step.is_finite:
                        self._record_divergence(step)
                        break
                    self._record_step(step)
                    phase.advance(1, f"loss {step.loss:.4f}")
                if state.diverged_at is not None:
                    break
                self._advise()
                self._diagnose()
                saved = self._evaluate_and_save()
                if any(step.asked_to_stop for step in results):
                    self._interrupt(saved)
        self._load_best()
        if state.diverged_at is None:
            self._diagnose(final=True)
        return state

    @property
    def _has_ended(self) -> bool:
        """Whether the last step was taken: of the plan, or by early stopping."""
        patience = self.config.early_stopping_patience
        return self.state.step >= self.num_steps or self.state.stopped_early(patience)

    def _until_next_sync(self) -> range:
        """Return the steps to take before their numbers are read.

        They are `sync_every_steps`, or fewer where an evaluation, a checkpoint or diagnostics are due.
        """
        config, step = self.config, self.state.step
        on_cpu = self.accelerator.device.type == "cpu"
        most = config.sync_every_steps or (1 if on_cpu else GPU_STEPS_PER_SYNC)
        intervals = (self._eval_every_steps, config.checkpoint_every_steps, config.diagnostics_every_steps)
        due = [step + every - step % every for every in intervals if every is not None]
        due += [process_advice.AFTER_STEP] * (step < process_advice.AFTER_STEP)
        return range(step, min(step + most, self.num_steps, *due))

    # ---- after some of the steps
    def _record_step(self, step: StepResult) -> None:
        """Add a finite step to the state, and log the mean loss where a line is due."""
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
            **({"penalty": step.penalty} if self.engine.has_penalty else {}),
            **({"transfer": step.transfer} if self.engine.has_transfer else {}),
            learning_rate=step.learning_rate,
            seconds=state.train_seconds,
        )
        state.loss_sum, state.num_targets = 0.0, 0

    def _advise(self) -> None:
        """Report once whether several processes pay; not for shards, which may not fit on one device."""
        copies = self.accelerator.num_processes if self.config.sharding == "none" else 1
        if copies > 1 and self.state.step == process_advice.AFTER_STEP:
            self.reporter.say(process_advice.advice(self.engine, self.state))

    def _diagnose(self, final: bool = False) -> None:
        """Log attention diagnostics where they are due, and once more with the final weights.

        They come before the checkpoint of the same step: a resumed run keeps the lines up to its step.
        """
        every, step = self.config.diagnostics_every_steps, self.state.step
        if every is None or (step % every and not final):
            return
        sites = self.attention_log.diagnose(self.accelerator, self.model)
        if sites is not None and self.accelerator.is_main_process:
            chosen = self.state.best_step or step
            self.folder.log_diagnostics(chosen if final else step, sites, final=final)

    def _evaluate_and_save(self) -> bool:
        """Score validation and write a checkpoint where they are due; return whether one was written."""
        config, state = self.config, self.state
        at_end = state.step == self.num_steps
        evaluation_due = at_end or state.step % self._eval_every_steps == 0
        if evaluation_due and self.validation is not None:
            self._evaluate(self.validation)
        save_due = evaluation_due or (
            config.checkpoint_every_steps is not None and state.step % config.checkpoint_every_steps == 0
        )
        if save_due:
            self._save()
        return save_due

    def _evaluate(self, validation: Prepared) -> None:
        """Score validation, and remember the step if its score is the best so far."""
        state = self.state
        evaluation = self.score("validation", validation)
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
        """Write a checkpoint; after the last step without the moments: no step needs them."""
        weights = model_tensors(self.model)  # of a sharded model this needs every rank
        moments = {} if self._has_ended else optimizer_tensors(self.engine.optimizer)
        if self.accelerator.is_main_process:
            best = () if self.state.best_step is None else (self.state.best_step,)
            self.store.save(self.state.step, weights, moments, asdict(self.state), protect=best)
            self.folder.on_checkpoint(self.state.step)
        self.accelerator.wait_for_everyone()

    def _interrupt(self, saved: bool) -> NoReturn:
        if not saved:
            self._save()
        raise Interrupted(f"stopped at step {self.state.step} of {self.num_steps}; a checkpoint is written")

    def _record_divergence(self, step: StepResult) -> None:
        """Log a step whose loss or gradient is not finite: the run ends with this as its result."""
        self.state.diverged_at = self.state.step + 1
        self._log(event="diverged", step=self.state.diverged_at, loss=step.loss, grad_norm=step.grad_norm)
        self.reporter.say(
            f"diverged at step {self.state.diverged_at}: loss {step.loss}, gradient norm {step.grad_norm}; "
            "the weights are those of the step before"
        )

    # ---- beginning and end
    def _resume(self) -> None:
        """Load the newest checkpoint that verifies; without one, start at step 0."""
        found = self.store.newest_valid() if self.accelerator.is_main_process else None
        [step] = broadcast_object_list([found.step if found else None])
        if step is not None:
            checkpoint = found or self.store.at(step)
            load_model_tensors(self.model, checkpoint.model_tensors())
            load_optimizer_tensors(self.engine.optimizer.optimizer, checkpoint.optimizer_tensors())
            self.state = TrainState(**checkpoint.state)
            self._set_progress(checkpoint.step)
            self.reporter.say(f"resumed at step {checkpoint.step} of {self.num_steps}")
        if self.accelerator.is_main_process:
            self.folder.rewind_logs(step)
        if step is None:
            self._diagnose()

    def _load_best(self) -> None:
        """Load the weights of the best validation score, and the thresholds that the task tuned with them."""
        if self.state.best_task_state:
            self.task.restore(self.state.best_task_state)
        best_step = self.state.best_step
        if self.state.diverged_at is None and best_step is not None and best_step != self.state.step:
            load_model_tensors(self.model, self.store.at(best_step).model_tensors())
            self._set_progress(best_step)

    def _set_progress(self, step: int) -> None:
        """Give the variants the progress at which the weights after `step` steps were trained."""
        custom_attention.set_progress(self.model, self.engine.progress_at(max(0, step - 1)))

    @property
    def selecting_metric(self) -> str:
        """Name of the metric that chooses the best step."""
        return self.config.select_by or self.task.selects_by

    @property
    def accelerator(self) -> Accelerator:
        return self.engine.accelerator

    def score(self, split: str, prepared: Prepared) -> Evaluation:
        """Evaluate a split with the present weights.

        Raises:
            Interrupted: a signal asked to stop.
        """

        def tick(num_features: int) -> None:
            phase.advance(num_features)
            if agreed_to_stop(self.accelerator, self.stop):
                raise Interrupted(
                    f"stopped while evaluating after step {self.state.step}; it will be evaluated again"
                )

        with self.reporter.phase(f"evaluating {split}", len(prepared.features)) as phase:
            return evaluate(
                self.accelerator,
                self.engine.model,
                self.task,
                prepared.examples,
                prepared.features,
                max_tokens=self.config.eval_max_tokens,
                unpadding=self.engine.unpadding,
                tune=split == "validation",
                tick=tick,
            )

    def _log(self, **entries: object) -> None:
        """Append an event to `metrics.jsonl`, and pass it to the trackers."""
        event = {"step": self.state.step, **entries}
        if self.accelerator.is_main_process:
            self.folder.log(event)
        track(self.accelerator, event)


def agreed_to_stop(accelerator: Accelerator, stop: StopRequest) -> bool:
    """Return whether any rank was asked to stop; all ranks call this together and get the same answer."""
    asked = torch.tensor(float(stop.requested), device=accelerator.device)
    return bool(accelerator.reduce(asked, reduction="sum").item())
