"""torch.compile takes a model whose variants run on the kernel as one graph."""

from __future__ import annotations

import pytest
import torch

from custom_attention import attach, variant_parameters
from tests.custom_attention.conftest import (
    EPS,
    SELF_ONLY,
    arm_id,
    arms,
    is_explicit,
    is_refused,
    replaces_kernel,
)
from tests.custom_attention.models import ENCODER_DECODER, logits, nudge, padded, tiny

ON_THE_KERNEL = [arm for arm in arms() if not is_explicit(arm)]
CLOSE = {"rtol": 0, "atol": 2000 * EPS}


def options_of(arm: dict) -> dict:
    [options] = arm.values()
    return options


def compiled_alike(model, family: str) -> None:
    torch._dynamo.reset()
    nudge(variant_parameters(model).values(), size=0.1)
    inputs = padded(family).inputs
    compiled = torch.compile(model, backend="eager", fullgraph=True)  # raises where a graph breaks
    torch.testing.assert_close(logits(compiled, inputs), logits(model, inputs), **CLOSE)


@pytest.mark.parametrize("arm", [arm for arm in ON_THE_KERNEL if not options_of(arm)], ids=arm_id)
def test_a_variant_compiles_without_a_graph_break(arm):
    compiled_alike(attach(tiny("gpt2"), arm), "gpt2")


def test_all_variants_together_compile_without_a_graph_break_on_every_family(family):
    """In one list, so a break in any of them would stop it; where there is one stack, with every option."""
    crossed = family in ENCODER_DECODER
    possible = [a for a in ON_THE_KERNEL if not is_refused(a, family) and not (crossed and options_of(a))]
    replacing = [arm for arm in possible if replaces_kernel(arm)]
    possible = [arm for arm in possible if arm not in replacing[1:]]
    compiled_alike(attach(tiny(family), possible, where={"kind": "self"}), family)
    if crossed:
        anywhere = [arm for arm in possible if next(iter(arm)) not in SELF_ONLY]
        compiled_alike(attach(tiny(family), anywhere, where={"kind": "cross"}), family)
