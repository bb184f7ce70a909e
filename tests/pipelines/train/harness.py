"""A tiny task and tiny models to test the guarantees of the training loop, in one process or on many ranks.

A rank is a child of one fork server that has the imports done (seconds instead of tens of seconds);
the server runs no torch operation, because a child forked after a multi-threaded one hangs.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import time
import traceback
from pathlib import Path

import pandas  # noqa: F401 - pyarrow's first table imports it: here once, not in every rank
import torch
import transformers

import custom_attention
from pipelines.config.load import run_from_dict
from pipelines.data.features import Prepared
from pipelines.data.features import build as build_features
from pipelines.distributed.accelerator import build_accelerator
from pipelines.distributed.stop import SIGNALS, listening
from pipelines.metrics.accuracy import Accuracy
from pipelines.storage.run_folder import RunFolder
from pipelines.tasks.base import Task
from pipelines.train.engine import build_engine
from pipelines.train.loop import Training
from pipelines.train.progress import Reporter

VOCABULARY, LABELS = 37, 3
ARCHITECTURES = {
    "bert": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 29},
    "gpt2": {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 64},
    "t5": {"d_model": 24, "d_kv": 7, "num_layers": 2, "num_heads": 3, "d_ff": 29},
}
DROPOUTS = {
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    "gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop", "classifier_dropout"),
    "t5": ("dropout_rate", "classifier_dropout"),
}

# A run of the whole pipeline, small enough to be started often: 16 steps.
REAL = {
    "task": "ner",
    "data": {"generated": {"name": "ner", "train": 61, "validation": 23, "test": 29}},
    "model": {
        "architecture": "bert",
        "family": "encoder",
        "vocab_size": 400,
        "config": ARCHITECTURES["bert"],
    },
    "attention": ["gate"],
    "batch_size": 8,
    "num_epochs": 2,
    "learning_rate": 2e-3,
    "checkpoint_every_steps": 3,
    "device": "cpu",
}


class ToyTagging(Task):
    """Tag every token with its id modulo 3; label counts differ from row to row."""

    head = "token_classification"
    primary = "accuracy"
    metric_names = ("accuracy",)
    columns = {}  # noqa: RUF012

    def prepare(self, examples):
        return [
            {
                "example_id": example["id"],
                "input_ids": example["tokens"],
                "labels": example["labels"],
                "num_targets": sum(label >= 0 for label in example["labels"]),
            }
            for example in examples
        ]

    def collate(self, features):
        longest = max(len(feature["input_ids"]) for feature in features)

        def pad(values, filler):
            return torch.tensor([list(v) + [filler] * (longest - len(v)) for v in values])

        return {
            "input_ids": pad([f["input_ids"] for f in features], 0),
            "attention_mask": pad([[1] * len(f["input_ids"]) for f in features], 0),
            "labels": pad([f["labels"] for f in features], -100),
        }

    def _logits(self, model, batch):
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.float()

    def loss(self, model, batch):
        logits = self._logits(model, batch)
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), batch["labels"].flatten(), reduction="sum"
        )

    def predict(self, model, batch):
        logits = self._logits(model, batch)
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), batch["labels"], reduction="none"
        ).sum(1)
        lengths = batch["attention_mask"].sum(1)
        return [
            {"tags": row[:length].argmax(-1).tolist(), "loss": loss.item()}
            for row, length, loss in zip(logits, lengths, losses)
        ]

    def assemble(self, example, raws):
        return raws[0]["tags"]

    def metric(self, name):
        return Accuracy()

    def reference(self, example):
        return [token % LABELS for token in example["tokens"]]


def rows(count: int, seed: int, longest: int = 13) -> list[dict]:
    draw = random.Random(seed)
    found = []
    for number in range(count):
        tokens = [draw.randrange(1, VOCABULARY) for _ in range(draw.randrange(2, longest))]
        labels = [token % LABELS if draw.random() < 0.6 else -100 for token in tokens]
        labels[0] = tokens[0] % LABELS
        found.append({"id": f"{seed}-{number}", "tokens": tokens, "labels": labels})
    return found


def config(architecture: str, **changes):
    base = {
        "task": {"name": "ner"},
        "data": {"train": "unused.parquet", "validation": "unused.parquet"},
        "model": {"architecture": architecture, "family": "encoder"},
        "max_steps": 12,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "eval_every_steps": 5,
        "checkpoint_every_steps": 2,
        "log_every_steps": 1,
        "max_tokens": 4096,
        "device": "cpu",
    }
    return run_from_dict(base | changes)


def tiny_model(architecture: str, dropout: float, seed: int = 7):
    """A token classifier of the architecture with every dropout set to one value."""
    names = dict.fromkeys(DROPOUTS[architecture], dropout)
    sizes = {"vocab_size": VOCABULARY, "num_labels": LABELS, "pad_token_id": 0, **ARCHITECTURES[architecture]}
    model_config = transformers.AutoConfig.for_model(architecture, **sizes, **names)
    torch.manual_seed(seed)
    return transformers.AutoModelForTokenClassification.from_config(model_config)


def prepared(task: Task, examples: list[dict]) -> Prepared:
    return Prepared(examples, build_features(task, examples, "train", None, ""))


def build(
    folder: Path,
    stop,
    *,
    architecture="bert",
    dropout=0.1,
    attention=(),
    num_train=21,
    num_validation=13,
    hook=None,
    **changes,
) -> Training:
    run_config = config(architecture, **changes)
    accelerator = build_accelerator(run_config)
    task = ToyTagging()
    model = tiny_model(architecture, dropout)
    custom_attention.attach(model, list(attention), example=example_batch())
    train = prepared(task, rows(num_train, 1))
    training = Training(
        config=run_config,
        engine=build_engine(run_config, accelerator, model, task, train, stop),
        task=task,
        train=train,
        validation=prepared(task, rows(num_validation, 2)),
        folder=RunFolder(folder),
        stop=stop,
        reporter=Reporter(enabled=False),
    )
    if hook is not None:
        hook(training)
    return training


def example_batch():
    batch = ToyTagging().collate(ToyTagging().prepare(rows(2, 3)))
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def fit(folder: Path, **options):
    """Train in this process and return the training, at its end."""
    folder.mkdir(parents=True, exist_ok=True)
    with listening() as stop:
        training = build(folder, stop, **options)
        training.fit()
    return training


def weights(training: Training) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in training.model.state_dict().items()}


# ---- several ranks
def start_ranks(body, num_ranks: int, *arguments) -> list[multiprocessing.Process]:
    """Start `body(*arguments)` as `num_ranks` connected processes."""
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.pipelines.train.harness"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        context.Process(target=_rank, args=(body, rank, num_ranks, port, arguments))
        for rank in range(num_ranks)
    ]
    for rank in ranks:
        rank.start()
    return ranks


def join_ranks(ranks, timeout: float) -> list[int]:
    """Exit codes of all ranks. A hang is a failure; ranks that outlive a killed one are given a moment."""
    deadline = time.monotonic() + timeout
    while any(rank.exitcode is None for rank in ranks) and time.monotonic() < deadline:
        time.sleep(0.02)
    hung = [rank for rank in ranks if rank.exitcode is None]
    for rank in hung:
        rank.kill()
        rank.join()
    assert not hung, "ranks hang"
    return [rank.exitcode for rank in ranks]


def run_ranks(body, num_ranks: int, *arguments, timeout: float = 240.0) -> list[int]:
    """Run `body(*arguments)` as connected processes to their end; their exit codes."""
    return join_ranks(start_ranks(body, num_ranks, *arguments), timeout)


def _rank(body, rank: int, num_ranks: int, port: int, arguments) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(num_ranks), LOCAL_WORLD_SIZE=str(num_ranks),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a test of executors may have started the server
    torch.set_num_threads(1)
    try:
        body(*arguments)
        code = 0
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:
        traceback.print_exc()
        code = 1
    os._exit(code)
