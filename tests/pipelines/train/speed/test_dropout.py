"""The quick dropout is dropout: its share, its mean, its gradient, and nothing at all in evaluation."""

import pytest
import torch
from torch import nn

from pipelines.train.speed.dropout import FEWEST_ELEMENTS, QuickDropout, quicken_dropout

ROWS = FEWEST_ELEMENTS // 64 + 3


def quick(rate):
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(rate))
    quicken_dropout(model)
    assert type(model[1]) is QuickDropout
    return model[1]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_and_the_mean_are_those_of_dropout(rate):
    torch.manual_seed(1)
    count = 97 * 4 * ROWS
    out = quick(rate)(torch.ones(4, ROWS, 97))
    share = (out == 0).double().mean().item()
    assert abs(share - rate) < 5 * (rate * (1 - rate) / count) ** 0.5 + 2**-16
    kept = out[out != 0]
    assert torch.allclose(kept, torch.tensor(1 / (1 - rate)), rtol=2**-12)


def test_neighbours_are_dropped_independently():
    """Four draws are cut from one random number."""
    torch.manual_seed(2)
    kept = (quick(0.5)(torch.ones(ROWS, 256)) != 0).double()
    for apart in range(1, 5):
        both = (kept[:, apart:] * kept[:, :-apart]).mean().item()
        assert abs(both - 0.25) < 5 * (0.1875 / kept.numel()) ** 0.5 * 2


def test_gradients_pass_where_elements_are_kept_scaled_alike():
    torch.manual_seed(3)
    states = torch.randn(ROWS, 65, requires_grad=True)
    out = quick(0.3)(states)
    upstream = torch.randn_like(out)
    out.backward(upstream)
    factor = torch.where(out == 0, 0.0, out / states)
    assert torch.allclose(states.grad, upstream * factor, rtol=1e-5)


def test_evaluation_and_rate_0_change_nothing():
    states = torch.randn(ROWS, 64)
    assert torch.equal(quick(0.4).eval()(states), states)
    assert torch.equal(quick(0.0)(states), states)


def test_small_tensors_draw_what_torch_draws():
    states, dropout = torch.ones(FEWEST_ELEMENTS // 64 - 1, 64), quick(0.2)
    torch.manual_seed(5)
    came = dropout(states)
    torch.manual_seed(5)
    assert torch.equal(came, nn.Dropout(0.2)(states))


def test_one_seed_gives_one_mask():
    states, dropout, masks = torch.ones(ROWS, 66), quick(0.2), []
    for _ in range(2):
        torch.manual_seed(7)
        masks.append(dropout(states))
    assert torch.equal(*masks)
