"""Every variant under DistributedDataParallel, in two real processes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from custom_attention import Variant, attach, variant_parameters
from tests.custom_attention.conftest import arm_id, arms, attach_where_possible, is_refused
from tests.custom_attention.models import FAMILIES, nudge, padded, tiny

SHARES = (slice(0, 2), slice(2, 3))  # which examples each process gets


class Idle(Variant):
    """Holds a parameter that no forward uses."""

    def __init__(self, site) -> None:
        super().__init__(site)
        self.idle = nn.Parameter(torch.zeros(2))

    def output(self, output, call):
        return output


def test_no_variant_leaves_a_parameter_unused_and_gradients_are_means_over_processes(tmp_path, monkeypatch):
    """One group of processes for all families and arms: starting one costs as much as a family does."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    multiprocessing.spawn(_process, (str(tmp_path),), nprocs=len(SHARES))
    done = [(tmp_path / str(rank)).read_text().splitlines() for rank in range(len(SHARES))]
    expected = [f"{f} {arm_id(arm)}" for f in FAMILIES for arm in arms() if not is_refused(arm, f)]
    assert done == [expected, expected]


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(SHARES)
    )
    done = []
    for family in FAMILIES:
        inputs = padded(family).inputs
        shares = [{name: value[share] for name, value in inputs.items()} for share in SHARES]
        unused = _unused_in_stock(family, shares[0])
        for arm in arms():
            if not is_refused(arm, family):
                _step(attach_where_possible(tiny(family), arm, family), unused, shares, rank)
                done.append(f"{family} {arm_id(arm)}")
    with pytest.raises(RuntimeError, match="not used in producing loss"):
        _step(attach(tiny(family), f"{__name__}:Idle"), unused, shares, rank)
    with open(f"{folder}/{rank}", "w", encoding="utf-8") as file:
        file.write("\n".join(done))
    distributed.destroy_process_group()


def _unused_in_stock(family: str, inputs: dict) -> set[str]:
    """Return parameters that the stock model does not use either, such as an unused pooler."""
    model = tiny(family)
    _backward(model, inputs)
    return {name for name, parameter in model.named_parameters() if parameter.grad is None}


def _step(model, unused: set[str], shares: list[dict], rank: int) -> None:
    nudge(variant_parameters(model).values())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in unused)
    alone = [copy.deepcopy(model) for _ in shares if rank == 0]
    for one, share in zip(alone, shares):
        _backward(one, share)
    parallel = DistributedDataParallel(model)
    for _ in range(2):  # the second forward raises where the first left a parameter out
        parallel.zero_grad()
        _backward(parallel, shares[rank])
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and alone:
            mean = sum(one.get_parameter(name).grad for one in alone) / len(alone)
            torch.testing.assert_close(parameter.grad, mean, rtol=1e-4, atol=1e-5, msg=name)


def _backward(model, inputs: dict) -> None:
    model(**inputs).logits.square().mean().backward()
