"""Weights load whole, in any precision and any number of files, or are refused with the modules that lack."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from pipelines.errors import UserError
from pipelines.models.build import build_model, drawn_parameters
from pipelines.models.weights import loading_lines, modules
from tests.pipelines.models.checkpoints import HEADS, WEIGHTS, asked, rewrite, stored
from tests.pipelines.tasks.writing import FAMILIES, processor, with_model


def load(folder, family, head=None, **entries):
    return build_model(asked(folder, family, **entries), head or HEADS[family], processor(family), {})


def assert_same(model, expected):
    state = expected.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert drawn_parameters(model) == frozenset()
    assert model.dtype == torch.float32


# ---- stored in other ways, loaded as they are
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_load_into_float32(family, dtype, tmp_path):
    stored(tmp_path, family).to(dtype).save_pretrained(tmp_path)
    expected = {name: tensor.float() for name, tensor in load_file(tmp_path / WEIGHTS).items()}
    model = load(tmp_path, family)
    found = dict(model.state_dict())
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert loading_lines(model) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_shards_and_tied_embeddings_load_whole(family, tmp_path):
    model = stored(tmp_path, family)
    (tmp_path / WEIGHTS).unlink()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_same(load(tmp_path, family), model)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_without_a_token_are_padding(family, tmp_path):
    rows = -(-len(processor(family)) // 64) * 64
    model = stored(tmp_path, family, vocab_size=rows)
    assert_same(load(tmp_path, family), model)


# ---- weights that are no numbers
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(family, value, tmp_path):
    stored(tmp_path, family)
    changed = load_file(tmp_path / WEIGHTS)
    name = sorted(name for name in changed if changed[name].dim() == 2)[-1]
    changed[name][0, 0] = value
    save_file(changed, tmp_path / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"weights are NaN or infinite: .*before they became so") as raised:
        load(tmp_path, family)
    assert name.removesuffix(".weight") in raised.value.sentence()


# ---- a body that is not there
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("wrapper", ["module.", "model.inner.", "net."])
def test_wrapped_weights_are_refused_with_what_they_begin_with(family, wrapper, tmp_path):
    stored(tmp_path, family)
    rewrite(tmp_path, lambda tensors: {wrapper + name: tensor for name, tensor in tensors.items()})
    with pytest.raises(UserError, match=rf"no weight of the body was found; .* begin with {wrapper[:-1]}"):
        load(tmp_path, family)


def test_weights_of_another_architecture_are_refused(tmp_path):
    stored(tmp_path / "gpt2", "decoder")
    stored(tmp_path / "bert", "encoder")
    (tmp_path / "bert" / WEIGHTS).write_bytes((tmp_path / "gpt2" / WEIGHTS).read_bytes())
    with pytest.raises(UserError, match=r"no weight of the body was found.*name its own architecture"):
        load(tmp_path / "bert", "encoder")


PARTS = [  # family, a part of the names that is lost, what is said
    ("encoder", "encoder.layer.1.", "16 of .* are missing: bert.encoder.layer.1"),
    ("encoder", "embeddings.word_embeddings", "1 of .* are missing: bert.embeddings.word_embeddings"),
    ("decoder", "h.0.", "12 of .* are missing: transformer.h.0"),
    ("decoder", "ln_f.", "2 of .* are missing: transformer.ln_f"),
    ("encoder_decoder", "decoder.block.1.layer.1.", "5 of .* are missing: decoder.block.1.layer.1"),
]


@pytest.mark.parametrize(("family", "lost", "said"), PARTS)
def test_a_body_in_part_is_refused_with_its_modules(family, lost, said, tmp_path):
    stored(tmp_path, family)
    rewrite(tmp_path, lambda tensors: {n: tensor for n, tensor in tensors.items() if lost not in n})
    with pytest.raises(UserError, match=said):
        load(tmp_path, family)


def test_layers_that_an_entry_adds_are_refused_and_those_it_drops_are_told(tmp_path):
    stored(tmp_path, "encoder")
    with pytest.raises(UserError, match=r"bert\.encoder\.layer\.2 .*; name a complete model, or leave out"):
        load(tmp_path, "encoder", num_hidden_layers=3)
    model = load(tmp_path, "encoder", num_hidden_layers=1)
    assert loading_lines(model) == [
        "in the pretrained model and not in this one, so left out: bert.encoder.layer.1"
    ]


def test_both_halves_of_a_pair_need_the_encoder(tmp_path):
    stored(tmp_path, "encoder", "AutoModel")
    [line] = loading_lines(load(tmp_path, "encoder", "text_to_text"))
    assert "decoder.bert.encoder.layer.0.crossattention" in line
    rewrite(tmp_path, lambda tensors: {n: t for n, t in tensors.items() if "layer.1" not in n})
    with pytest.raises(UserError, match=r"are missing: encoder\.layer\.1 "):
        load(tmp_path, "encoder", "text_to_text")


# ---- only a head that is not there
HEADLESS = [
    ("encoder", "token_classification", "classifier"),
    ("encoder", "sequence_classification", "bert.pooler, classifier"),
    ("encoder", "question_answering", "qa_outputs"),
    (
        "encoder",
        "language_modelling",
        "cls.predictions.bias, cls.predictions.decoder.bias, cls.predictions.transform",
    ),
    ("decoder", "sequence_classification", "score"),
    ("encoder_decoder", "question_answering", "qa_outputs"),
    ("encoder_decoder", "token_classification", "classifier"),
    ("encoder_decoder", "sequence_classification", "classification_head"),
]


@pytest.mark.parametrize(("family", "head", "drawn"), HEADLESS)
def test_a_new_head_is_drawn_and_told(family, head, drawn, tmp_path):
    stored(tmp_path, family)
    rewrite(tmp_path, lambda tensors: {n: t for n, t in tensors.items() if not n.startswith("classifier")})
    line = loading_lines(load(tmp_path, family, head))[0]
    assert line == f"not in the pretrained model (or there for other labels), so drawn: {drawn}"


def test_a_head_that_is_not_used_is_told(tmp_path):
    stored(tmp_path, "encoder", "AutoModelForMaskedLM")
    _, line = loading_lines(load(tmp_path, "encoder"))
    assert line == "in the pretrained model and not in this one, so left out: cls"


def test_modules_are_the_outermost_that_hold_nothing_else():
    others = {"a.x.w", "a.y.0.w"}
    assert modules({"a.y.1.w", "a.y.1.b", "c.d.w", "a.x.b"}, others) == ["a.x.b", "a.y.1", "c"]


# ---- sizes
@pytest.mark.parametrize("family", FAMILIES)
def test_a_tokenizer_with_more_tokens_than_rows_is_refused(family, tmp_path):
    rows = len(processor(family)) - 3
    stored(tmp_path, family, vocab_size=rows)
    with pytest.raises(UserError, match=rf"has {rows + 3} tokens, and the model's embedding has {rows} rows"):
        load(tmp_path, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_config_of_another_vocabulary_is_refused_with_both_sizes(family, tmp_path):
    stored(tmp_path, family)
    file = tmp_path / "config.json"
    values = json.loads(file.read_text())
    rows = values["vocab_size"]
    file.write_text(json.dumps(values | {"vocab_size": rows + 7}))
    with pytest.raises(
        UserError, match=rf"the config does not fit the weights: .*\({rows}, 2.*\({rows + 7}, 2"
    ):
        load(tmp_path, family)


# ---- other families, as transformers builds them
BERT_SIZES = {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 29}
OTHERS = {
    "roberta": ("AutoModelForMaskedLM", BERT_SIZES),
    "distilbert": ("AutoModelForMaskedLM", {"dim": 24, "n_heads": 3, "hidden_dim": 29}),
    "electra": ("AutoModelForPreTraining", BERT_SIZES),
    "albert": ("AutoModelForMaskedLM", BERT_SIZES),
}


@pytest.mark.parametrize("architecture", OTHERS)
def test_pretraining_checkpoints_of_other_encoders_lack_a_head_only(architecture, tmp_path):
    head, sizes = OTHERS[architecture]
    small = {"vocab_size": len(processor("encoder")), "pad_token_id": 0, **sizes}
    made = transformers.AutoConfig.for_model(architecture, **small)
    getattr(transformers, head).from_config(made).save_pretrained(tmp_path)
    run = with_model(asked(tmp_path, "encoder"), name=str(tmp_path))
    for task in ("token_classification", "sequence_classification", "question_answering"):
        model = build_model(run, task, processor("encoder"), {})
        assert loading_lines(model)[0].endswith(
            ("classifier", "qa_outputs", "pre_classifier", "albert.pooler, classifier")
        )
