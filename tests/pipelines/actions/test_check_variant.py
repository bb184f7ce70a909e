"""`attnlab check-variant`: one table for any class, and a refusal of each kind of dead variant."""

from __future__ import annotations

import re
import sys

import pytest

from custom_attention.battery import run
from custom_attention.battery.checks import CHECKS
from pipelines.cli.main import main

MINE = """
import torch
from torch import nn
from custom_attention import Variant

class Learned(Variant):
    def __init__(self, site, *, start: float = 0.0):
        super().__init__(site)
        self.amount = nn.Parameter(torch.full((site.num_heads, 1, 1), start))

class Alive(Learned):
    def output(self, output, call):
        return output * (1 + self.amount)

class Misspelt(Learned):
    def outputs(self, output, call):
        return output * (1 + self.amount)

class NoHook(Learned):
    pass

class Detached(Learned):
    def output(self, output, call):
        return output * (1 + self.amount.detach())

class Idle(Variant):
    def output(self, output, call):
        return output

class Unchanged(Idle):
    starts_as_stock = False

class LooksAhead(Learned):
    def output(self, output, call):
        return output + self.amount * output.mean(2, keepdim=True)

class Raises(Learned):
    def query(self, query, call):
        raise KeyError("mine")

class Asks(Variant):
    def __init__(self, site, *, width: int):
        super().__init__(site)

    def output(self, output, call):
        return output
"""


@pytest.fixture
def checked(tmp_path, monkeypatch, capsys):
    """Run the command in a folder with a module of its own, on two families: exit status, table, errors."""
    (tmp_path / "own_variants.py").write_text(MINE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(run, "FAMILIES", ("gpt2", "bert2bert"))

    def check(variant: str):
        status = main(["check-variant", variant])
        said = capsys.readouterr()
        return status, said.out, said.err

    yield check
    sys.modules.pop("own_variants", None)


@pytest.mark.parametrize(
    "variant",
    [
        "gate",
        "stock",
        "own_variants:Alive",
        "drop_head",
        "{temperature: {per: layer}}",
        "[temperature, softcap]",
    ],
)
def test_a_variant_that_does_what_it_says_passes_every_check(checked, variant):
    status, table, errors = checked(variant)
    assert (status, errors) == (0, "")
    assert table.splitlines()[0].split() == ["family", "sites", *CHECKS]
    for family in ("gpt2", "bert2bert"):
        assert re.search(rf"^{family} +all( +yes){{{len(CHECKS)}}}", table, re.MULTILINE)
    assert table.rstrip().endswith("all checks hold")


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("Misspelt", "the method outputs is no hook, so attention never calls it; did you mean output?"),
        ("NoHook", "overrides no hook"),
        ("Detached", "its parameter amount has no part in the output"),
        ("Idle", "has no parameter, and in training it is stock attention as well"),
        ("Unchanged", "says that it differs from stock attention, but does not"),
    ],
)
def test_each_kind_of_dead_variant_exits_1_with_the_reason(checked, variant, said):
    status, table, errors = checked(f"own_variants:{variant}")
    assert status == 1
    assert said in table + errors


def test_a_variant_that_breaks_a_check_is_shown_with_the_check_and_exits_1(checked):
    status, table, errors = checked("own_variants:LooksAhead")
    assert status == 1
    for check in ("causal", "padding", "cache"):
        assert re.search(rf"^{check} \(gpt2, bert2bert\): .* differ by [\d.]+ \(at most", table, re.MULTILINE)
    assert f"3 of {len(CHECKS)} checks failed" in errors


def test_an_error_of_the_users_own_code_is_a_cell_and_no_traceback(checked):
    status, table, errors = checked("own_variants:Raises")
    assert status == 1
    said = "(gpt2, bert2bert): own_variants:Raises: its hook query raised KeyError: “'mine'” (own_variants.py"
    assert said in table
    assert ".." not in table
    assert "Traceback" not in table + errors


def test_sites_and_families_that_a_variant_refuses_are_said(checked, monkeypatch):
    status, table, _ = checked("exclusive")
    assert status == 0
    assert re.search(r"^bert2bert +self ", table, re.MULTILINE)
    assert "bert2bert: refused at cross-attention sites" in table
    monkeypatch.setattr(run, "FAMILIES", ("t5",))
    status, table, errors = checked("unscaled")
    assert status == 1
    assert "t5: refused at all sites" in table
    assert "nothing was checked" in errors


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("gaet", "did you mean 'gate'"),
        ("own_variants:Lost", "attention: own_variants:Lost: cannot be imported"),
        ("own_variants:Asks", "an option without a default is missing (got width)"),
        ("{own_variants:Alive: {start: soon}}", "own_variants:Alive.start: not accepted"),
        ("{gate: [", "not YAML"),
    ],
)
def test_what_cannot_be_checked_exits_2(checked, variant, said):
    status, _, errors = checked(variant)
    assert status == 2
    assert said in errors
