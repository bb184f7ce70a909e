"""LoRA: pretrained weights change by a low-rank update or not at all, and a plain model is saved."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_letters, printable

import pytest
import torch
import transformers
import yaml

import custom_attention
from pipelines.cli.main import main
from pipelines.config.load import load_run
from pipelines.errors import UserError, UserErrors
from pipelines.models import lora
from pipelines.models.attention import attach
from pipelines.models.build import build_model
from pipelines.models.processor import load_processor
from pipelines.runs import identity
from pipelines.runs.load import load_run_model
from pipelines.tasks.load import load_task
from tests.custom_attention.models import tiny
from tests.pipelines.tasks.writing import SIZES, WORDS, processor
from tests.pipelines.tasks.writing import config as writing_config

RANK = 2
# Every letter at the start of a word and inside one, so that the tokenizer knows the words of all corpora.
LETTERS = " ".join([*printable, ascii_letters, ascii_letters[::-1]])
CORPORA = {"generative_question_answering": "question_answering"}
# task and family -> options; every text task, every family, bert2bert among them
CASES = {
    ("ner", "encoder"): {"max_len": 24, "overlap": 4},
    ("text_classification", "decoder"): {"max_len": 32},
    ("question_answering", "encoder"): {"max_len": 64, "overlap": 8},
    ("question_answering", "encoder_decoder"): {"max_len": 64, "overlap": 8},
    ("generative_question_answering", "encoder_decoder"): {"max_source_len": 48, "max_target_len": 9},
    ("summarization", "encoder_decoder"): {"max_source_len": 48, "max_target_len": 9},
    ("translation", "encoder"): {"max_source_len": 32, "max_target_len": 9},
    ("translation", "decoder"): {"max_source_len": 32, "max_target_len": 9},
    ("language_modelling", "decoder"): {"max_len": 32, "overlap": 4},
    ("language_modelling", "encoder"): {"max_len": 32, "overlap": 4},
}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> dict[str, Path]:
    """A folder with a tiny model of each family and its tokenizer, as a user would name it."""
    root = tmp_path_factory.mktemp("pretrained")
    torch.set_num_threads(1)
    heads = {
        "encoder": transformers.AutoModelForMaskedLM,
        "decoder": transformers.AutoModelForCausalLM,
        "encoder_decoder": transformers.AutoModelForSeq2SeqLM,
    }
    for family, head in heads.items():
        architecture, sizes = SIZES[family]
        asked = writing_config(family)
        rows = [{"source": f"{WORDS} {LETTERS}", "target": WORDS}] * 5
        tokenizer = load_processor(asked, load_task(asked), rows)
        config = transformers.AutoConfig.for_model(
            architecture,
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            decoder_start_token_id=tokenizer.pad_token_id if family == "encoder_decoder" else None,
            **sizes,
        )
        torch.manual_seed(5)
        head.from_config(config).save_pretrained(root / family)
        tokenizer.save_pretrained(root / family)
    return {family: root / family for family in heads}


def write(folder: Path, pretrained: Path, task: str, family: str, **changed) -> Path:
    corpus = CORPORA.get(task, task)
    settings = {
        "task": {"name": task, **CASES.get((task, family), {})},
        "data": {"generated": {"name": corpus, "train": 24, "validation": 5, "test": 7}},
        "model": {"name": str(pretrained), "family": family},
        "attention": ["temperature"],
        "lora": {"rank": RANK},
        "max_steps": 3,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "device": "cpu",
        **changed,
    }
    file = folder / f"{len(list(folder.glob('*.yaml')))}.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.mark.parametrize(("name", "family"), CASES)
def test_weights_move_by_the_rank_asked_for_and_the_head_and_the_variant_learn(
    pretrained, tmp_path, name, family, capsys
):
    file = write(tmp_path, pretrained[family], name, family)
    run = tmp_path / "run"
    assert main(["train", str(file), "--out", str(run)]) == 0
    finished = load_run_model(run)
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["num_trained_parameters"] < manifest["num_parameters"]

    # what the run began with: the same model, built again before anything is trained
    task = finished.task
    begun = build_model(finished.config, task.head, task.processor, task.model_options())
    before, after = dict(begun.named_parameters()), dict(finished.model.named_parameters())
    ours = custom_attention.variant_parameters(finished.model)
    assert set(after) - set(before) == set(ours)  # nothing of PEFT is left
    assert all(parameter.abs().max() > 0 for parameter in ours.values())
    moved = {name: after[name].detach() - before[name].detach() for name in before}
    drawn = begun.drawn_parameters & moved.keys()
    # nothing reads the pooler of a pair's encoder
    assert all(moved[name].abs().max() > 0 for name in drawn if "weight" in name and "pooler" not in name)
    adapted = {name for name in moved.keys() - drawn if moved[name].abs().max() > 0}
    assert len(adapted) >= 8
    for name in adapted:
        assert moved[name].ndim == 2
        singular = torch.linalg.svdvals(moved[name].double())
        assert singular[RANK] < 1e-5 * singular[0], name

    capsys.readouterr()
    assert main(["evaluate", str(run), "--split", "test"]) == 0
    assert capsys.readouterr().out.count("as the run reported") == len(manifest["metrics"])


def test_a_merged_run_folds_to_a_stock_checkpoint_of_the_same_function(pretrained, tmp_path):
    file = write(tmp_path, pretrained["encoder"], "ner", "encoder")
    assert main(["train", str(file), "--out", str(tmp_path / "run")]) == 0
    model = load_run_model(tmp_path / "run").model
    ids = torch.tensor([[5, 9, 6, 11, 7]])
    with torch.no_grad():
        before = model(input_ids=ids).logits
        custom_attention.fold(model)
        model.save_pretrained(tmp_path / "plain")
        plain = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "plain").eval()
        torch.testing.assert_close(plain(input_ids=ids).logits, before, rtol=0, atol=1e-5)


def test_lora_is_part_of_what_a_run_is(pretrained, tmp_path):
    choices = (None, {"rank": 2}, {"rank": 3}, {"rank": 2, "alpha": 4}, {"rank": 2, "targets": ["query"]})
    files = [str(write(tmp_path, pretrained["encoder"], "ner", "encoder", lora=one)) for one in choices]
    hashes = {identity.run_hash(identity.describe(load_run([file], []))) for file in files}
    assert len(hashes) == 5


def test_arms_of_a_seed_draw_the_same_factors(pretrained, tmp_path):
    def drawn(attention, seed):
        file = write(
            tmp_path, pretrained["decoder"], "language_modelling", "decoder", attention=attention, seed=seed
        )
        config = load_run([str(file)], [])
        model = build_model(config, "language_modelling", processor("decoder"), {})
        attach(config, model)
        torch.rand(1 + len(attention))  # an arm may draw more or fewer numbers before
        lora.adapt(model, config)
        return {name: value for name, value in model.named_parameters() if "lora_A" in name}

    stock, gate, other = drawn([], 1), drawn(["gate"], 1), drawn([], 2)
    assert len(stock) == 8  # four linear layers in each of two blocks, and not the output layer
    assert all(torch.equal(stock[name], gate[name]) for name in stock)
    assert not any(torch.equal(stock[name], other[name]) for name in stock)


def test_stated_targets_are_the_only_ones_and_a_wrong_name_is_told(pretrained, tmp_path, capsys):
    def command(targets):
        asked = {"rank": 1, "targets": targets}
        return ["inspect", str(write(tmp_path, pretrained["encoder"], "ner", "encoder", lora=asked))]

    assert main(command(["query", "attention.self.value"])) == 0
    said = capsys.readouterr().out
    # 2 x 2 layers of 24 x 24 with two factors of rank 1, a head of 7 labels, a temperature per head
    expected = 4 * (24 + 24) + 7 * 24 + 7 + 2 * 3
    assert f"LoRA of rank 1: {expected} parameters are trained" in said
    assert main(command(["q_proj"])) == 2
    said = capsys.readouterr().err
    assert "no linear layer of the pretrained model has this name (got q_proj)" in said
    assert "dense, key, query, value" in said


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"model": {"architecture": "bert", "family": "encoder"}}, "this model starts from scratch"),
        ({"sharding": "fsdp2", "processes": 2}, "lora and sharding: fsdp2 exclude each other"),
        ({"lora": {"rank": 0}}, "lora.rank"),
    ],
)
def test_what_lora_cannot_do_is_refused_by_validate(pretrained, tmp_path, changed, sentence):
    file = write(tmp_path, pretrained["encoder"], "ner", "encoder", **changed)
    with pytest.raises((UserError, UserErrors)) as caught:
        load_run([str(file)], [])
    assert sentence in str(caught.value)


def test_the_layers_of_a_variant_are_no_targets_and_a_layer_that_one_hooks_is_refused():
    model = tiny("bart")
    vars(model)["drawn_parameters"] = frozenset()
    plain = lora.linear_layers(model)
    custom_attention.attach(model, ["tests.custom_attention.test_hooks:OwnLayer", "layer_scale"])
    assert lora.linear_layers(model) == plain
    with pytest.raises(
        UserError, match=r"a variant changes what .*out_proj returns.*targets without out_proj"
    ):
        lora.refuse_hooked(model, plain)
    lora.refuse_hooked(model, [name for name in plain if not name.endswith("out_proj")])
