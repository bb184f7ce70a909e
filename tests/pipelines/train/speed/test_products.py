"""Linear layers by oneDNN: outputs and gradients of the layer's own, up to rounding."""

import copy
import os
import platform
import subprocess
import sys

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from pipelines.train.speed import products
from tests.pipelines.train.harness import example_batch, tiny_model

EPS = torch.finfo(torch.float32).eps
INPUTS, OUTPUTS = 160, 128
LAYERS = {
    "linear": lambda: torch.nn.Linear(INPUTS, OUTPUTS),
    "linear without bias": lambda: torch.nn.Linear(INPUTS, OUTPUTS, bias=False),
    "Conv1D": lambda: Conv1D(OUTPUTS, INPUTS),
}


def layers(name):
    """The layer, and the same by oneDNN."""
    torch.manual_seed(3)
    stock = LAYERS[name]()
    quick = copy.deepcopy(stock)
    products.quicken_products(quick)
    return stock, quick


@pytest.fixture(autouse=True)
def any_size(monkeypatch):
    monkeypatch.setattr(products, "FEWEST_PRODUCTS", 1)


def with_gradients(layer, states):
    states = states.detach().requires_grad_()
    output = layer(states)
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    (output * weight).sum().backward()
    gradients = [p.grad for p in layer.parameters()]
    assert all(gradient.is_contiguous() for gradient in gradients)
    return [output.detach(), states.grad, *gradients]


@pytest.mark.parametrize(
    "shape",
    [(5, INPUTS), (3, 7, INPUTS), (16, INPUTS), (1, 1, INPUTS), (2, 71, INPUTS), (0, INPUTS)],
    ids=str,
)
@pytest.mark.parametrize("large", [1, 2**24], ids=["large", "small"])
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_gradients_are_those_of_the_layer_in_float64(name, large, shape, monkeypatch):
    monkeypatch.setattr(products, "LARGE", large)
    stock, quick = layers(name)
    states = torch.randn(shape)
    wanted = with_gradients(stock.double(), states.double())
    for one, two in zip(with_gradients(quick, states), wanted, strict=True):
        assert one.shape == two.shape
        assert torch.allclose(one.double(), two, rtol=0, atol=float(50 * EPS * max(1.0, *two.abs().shape)))


@pytest.mark.parametrize("name", LAYERS)
def test_states_that_are_no_rows_in_memory_are_read_in_their_places(name):
    _, quick = layers(name)
    whole = torch.randn(INPUTS, 6, 4)
    states = whole.permute(1, 2, 0)
    assert torch.equal(quick(states), quick(states.contiguous()))
    expanded = torch.randn(1, 4, INPUTS).expand(3, -1, -1)
    assert torch.equal(quick(expanded), quick(expanded.contiguous()))


@pytest.mark.parametrize("name", LAYERS)
def test_a_frozen_layer_has_no_gradient_and_passes_that_of_its_states(name):
    _, quick = layers(name)
    quick.requires_grad_(False)
    states = torch.randn(4, INPUTS, requires_grad=True)
    quick(states).sum().backward()
    assert states.grad is not None
    assert all(parameter.grad is None for parameter in quick.parameters())


@pytest.mark.parametrize("name", LAYERS)
def test_other_types_are_left_to_pytorch(name):
    stock, quick = layers(name)
    states = torch.randn(4, INPUTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quick(states), stock(states))
    assert torch.equal(quick.double()(states.double()), stock.double()(states.double()))


def test_small_products_are_left_to_pytorch(monkeypatch):
    stock, quick = layers("linear")
    called, product = [], products._product
    monkeypatch.setattr(products, "_product", lambda *a: called.append(1) or product(*a))
    monkeypatch.setattr(products, "FEWEST_PRODUCTS", 9 * INPUTS * OUTPUTS)
    states = torch.randn(8, INPUTS)
    assert torch.equal(quick(states), stock(states))
    assert not called
    quick(torch.randn(3, 3, INPUTS))
    assert called


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5"])
def test_a_model_gives_its_outputs_under_its_names(architecture):
    model = tiny_model(architecture, 0.0).eval()
    batch, names = example_batch(), list(model.state_dict())
    wanted = model(**batch).logits
    products.quicken_products(model)
    assert list(model.state_dict()) == names
    assert any(type(module) in products.QUICK.values() for module in model.modules())
    torch.testing.assert_close(model(**batch).logits, wanted)


GROWTH = """
import torch
from pipelines.train.speed import products
torch.set_num_threads(1)
products.keep_few_shapes()
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
def compute(rows):
    for _ in range(2):
        products._Affine.apply(torch.ones(rows, 384), weight, None, True).sum().backward()
weight = torch.ones(512, 384, requires_grad=True)
for rows in range(900, 940):
    compute(rows)
before = resident()
for rows in range(400, 800):
    compute(rows)
print(resident() - before)
"""


@pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="needs oneDNN's product")
@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
def test_the_code_of_hundreds_of_shapes_is_not_kept():
    env = {name: value for name, value in os.environ.items() if name not in products.KEPT_SHAPES}
    done = subprocess.run([sys.executable, "-c", GROWTH], check=True, capture_output=True, text=True, env=env)
    assert int(done.stdout) < 100 << 20
