"""A transfer loss beside one written out in plain torch, and what it must not depend on."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from custom_attention import (
    Variant,
    VariantError,
    attach,
    attached,
    set_progress,
    trainer_callback,
    transferring,
)
from custom_attention.dead import refuse_untrainable
from custom_attention.hook_calls import watched
from custom_attention.runtime.dispatch import observed
from tests.custom_attention.models import nudge, padded, tiny

LEFT = {"bert": False, "gpt2": True, "t5": False, "bart": False}
SPECS = {"lolcats": {"lolcats": {"stage": 0.5}}, "t2r": {"t2r": {"stage": 0.5, "features": 7}}}
WRITTEN = (4, 5, 2)  # positions of a decoder that some target depends on


def without_dropout(model):
    for module in model.modules():
        for name in ("p", "dropout", "attention_dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model.train()


def training(family, spec, progress=0.0):
    model = without_dropout(attach(tiny(family), spec))
    nudge(variants(model).values())
    set_progress(model, progress)
    return model


def variants(model):
    return {
        f"{stack.site.index}.{name}": parameter
        for _, stack in attached(model)
        for name, parameter in stack.variants[0].named_parameters()
    }


def read_of(inputs):
    """Which positions of a decoder are no padding; () for a family without one."""
    states = inputs.get("decoder_input_ids")
    if states is None:
        return ()
    return [torch.arange(states.shape[1]) < torch.tensor(WRITTEN)[:, None]]


def phi(states, variant, side):
    if type(variant).__name__ == "Lolcats":
        mapped = states + states @ getattr(variant, f"of_{side}").double()
        return torch.cat([mapped.softmax(-1), (-mapped).softmax(-1)], -1)
    return torch.relu(
        states @ getattr(variant, f"of_{side}").double() + getattr(variant, f"{side}_offset").double()
    )


def written_out(calls, stacks, batch):
    """The mean over examples of the mean over queries, summed over the sites, in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for module, stack in stacks:
        site, variant = stack.site, stack.variants[0]
        query, key, value, bias, scale = calls[module]
        for row, length in enumerate(batch.lengths):
            queries = keys = slice(-length, None) if batch.left else slice(0, length)
            if site.stack == "decoder" and "decoder_input_ids" in batch.inputs:
                queries = slice(0, WRITTEN[row])
                keys = keys if site.is_cross else queries
            q, k, v = query[row, :, queries], key[row, :, keys], value[row, :, keys]
            added = torch.zeros(1) if bias is None else bias[0, :, queries, keys]
            sees = torch.ones(q.shape[1], k.shape[1])
            sees = sees.tril() if site.is_causal else sees
            softmax = (q @ k.mT * scale + added + sees.log()).softmax(-1) @ v
            products = phi(q, variant, "query") @ phi(k, variant, "key").mT * added.exp() * sees
            linear = products / products.sum(-1, keepdim=True).clamp(min=1e-30) @ v
            total = total + (linear - softmax).square().mean() / len(batch.lengths)
    return total


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("family", LEFT)
def test_the_transfer_loss_and_its_gradient_are_those_of_plain_torch(family, name):
    model, batch = training(family, SPECS[name]), padded(family)
    calls = {}

    def keep(module, query, key, value, mask, scaling, kwargs):
        states = [s.detach().double() for s in (query, key, value)]
        bias = kwargs.get("position_bias")
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        calls[module] = (*states, None if bias is None else bias.detach().double(), scale)

    with observed(keep), transferring(model, share=0.25, read=read_of(batch.inputs)) as transfer:
        output = model(**batch.inputs)
        (output.logits.sum() * 0).backward()
    found = {name: p.grad.clone() for name, p in variants(model).items()}
    model.zero_grad()
    expected = written_out(calls, attached(model), batch)
    assert float(transfer.loss) == pytest.approx(expected.item(), rel=1e-4)
    (0.25 * expected).backward()
    for name, parameter in variants(model).items():
        torch.testing.assert_close(found[name], parameter.grad, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("family", LEFT)
def test_the_first_stage_trains_the_variant_by_the_transfer_and_the_model_as_stock_attention(family):
    model, inputs = training(family, SPECS["lolcats"]), padded(family).inputs
    stock = without_dropout(tiny(family))
    for one in (model, stock):
        one(**inputs).logits.square().mean().backward()
    own = dict(model.named_parameters())
    for name, parameter in stock.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(own[name].grad, parameter.grad, rtol=1e-4, atol=1e-6)
    assert all(p.grad.abs().max() > 0 for p in variants(model).values())


def test_the_second_stage_and_evaluation_are_linear_attention_without_a_transfer_loss():
    inputs = padded("gpt2").inputs
    model = training("gpt2", SPECS["lolcats"], progress=0.5)
    linear = attach(tiny("gpt2"), {"linear_attention": {"form": "replaced"}})
    nudge(variants(linear).values())
    with transferring(model) as transfer:
        output = model(**inputs).logits
    assert transfer.loss == 0.0
    torch.testing.assert_close(output, linear(**inputs).logits)
    set_progress(model, 0.0)
    with transferring(model.eval()) as transfer:
        assert torch.equal(model(**inputs).logits, linear(**inputs).logits)
    assert transfer.loss == 0.0


@pytest.mark.parametrize("family", ["bert", "t5"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_neither_the_loss_nor_its_gradient(family, reentrant):
    batch, gradients, losses = padded(family), [], []
    for checkpointing in (False, True):
        model = training(family, SPECS["lolcats"])
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        with transferring(model, 0.5, read_of(batch.inputs)) as transfer:
            model(**batch.inputs, **({"use_cache": False} if family == "t5" else {})).logits.sum().backward()
        losses.append(float(transfer.loss))
        gradients.append({name: p.grad.clone() for name, p in variants(model).items()})
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("family", LEFT)
def test_examples_cut_into_forwards_have_the_loss_and_gradient_of_one_forward(family):
    batch = padded(family)
    whole, parts = (training(family, SPECS["lolcats"]) for _ in range(2))
    with transferring(whole, read=read_of(batch.inputs)) as transfer:
        whole(**batch.inputs).logits.sum().mul(0).backward()
    of_parts = 0.0
    for rows in (slice(0, 1), slice(1, 3)):
        longest = max(batch.lengths[rows])
        cut = slice(-longest, None) if batch.left else slice(0, longest)
        inputs = {name: values[rows, cut] for name, values in batch.inputs.items() if "decoder" not in name}
        read = ()
        if "decoder_input_ids" in batch.inputs:
            written = max(WRITTEN[rows])
            inputs["decoder_input_ids"] = batch.inputs["decoder_input_ids"][rows, :written]
            read = [mask[rows, :written] for mask in read_of(batch.inputs)]
        share = inputs["input_ids"].shape[0] / 3
        with transferring(parts, share, read) as part:
            parts(**inputs).logits.sum().mul(0).backward()
        of_parts += share * float(part.loss)
    assert of_parts == pytest.approx(float(transfer.loss), rel=1e-5)
    for name, parameter in variants(whole).items():
        torch.testing.assert_close(variants(parts)[name].grad, parameter.grad, rtol=1e-4, atol=1e-7)


def test_a_decoder_whose_padding_is_not_known_is_refused():
    model, inputs = training("t5", SPECS["lolcats"]), padded("t5").inputs
    with (
        transferring(model, read=[torch.ones(3, 4, dtype=torch.bool)]),
        pytest.raises(VariantError, match=r"padding is not known.*\(3, 5\).*\(3, 4\)"),
    ):
        model(**inputs)


class Pulled(Variant):
    """A loss on the output that a parameter of it can lower."""

    starts_as_stock = True

    def __init__(self, site) -> None:
        super().__init__(site)
        self.gain = nn.Parameter(torch.zeros(site.num_heads, 1, 1))

    def output(self, output, call):
        return output * (1 + self.gain)

    def transfer(self, output, call):
        return (output * (1 + self.gain)).square().mean((1, 3))


class OfOneNumber(Pulled):
    def transfer(self, output, call):
        return output.mean()


def test_a_transfer_loss_of_another_shape_is_refused_before_training():
    inputs = padded("bert").inputs
    refuse_untrainable(attach(tiny("bert"), f"{__name__}:Pulled"), inputs)
    model = attach(tiny("bert"), f"{__name__}:OfOneNumber").train()
    with watched(model), pytest.raises(VariantError, match=r"transfer returned a tensor of \(\) for"):
        model(**inputs)


def test_a_loss_without_a_block_counts_whole_and_is_off_in_evaluation():
    gradients = []
    for share in (None, 1.0, 0.0):
        model, inputs = training("bert", f"{__name__}:Pulled"), padded("bert").inputs
        if share is None:
            model(**inputs).logits.sum().mul(0).backward()
        else:
            with transferring(model, share):
                model(**inputs).logits.sum().mul(0).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in variants(model).values()]))
    assert torch.equal(gradients[0], gradients[1])
    assert gradients[0].abs().max() > 0
    assert not gradients[2].any()
    model.eval().zero_grad()
    model(**inputs).logits.sum().mul(0).backward()
    assert all(p.grad is None or not p.grad.any() for p in variants(model).values())


def test_micro_batches_of_the_trainer_share_the_loss():
    model = attach(tiny("bert"), f"{__name__}:Pulled")
    arguments = SimpleNamespace(gradient_accumulation_steps=4)
    trainer_callback().on_train_begin(arguments, SimpleNamespace(global_step=0), None, model=model)
    assert {stack.state.transfer.share for _, stack in attached(model)} == {0.25}
    assert attached(copy.deepcopy(model))[0][1].state.transfer.share == 1.0
