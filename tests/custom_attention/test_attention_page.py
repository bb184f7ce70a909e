"""The examples of docs/attention.md run, and its numbers are those of its script."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import torch

from scripts.attention_figures import draw, measure

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "attention.md").read_text(encoding="utf-8")


def test_every_example_of_the_page_prints_its_result():
    blocks = re.findall(r"^```pycon\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == PAGE.count("```") / 2
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "docs/attention.md", None, 0)
    assert len(test.examples) > 30
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("head_dim", [16, 64, 128])
@pytest.mark.parametrize("factor", measure.FACTORS)
def test_the_table_has_the_measured_numbers(head_dim, factor):
    [line] = [line for line in PAGE.splitlines() if line.startswith(f"| {head_dim} | {factor} |")]
    written, measured = (numbers(text) for text in (line, measure.table_row(measure.rows(head_dim, factor))))
    assert written == pytest.approx(measured, abs=0.0011)


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+\.?\d*", text)]


def test_the_norm_of_the_jacobian_is_that_of_autograd():
    scores = torch.randn(7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda row: row.softmax(0), scores)
    torch.testing.assert_close(measure.jacobian_norm(scores.softmax(0)), jacobian.norm())


def test_without_projections_a_layer_of_wide_tokens_is_the_identity():
    tokens = torch.randn(8, 128, 256, generator=torch.Generator().manual_seed(2))
    tokens = torch.nn.functional.layer_norm(tokens, (256,))
    _, weights = measure.ScaledSelfAttention(256, projections="none")(tokens, return_weights=True)
    assert weights.diagonal(dim1=2, dim2=3).mean() > 0.9995


def test_dividing_the_queries_keeps_the_function_and_dropping_the_factor_does_not():
    scaled, naive, compensated = (measure.losses(arm, 1e-3, seed=0, steps=1)[0] for arm in measure.ARMS)
    assert compensated == pytest.approx(scaled, rel=1e-5)
    assert abs(naive - scaled) > 1e-3


def test_the_pictures_are_those_of_the_script():
    """The second is drawn from the numbers in its own description: training again takes half a minute."""
    rows = [measure.rows(d, factor) for d in measure.HEAD_DIMS for factor in measure.FACTORS]
    drawn = (ROOT / "docs" / "attention-scaling.svg").read_text(encoding="utf-8")
    assert numbers(draw.scaling(rows)) == pytest.approx(numbers(drawn), abs=0.11)
    drawn = (ROOT / "docs" / "attention-training.svg").read_text(encoding="utf-8")
    told = re.search(r"<desc>(.*?)</desc>", drawn)[1].split("; ")
    results: dict[str, dict[float, list[float]]] = {arm: {} for arm in measure.ARMS}
    for words in told:
        arm, rate, values = re.fullmatch(r"(.+), rate ([\d.]+): (.+)", words).groups()
        results[arm][float(rate)] = [float(value) for value in values.split(", ")]
    assert numbers(draw.training(results)) == pytest.approx(numbers(drawn), abs=0.11)
