"""Numbers show the decimals that their standard error supports, and the right sign."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.report import format as fmt

REASONABLE = st.floats(1e-5, 1e4, allow_nan=False)


@given(REASONABLE)
def test_two_significant_digits_of_the_standard_error_are_shown(se):
    shown = Decimal(fmt.number(se, fmt.decimals(se)))
    if 1e-4 < se < 9.5:
        assert len(shown.as_tuple().digits) in (2, 3)  # 3 where rounding up gains a digit: 0.0999 -> 0.100
        assert abs(float(shown) - se) <= 0.05 * se + 1e-12
    assert abs(float(shown) - se) <= 0.5


@pytest.mark.parametrize(
    ("se", "places"), [(0.31, 2), (0.031, 3), (3.1, 1), (31, 0), (0.1, 2), (None, 2), (0, 2), (math.nan, 2)]
)
def test_decimals_by_hand(se, places):
    assert fmt.decimals(se) == places


@pytest.mark.parametrize(("margin", "places"), [(1.0, 3), (0.5, 3), (3.0, 2), (0.01, 5), (None, 6)])
def test_nothing_below_a_thousandth_of_the_margin_is_written(margin, places):
    assert fmt.decimals(1e-5, margin) == places
    assert fmt.decimals(0.31, margin) == 2


@given(st.floats(-1e4, 1e4, allow_nan=False), st.integers(0, 5))
def test_signs_are_true_and_zero_has_none(value, places):
    text = fmt.signed(value, places)
    back = float(text.replace("−", "-"))
    assert abs(back - value) <= 0.5 * 10**-places + 1e-9
    assert text[0] in "+−" or back == 0
    assert not (back == 0 and text[0] in "+−")
    assert text.lstrip("+") == fmt.number(value, places)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, "nan"])
def test_what_is_not_a_number_is_a_dash_everywhere(value):
    assert fmt.number(value) == fmt.signed(value) == fmt.p_value(value) == fmt.small(value) == fmt.MISSING
    assert fmt.interval([0.0, value]) == fmt.interval(None) == fmt.mean_sd([value]) == fmt.MISSING


def test_means_ignore_missing_seeds_and_one_seed_has_no_deviation():
    assert fmt.mean_sd([1.0, None, 3.0]) == "2.0 ± 1.4"
    assert fmt.mean_sd([57.0]) == "57.00"
    assert fmt.mean_sd([57.0, 57.0]) == "57.00 ± 0.00"


@pytest.mark.parametrize(
    ("p", "text"), [(0.0004, "<0.001"), (0.001, "0.001"), (0.0316, "0.032"), (1.0, "1.000")]
)
def test_small_p_values_are_bounds(p, text):
    assert fmt.p_value(p) == text


def test_words_of_lists_and_counts():
    assert fmt.listing([]) == ""
    assert fmt.listing(["a", "b", "c"]) == "a, b and c"
    assert fmt.plural(1, "cell") == "1 cell"
    assert fmt.plural(2, "cell") == "2 cells"
    assert fmt.percent_change(0.957) == "−4 %"
