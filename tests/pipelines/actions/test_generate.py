"""Free writing: the likeliest tokens or draws that a seed repeats, from decoders' language models alone."""

from __future__ import annotations

import dataclasses
import io
import json
import sys

import pytest
import torch
import yaml

from pipelines.actions import generate
from pipelines.actions.generate import Sampling, texts
from pipelines.cli.main import main
from pipelines.config.run import TaskSpec
from pipelines.errors import UserError
from pipelines.runs.load import load_run_model
from pipelines.tasks.load import load_task
from tests.pipelines.tasks.writing import with_model

SETTINGS = {
    "task": {"name": "language_modelling", "max_len": 48, "overlap": 8},
    "data": {"generated": {"name": "language_modelling", "train": 96, "validation": 9}},
    "model": {
        "architecture": "gpt2",
        "family": "decoder",
        "vocab_size": 400,
        "config": {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 64},
    },
    "attention": ["gate"],
    "num_epochs": 3,
    "learning_rate": 3e-3,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generation")
    (folder / "lm.yaml").write_text(yaml.safe_dump(SETTINGS))
    torch.set_num_threads(1)
    assert main(["train", str(folder / "lm.yaml"), "--out", str(folder / "lm")]) == 0
    return folder / "lm"


@pytest.fixture(scope="module")
def finished(run):
    return load_run_model(run)


def test_without_temperature_each_token_is_the_likeliest(finished):
    task, model = finished.task, finished.model
    ids = [*task._encoder.begin, *task._encoder(["one morning"])[0]]
    with torch.no_grad():
        for _ in range(11):
            ids.append(model(torch.tensor([ids])).logits[0, -1].argmax().item())
            if ids[-1] == task._encoder.end:
                break
    expected = task.processor.decode(ids, skip_special_tokens=True)
    [row] = texts(finished, ["one morning"], Sampling(11, temperature=0), count=1, seed=1)
    assert row["text"]
    assert (row["prompt"] + row["text"]).strip() == expected.strip()


def test_a_seed_repeats_its_draws_whatever_prompts_stand_beside(finished):
    def drawn(prompts, seed):
        rows = texts(finished, prompts, Sampling(12), count=3, seed=seed)
        return [row["text"] for row in rows if row["prompt"] == "the miller"]

    assert len(set(drawn(["the miller"], 1))) == 3
    assert drawn(["the miller"], 1) == drawn(["", "the miller"], 1)
    assert drawn(["the miller"], 1) != drawn(["the miller"], 2)


def test_a_narrow_draw_is_the_likeliest_token(finished):
    greedy, narrow = (
        [row["text"] for row in texts(finished, ["the"], sampling, count=1, seed=7)]
        for sampling in (Sampling(9, temperature=0), Sampling(9, top_k=1))
    )
    assert greedy == narrow


def test_texts_are_printed_as_they_read_and_written_as_json_lines(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the twins\nthe widow\n")))
    command = ["generate", str(run), "--prompt", "last spring", "--input", "-", "--max-new-tokens", "5"]
    assert main([*command, "--samples", "2", "--out", str(tmp_path / "out.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    prompts = [prompt for prompt in ("last spring", "the twins", "the widow") for _ in range(2)]
    assert [row["prompt"] for row in rows] == prompts
    assert [row["sample"] for row in rows] == [1, 2] * 3
    capsys.readouterr()
    assert main(["generate", str(run), "--prompt", "last spring", "--max-new-tokens", "5"]) == 0
    assert capsys.readouterr().out.startswith("last spring")
    assert main(["generate", str(run), "--max-new-tokens", "5"]) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--max-new-tokens", "70"], "the prompt of 1 tokens and 70 new ones do not fit (got 71"),
        (["--temperature", "-1"], "--temperature: must be 0 or more"),
        (["--top-p", "0"], "--top-p: must be above 0"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_sentence(run, options, sentence, capsys):
    assert main(["generate", str(run), *options]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "other",
    [{"task": TaskSpec(name="translation")}, {"model": {"family": "encoder"}}],
    ids=["task", "family"],
)
def test_only_a_decoders_language_model_writes_freely(finished, other, monkeypatch):
    config = finished.config
    if "model" in other:
        config = with_model(config, **other["model"])
    else:
        config = config.model_copy(update=other)
    odd = dataclasses.replace(finished, config=config, task=load_task(config))
    monkeypatch.setattr(generate, "load_run_model", lambda run: odd)
    with pytest.raises(UserError, match="does not write text freely"):
        generate.generate_command("runs/x", [], None, Sampling(), count=1, seed=1, out=None)
