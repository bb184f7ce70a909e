"""The loop against `transformers.Trainer` where Trainer is right: one process, no accumulation or dropout."""

from __future__ import annotations

import pytest
import torch
import transformers

from pipelines.storage.run_folder import read_log
from pipelines.train.optimizer import build_optimizer
from tests.pipelines.train.harness import ARCHITECTURES, ToyTagging, config, fit, prepared, rows, tiny_model

STEPS = 20


class InPlanOrder(torch.utils.data.Sampler):
    """Hands the examples of our steps to Trainer, in our order."""

    def __init__(self, training):
        self.order = [e for number in range(STEPS) for e in training.plan.step(number).examples]

    def __iter__(self):
        return iter(self.order)

    def __len__(self):
        return len(self.order)


class FedTrainer(transformers.Trainer):
    sampler = None

    def _get_train_sampler(self, *_args, **_kwargs):
        return self.sampler


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_are_those_of_trainer_for_twenty_steps(architecture, tmp_path):
    options = {"max_steps": STEPS, "num_train": 24, "max_grad_norm": 1.0, "eval_every_steps": 100}
    training = fit(tmp_path / "ours", architecture=architecture, dropout=0.0, **options)
    ours = [e["loss"] for e in read_log(tmp_path / "ours" / "metrics.jsonl") if e["event"] == "step"]

    model = tiny_model(architecture, 0.0)
    run_config = config(architecture, max_steps=STEPS)
    task = ToyTagging()
    trainer = FedTrainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path / "theirs"),
            per_device_train_batch_size=8,
            max_steps=STEPS,
            logging_steps=1,
            max_grad_norm=1.0,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            remove_unused_columns=False,
            lr_scheduler_type="linear",
            learning_rate=run_config.learning_rate,
        ),
        train_dataset=prepared(task, rows(24, 1)).features,
        data_collator=task.collate,
        optimizers=(build_optimizer(run_config, model, {}), None),
        compute_loss_func=lambda outputs, labels, num_items_in_batch=None: torch.nn.functional.cross_entropy(
            outputs.logits.flatten(0, 1), labels.flatten()
        ),
    )
    trainer.sampler = InPlanOrder(training)
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert ours[-1] < ours[0]
