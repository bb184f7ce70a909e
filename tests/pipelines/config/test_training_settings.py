"""Settings of the training: what excludes each other is refused, and each of them makes another run."""

from __future__ import annotations

import pytest

from pipelines.cli.main import main
from pipelines.config.load import load_run
from pipelines.runs import identity

RUN = [
    "task=text_classification",
    "data.generated={name: text_classification, train: 9, validation: 9}",
    "model={architecture: bert, family: encoder}",
]
PRETRAINED = [*RUN[:2], "model={name: org/bert, family: encoder}"]


def hash_of(*settings: str) -> str:
    return identity.run_hash(identity.describe(load_run([], [*RUN, *settings])))


@pytest.mark.parametrize(
    "setting",
    [
        "optimizer=sgd",
        "optimizer=adafactor",
        "optimizer=muon",
        "warmup_steps=3",
        "dropout=0.2",
        "dropout=0",
        "label_smoothing=0.1",
        "class_weights=balanced",
        "class_weights=[1, 2]",
        "freeze=[embeddings]",
    ],
)
def test_each_makes_another_run(setting):
    assert hash_of(setting) != hash_of()


def test_their_defaults_make_the_same_run():
    same = ("optimizer=adamw", "momentum=null", "warmup_steps=null", "dropout=null", "label_smoothing=0.0")
    assert hash_of(*same, "class_weights=null", "freeze=[]") == hash_of()
    assert hash_of("optimizer=sgd", "momentum=0.5") != hash_of("optimizer=sgd")


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        (["warmup_steps=5", "warmup_ratio=0.1"], "warmup_steps and warmup_ratio exclude each other"),
        (["warmup_steps=50", "max_steps=50"], "a warm-up of 50 steps does not end in a run of max_steps: 50"),
        (["warmup_steps=-1"], "warmup_steps must be 0 or more"),
        (["momentum=0.9"], "momentum is of sgd and muon, and optimizer adamw does not use it"),
        (["optimizer=adafactor", "momentum=0.9"], "optimizer adafactor does not use it"),
        (["optimizer=sgd", "adam_beta2=0.95"], "adam_beta2 is of adamw and muon"),
        (["optimizer=muon", "sharding=fsdp2", "processes=2"], "muon needs whole matrices"),
        (["optimizer=adam"], "perhaps adamw was meant"),
        (["dropout=1"], "dropout must be below 1"),
        (["freeze=embeddings"], "freeze must be a list (got 'embeddings')"),
        (
            ["dropout=0.1", "model.config.hidden_dropout_prob=0.2"],
            "dropout and model.config.hidden_dropout_prob set the same entry; leave one of them out",
        ),
    ],
)
def test_what_another_setting_leaves_without_effect_is_refused(settings, right, capsys):
    assert main(["validate", *RUN, *settings]) == 2
    assert right in capsys.readouterr().err


def test_lora_and_freeze_exclude_each_other(capsys):
    assert main(["validate", *PRETRAINED, "lora.rank=4", "freeze=[embeddings]"]) == 2
    assert "lora freezes every pretrained weight already; leave freeze out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings",
    [
        ["warmup_steps=5", "warmup_ratio=0"],
        ["optimizer=sgd", "adam_beta2=0.999"],
        ["optimizer=muon", "momentum=0.9", "adam_beta1=0.8"],
        ["dropout=0", "model.config.hidden_size=48"],
        ["optimizer=sgd", "sharding=fsdp2", "processes=2"],
    ],
)
def test_what_goes_together_is_accepted_and_described(settings, capsys):
    assert main(["validate", *RUN, *settings]) == 0
    said = capsys.readouterr().out
    name, _, value = settings[0].partition("=")
    assert f"{name} {value}" in said
