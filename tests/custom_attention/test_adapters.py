"""Architectures without the seam, by their adapter: the stock function to the bit, and variants that act."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import torch
import transformers as hf

from custom_attention import (
    VariantError,
    adapters,
    attach,
    detach,
    diagnose,
    fold,
    load,
    prove,
    save,
    sites,
    variant_parameters,
)
from custom_attention.battery.checks import nudged
from custom_attention.maps import attention_maps
from custom_attention.runtime.adapter import Adapter
from tests.custom_attention.conftest import EPS
from tests.custom_attention.models import logits, nudge

V3 = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_buckets": 4,
    "position_biased_input": False,
    "type_vocab_size": 0,
}
KINDS = {
    "v3": V3,
    "v2 with a convolution": {**V3, "conv_kernel_size": 3, "conv_act": "gelu", "position_buckets": 6},
    "positions of their own weights": {**V3, "share_att_key": False, "norm_rel_ebd": "none"},
    "content to position alone": {**V3, "share_att_key": False, "pos_att_type": ["c2p"]},
    "position to content alone": {**V3, "share_att_key": False, "pos_att_type": "p2c"},
    "no buckets": {**V3, "position_buckets": -1, "max_relative_positions": 5},
    "no relative attention": {"relative_attention": False, "pos_att_type": []},
    "mpnet": None,
}


def build(kind: str):
    sizes = {"vocab_size": 53, "hidden_size": 28, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 37, "max_position_embeddings": 40, "num_labels": 5}
    torch.manual_seed(6)
    options = KINDS[kind]
    if options is None:
        model = hf.MPNetForTokenClassification(hf.MPNetConfig(**sizes))
    else:
        model = hf.DebertaV2ForTokenClassification(hf.DebertaV2Config(**sizes, **options))
    with torch.no_grad():  # weights large enough for attention to matter
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 1.2 * parameter.shape[-1] ** -0.5)
    return model.eval()


@pytest.fixture(params=KINDS)
def model(request):
    return build(request.param)


@pytest.fixture(params=["v3", "mpnet"])
def one(request):
    return build(request.param)


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 53, (3, 11), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    mask[2, 2:] = 0
    return {"input_ids": torch.where(mask.bool(), ids, 1), "attention_mask": mask}


def gradients(model, training: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.train(training).zero_grad()
    torch.manual_seed(8)
    output = model(**batch()).logits
    output.square().sum().backward()  # rows of padding too
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return output, {name: gradient for name, gradient in found.items() if ".attnlab." not in name}


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training with dropout"])
def test_outputs_and_gradients_are_those_of_the_stock_class(model, training):
    output, expected = gradients(copy.deepcopy(model), training)
    attach(model, ["temperature", "gate"])
    assert {site.kind for site in sites(model)} == {"self"}
    ours, found = gradients(model, training)
    assert torch.equal(ours, output)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        bound = 20 * EPS * expected[name].abs().max().item()
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=bound, msg=name)


def test_the_swap_is_proven_exact_and_every_site_reached(model):
    attach(model, ["temperature", "gate"])
    proof = prove(model, batch())
    assert proof.exact, proof.sentence
    assert (proof.reached, proof.expected) == (2, 2)


def test_the_explicit_path_is_the_stock_class_up_to_rounding(model):
    proof = prove(attach(model, "sink"), batch())
    assert proof.passed, proof.sentence
    assert proof.bound < 1e-3


@pytest.mark.parametrize("spec", ["gate", "sink", "exclusive", "alibi", "talking_heads", "token_temperature"])
def test_a_variant_acts_and_padding_stays_invisible(one, spec):
    before = logits(one, batch())
    nudged(attach(one, spec))
    after = logits(one, batch())
    assert (after - before).abs().max() > 1e-3
    inputs = batch()
    for row, length in enumerate((11, 7, 2)):
        alone = {name: value[row : row + 1, :length] for name, value in inputs.items()}
        torch.testing.assert_close(
            logits(one, alone)[0], after[row, :length], rtol=0, atol=2000 * EPS, msg=f"row {row}"
        )


def test_detach_gives_the_stock_class_and_its_bits_back(one):
    before, classes = logits(one, batch()), [type(module) for module in one.modules()]
    attach(one, "gate")
    assert any(isinstance(module, Adapter) for module in one.modules())
    detach(one)
    assert [type(module) for module in one.modules()] == classes
    assert torch.equal(logits(one, batch()), before)


def test_looking_at_its_sites_leaves_no_trace(one):
    classes = [type(module) for module in one.modules()]
    assert [site.stack for site in sites(one)] == ["encoder"] * 2
    assert [type(module) for module in one.modules()] == classes


def test_copies_and_pickles_are_the_same_function(one):
    nudged(attach(one, "gate"))
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert torch.equal(logits(other, batch()), logits(one, batch()))


def test_weights_of_a_map_are_those_of_the_stock_class(one):
    stock = one(**batch(), output_attentions=True).attentions
    single = {name: value[:1] for name, value in batch().items()}
    for ours, theirs in zip(attention_maps(one, single), stock, strict=True):
        torch.testing.assert_close(ours.weights, theirs[0], rtol=0, atol=50 * EPS)
    assert [row.num_rows for row in diagnose(one, batch())] == [20, 20]


def test_a_factor_on_queries_that_make_the_bias_too_is_not_folded_into_their_weights():
    model = build("v3")
    attach(model, "temperature")
    nudge(variant_parameters(model).values())
    with pytest.raises(VariantError, match="no stored weights make head 0 of the query alone"):
        fold(model)
    detach(model)
    with pytest.raises(VariantError, match="nor make its position bias of them"):
        attach(model, {"unscaled": {"mode": "compensated"}})


@pytest.mark.parametrize("kind", ["v3", "mpnet"])
def test_a_factor_of_the_output_is_folded(kind):
    model = build(kind)
    attach(model, "gain")
    nudge(variant_parameters(model).values())
    expected = logits(model, batch())
    fold(model)
    assert not any(isinstance(module, Adapter) for module in model.modules())
    torch.testing.assert_close(logits(model, batch()), expected, rtol=0, atol=1e-4)


STRANGER = """
import sys, torch, transformers
folder, expected = sys.argv[1], torch.load(sys.argv[2])
model = transformers.AutoModelForTokenClassification.from_pretrained(folder, trust_remote_code=True)
assert "custom_attention" not in sys.modules
with torch.no_grad():
    assert torch.equal(model(**expected["batch"]).logits, expected["logits"])
"""


def test_a_saved_folder_loads_here_and_as_a_strangers(one, tmp_path):
    nudged(attach(one, "gate"))
    folder, expected = tmp_path / "saved", logits(one, batch())
    save(one, folder)
    assert torch.equal(logits(load(folder), batch()), expected)
    own = hf.AutoModelForTokenClassification.from_pretrained(folder)
    assert torch.equal(logits(own, batch()), expected)
    torch.save({"batch": batch(), "logits": expected}, tmp_path / "expected.pt")
    command = [sys.executable, "-P", "-c", STRANGER, str(folder), str(tmp_path / "expected.pt")]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)


@pytest.mark.parametrize("model_class", [hf.DebertaV2Model, hf.MPNetForMaskedLM])
def test_an_adapter_is_found_by_the_package_of_a_class(model_class):
    [adapter] = adapters.of_class(model_class)
    assert issubclass(adapter, adapter.stock_class())
    assert adapters.of_class(hf.BertModel) == []
