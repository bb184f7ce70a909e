"""docs/write-a-variant.md, executed in a copy of the repository; variants from outside the repository."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from custom_attention import (
    VariantError,
    attach,
    attached,
    load,
    prove,
    registry,
    sites,
    variant_parameters,
)
from pipelines.config.load import load_run
from pipelines.errors import UserError
from pipelines.registry import catalog, fingerprint
from pipelines.runs.identity import describe, run_hash
from tests import guide
from tests.conftest import REPOSITORY
from tests.custom_attention.models import padded, tiny

PAGE = "write-a-variant.md"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of what the guide touches, with the files that it says to write."""
    return guide.checkout(PAGE, tmp_path_factory.mktemp("checkout"))


def test_a_variant_takes_one_file_of_at_most_thirty_lines_and_one_yaml():
    written = {block.file: block.text for block in guide.blocks(PAGE) if block.file}
    assert set(written) == {
        "custom_attention/variants/channel_gate.py",
        "configs/attention/channel_gate.yaml",
        "my_variants.py",
    }
    assert all(len(text.splitlines()) <= 30 for text in written.values())


@pytest.mark.parametrize("command", guide.commands(PAGE))
def test_every_command_of_the_guide_works(checkout, command):
    printed = guide.run(checkout, command)
    if "ls variants" in command:
        [line] = [line for line in printed.splitlines() if line.startswith("channel_gate")]
        assert line.split()[-3:] == ["kernel", "yes", "no"]
        assert "A gate on each channel" in line
    elif "check-variant" in command:
        assert printed.rstrip().endswith("all checks hold")
    elif "pytest" in command:
        assert re.search(r"1\d passed|\.{10,}", printed), printed
    else:
        assert re.search(r"attention: (channel_gate|my_variants:Shift)", printed)


def test_the_python_of_the_guide_runs_as_one_session(checkout):
    session = "".join(
        block.text for block in guide.blocks(PAGE) if block.language == "python" and block.file is None
    )
    printed = guide.run(checkout, f"python -c '{session}'")
    assert "the swap is exact" in printed
    assert "only one variant can replace the softmax" in printed
    assert "no attention site matches" in printed


def test_the_yaml_of_the_guide_says_where_and_in_which_order(checkout):
    [block] = [one for one in guide.blocks(PAGE) if one.language == "yaml" and one.file is None]
    (checkout / "where.yaml").write_text(block.text, encoding="utf-8")
    files = "configs/task/translation-generated.yaml configs/model/t5-small-scratch.yaml"
    printed = guide.run(checkout, f"attnlab validate {files} where.yaml")
    assert re.search(r"attention: .*temperature.*channel_gate", printed)
    assert "decoder" in printed


# ---- outside the repository


OUTSIDE = '''
import torch
from torch import nn
from custom_attention import Site, Variant

class Shift(Variant):
    """A bias toward the first key."""

    def __init__(self, site: Site, *, start: float = 0.0) -> None:
        """
        Options:
            start: the bias before training
        """
        super().__init__(site)
        self.amount = nn.Parameter(torch.full((site.num_heads, 1, 1), start))

    def position_bias(self, bias, call):
        first = (torch.arange(call.key.shape[2]) == 0).to(self.amount.dtype)
        return self.amount * first if bias is None else bias + self.amount * first
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package on the path with one variant and two entry points, one of them without a class."""
    (tmp_path / "some_variants.py").write_text(OUTSIDE, encoding="utf-8")
    metadata = tmp_path / "some_variants-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: some-variants\nVersion: 1.0\n")
    points = "[attnlab.variants]\nshift = some_variants:Shift\nlost = some_variants:Nothing\n"
    (metadata / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("some_variants", None)


@pytest.mark.parametrize("name", ["shift", "some_variants:Shift"])
def test_a_variant_from_outside_is_attached_by_class_or_entry_point(installed, name):
    assert prove(attach(tiny("t5"), name), padded("t5").inputs).passed
    moved = prove(attach(tiny("t5"), {name: {"start": 0.7}}), padded("t5").inputs)
    assert moved.max_difference > 1e-3
    with pytest.raises(VariantError, match="did you mean 'start'"):
        attach(tiny("t5"), {name: {"stat": 1.0}})


def test_an_entry_point_is_listed_with_its_properties_and_nothing_is_imported(installed):
    assert "shift" in catalog.names(catalog.VARIANT)
    assert {"shift", "lost"} <= set(registry.names())
    entry = catalog.find(catalog.VARIANT, "shift")
    assert (entry.name, entry.path, entry.starts_as_stock, entry.is_foldable) == (
        "shift",
        "kernel",
        "yes",
        False,
    )
    assert [(option.name, option.meaning) for option in entry.options] == [
        ("start", "the bias before training")
    ]
    assert "some_variants" not in sys.modules


def test_an_entry_point_without_a_class_is_named(installed):
    with pytest.raises(UserError, match=r"lost.*names no class"):
        catalog.find(catalog.VARIANT, "lost")
    with pytest.raises(VariantError, match="cannot be imported"):
        attach(tiny("bert"), "lost")


def test_a_variant_of_the_repository_wins_over_an_entry_point_of_its_name(installed):
    points = installed / "some_variants-1.0.dist-info" / "entry_points.txt"
    points.write_text("[attnlab.variants]\ngate = some_variants:Shift\n")
    assert torch.is_tensor(registry.find("gate")(sites(tiny("bert"))[0]).weight)
    assert catalog.names(catalog.VARIANT).count("gate") == 1


RUN = """
task: ner
data: {generated: {name: ner, train: 17, validation: 9, test: 9}}
model: {architecture: bert, family: encoder, vocab_size: 300, config: {hidden_size: 24, num_hidden_layers: 1,
  num_attention_heads: 3, intermediate_size: 29}}
attention: [{shift: {start: 0.0}}, "some_variants:Shift"]
batch_size: 8
learning_rate: 1e-2
num_epochs: 1
seed: 1
"""


def test_a_run_file_names_it_both_ways_trains_it_and_saves_it_with_its_code(installed):
    (installed / "run.yaml").write_text(RUN, encoding="utf-8")
    assert "attention: shift" in guide.run(installed, "attnlab validate run.yaml", REPOSITORY)
    guide.run(installed, "attnlab train run.yaml --out out", REPOSITORY)
    model = load(installed / "out" / "model")
    kinds = [[type(variant).__name__ for variant in stack] for _, stack in attached(model)]
    assert kinds == [["Shift", "Shift"]]
    assert all(p.abs().max() > 0 for p in variant_parameters(model).values())
    assert "class Shift(Variant):" in next((installed / "out" / "model").glob("modeling_*.py")).read_text()
    identity = json.loads((installed / "out" / "identity.json").read_text())
    assert {"custom_attention.variant", "some_variants"} <= identity["sources"].keys()


def test_another_text_of_an_outside_variant_is_another_run(installed):
    (installed / "run.yaml").write_text(RUN, encoding="utf-8")
    hashes = []
    for text in (OUTSIDE, OUTSIDE.replace("== 0", "== 1")):
        (installed / "some_variants.py").write_text(text, encoding="utf-8")
        fingerprint.fingerprint.cache_clear()
        fingerprint.fingerprints.cache_clear()
        hashes.append(run_hash(describe(load_run([str(installed / "run.yaml")]))))
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("shfit", "perhaps shift was meant"),
        ("lost", "lost: the entry point of this variant names no class"),
        ("some_variants:Shfit", "package.module:Class must be importable from here"),
        ("{shift: {start: soon}}", "start of variant shift has a value of a wrong type"),
    ],
)
def test_a_run_file_with_a_wrong_name_from_outside_is_refused_in_a_sentence(installed, written, said):
    text = RUN.replace('[{shift: {start: 0.0}}, "some_variants:Shift"]', f"[{written}]")
    (installed / "run.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        load_run([str(installed / "run.yaml")])
