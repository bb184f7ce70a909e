"""A pretrained model is scored without training, with its own labels; one without the head is refused."""

from __future__ import annotations

import json
import math

import pytest
import torch
import transformers
import yaml

from pipelines.cli.main import main
from tests.pipelines.tasks.writing import SIZES, processor

LABELS = ["B-PER", "O", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]  # not in the order that train would give


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A token classifier that always says its second label, and language models."""
    root = tmp_path_factory.mktemp("untrained")
    torch.set_num_threads(1)

    def save(name, family, head, **options):
        tokenizer = processor(family)
        architecture, sizes = SIZES[family]
        config = transformers.AutoConfig.for_model(
            architecture, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **sizes, **options
        )
        model = getattr(transformers, head).from_config(config)
        if name == "tagger":
            torch.nn.init.zeros_(model.classifier.weight)
            model.classifier.bias.data = torch.nn.functional.one_hot(torch.tensor(1), len(LABELS)).float()
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)

    names = dict(enumerate(LABELS))
    inverse = {label: number for number, label in names.items()}
    save("tagger", "encoder", "AutoModelForTokenClassification", id2label=names, label2id=inverse)
    save("nameless", "encoder", "AutoModelForTokenClassification", num_labels=3)
    save("body", "encoder", "AutoModel")
    save("gpt2", "decoder", "AutoModelForCausalLM")
    return root


def write(folder, name: str, task="ner", family: str = "encoder", **changed):
    settings = {
        "task": task,
        "data": {"generated": {"name": str(task), "train": 20, "validation": 5, "test": 9}},
        "model": {"name": str(folder / name), "family": family},
        "device": "cpu",
        **changed,
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(settings))
    return str(file)


def test_a_model_says_its_own_labels(folder, tmp_path, capsys):
    out = tmp_path / "said.jsonl"
    assert main(["evaluate", write(folder, "tagger"), "--predictions", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("test: 9 examples")
    assert "f1 0.00  (seqeval" in said
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {label for row in rows for label in row["prediction"]} == {"O"}


def test_perplexity_of_a_language_model_is_that_of_its_own_likelihoods(folder, capsys):
    texts = ["one two three four", "six", "ten nine eight seven six"]
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    data = {"train": str(folder / "texts.jsonl"), "validation": str(folder / "texts.jsonl")}
    options = {"name": "language_modelling", "max_len": 90}
    assert main(["evaluate", write(folder, "gpt2", options, "decoder", data=data)]) == 0
    perplexity = float(capsys.readouterr().out.partition("perplexity ")[2].split()[0])
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "gpt2").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "gpt2")
    nll = count = 0
    for text in texts:
        end = tokenizer.eos_token_id
        ids = torch.tensor([[end, *tokenizer(text)["input_ids"], end]])
        with torch.no_grad():
            nll += model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    assert perplexity == pytest.approx(math.exp(nll / count), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("body", "so drawn: classifier"),
        ("nameless", "the model does not name its labels"),
    ],
)
def test_a_model_that_could_only_guess_is_refused(folder, name, sentence, capsys):
    task = {"name": "ner", "labels": LABELS} if name == "body" else "ner"
    corpus = {"name": "ner", "train": 1, "validation": 5}
    assert main(["evaluate", write(folder, name, task, data={"generated": corpus})]) == 2
    assert sentence in capsys.readouterr().err


def test_a_model_from_scratch_is_refused(folder, capsys):
    file = write(folder, "scratch", model={"architecture": "bert", "family": "encoder"})
    assert main(["evaluate", file]) == 2
    assert "a model from scratch is not trained yet" in capsys.readouterr().err


def test_training_draws_a_head_for_other_labels_anew_and_says_so(folder, tmp_path, capsys):
    words = {"tokens": ["one", "two", "six", "ten"], "ner_tags": ["O", "B-PER", "I-PER", "I-LOC"]}
    (folder / "words.jsonl").write_text(json.dumps(words) + "\n")
    data = {"train": str(folder / "words.jsonl"), "validation": str(folder / "words.jsonl")}
    file = write(folder, "nameless", max_steps=1, data=data)
    assert main(["train", file, "--out", str(tmp_path / "run")]) == 0
    assert "so drawn: classifier" in capsys.readouterr().err
    assert main(["train", file, "model.config.hidden_size=48", "--out", str(tmp_path / "other")]) == 2
    assert "the config does not fit the weights: bert.embeddings" in capsys.readouterr().err
