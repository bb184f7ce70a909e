"""The quick GELU is the function that transformers writes out, and keeps its input alone."""

import pytest
import torch
from transformers import activations

from pipelines.train.speed.gelu import WRITTEN_OUT, QuickGELU, quicken_gelu
from tests.custom_attention.models import padded, tiny

NAMES = ["gelu_new", "gelu_fast", "gelu_accurate"]


def outputs_and_gradients(activation, states):
    states = states.clone().requires_grad_()
    output = activation(states)
    output.backward(torch.linspace(-1.0, 1.0, output.numel(), dtype=output.dtype).view_as(output))
    return output.detach(), states.grad


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_are_those_of_transformers(name, dtype):
    states = torch.cat([torch.linspace(-12.0, 12.0, 4097, dtype=dtype), torch.zeros(3, dtype=dtype)])
    activation = activations.ACT2FN[name]
    wanted = outputs_and_gradients(activation, states)
    quicken_gelu(activation)
    assert type(activation) is QuickGELU
    eps = max(torch.finfo(dtype).eps, 1e-9 if name == "gelu_fast" else 0.0)  # its constant has ten digits
    for one, other in zip(outputs_and_gradients(activation, states), wanted):
        assert torch.allclose(one, other, rtol=0.0, atol=40 * eps)


def test_other_activations_stay_as_they_are():
    others = [activations.ACT2FN[name] for name in sorted(set(activations.ACT2CLS) - set(NAMES))]
    model = torch.nn.ModuleList(others)
    before = [type(module) for module in model]
    quicken_gelu(model)
    assert [type(module) for module in model] == before


def test_one_tensor_of_the_size_of_the_input_is_kept():
    kept = []
    states = torch.randn(5, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        QuickGELU()(states)
    assert [tensor.data_ptr() for tensor in kept] == [states.data_ptr()]


def test_a_gpt2_has_them_and_gives_the_same_logits():
    model, inputs = tiny("gpt2"), padded("gpt2").inputs
    assert any(type(module) in WRITTEN_OUT for module in model.modules())
    wanted = model(**inputs).logits
    quicken_gelu(model)
    assert not any(type(module) in WRITTEN_OUT for module in model.modules())
    bound = 100 * torch.finfo(torch.float32).eps * wanted.abs().max().item()
    assert torch.allclose(model(**inputs).logits, wanted, rtol=0.0, atol=bound)
