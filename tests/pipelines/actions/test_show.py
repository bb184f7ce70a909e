"""`attnlab show` draws the weights of every head, of the run and of stock attention, in two files."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
import zlib

import numpy as np
import pytest
import torch
import transformers

import custom_attention
from custom_attention.maps import attention_maps
from pipelines.cli.main import main
from pipelines.report.figures.attention import PALETTE, SiteMaps, draw
from tests.custom_attention.models import nudge, padded, tiny
from tests.pipelines.tasks.writing import SIZES

LINES = {
    "ner": "the doctor of jordan slept .",
    "translation": "one two three",
    "text_classification": "a good film",
    "language_modelling": "it was a dark night",
}


def settings(task: str, family: str) -> list[str]:
    architecture, sizes = SIZES[family]
    listed = ", ".join(f"{name}: {value}" for name, value in sizes.items())
    lengths = "max_source_len: 32, max_target_len: 9" if task == "translation" else "max_len: 32"
    overlap = ", overlap: 4" if task in ("ner", "language_modelling") else ""
    return [
        f"task={{name: {task}, {lengths}{overlap}}}",
        f"model={{architecture: {architecture}, family: {family}, vocab_size: 330, config: {{{listed}}}}}",
        f"data.generated={{name: {task}, train: 12, validation: 4}}",
        "max_steps=2",
        "device=cpu",
        "diagnostics_every_steps=null",
    ]


# ---- the weights
@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "llama"])
def test_the_weights_without_variants_are_those_that_transformers_returns(name):
    model, inputs = tiny(name).eval(), {key: value[:1] for key, value in padded(name).inputs.items()}
    inputs = {key: value[:, :5] for key, value in inputs.items()}
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(**inputs, output_attentions=True)
    ours = attention_maps(model, inputs)
    assert len(ours) > 1
    for one in ours:
        kind = "attentions" if not model.config.is_encoder_decoder else f"{one.site.stack}_attentions"
        theirs = output["cross_attentions" if one.site.is_cross else kind][one.site.layer][0]
        torch.testing.assert_close(one.weights, theirs, rtol=0, atol=1e-6)
    assert not custom_attention.is_attached(model)


def test_a_variant_of_the_scores_changes_them_and_its_rows_still_add_up():
    model, inputs = tiny("bert").eval(), {key: value[:1] for key, value in padded("bert").inputs.items()}
    before = attention_maps(model, inputs)
    custom_attention.attach(model, ["temperature"])
    nudge(custom_attention.variant_parameters(model).values())
    after = attention_maps(model, inputs)
    for one, two in zip(before, after):
        torch.testing.assert_close(two.weights.sum(-1), torch.ones_like(two.weights.sum(-1)))
        assert not torch.equal(one.weights, two.weights)


def test_a_variant_that_reads_hidden_states_is_drawn_as_it_is():
    model, inputs = tiny("llama").eval(), {key: value[:1] for key, value in padded("llama").inputs.items()}
    before = attention_maps(model, inputs)
    custom_attention.attach(model, ["forgetting"])
    for one, two in zip(before, attention_maps(model, inputs), strict=True):
        torch.testing.assert_close(two.weights, one.weights)
    nudge(custom_attention.variant_parameters(model).values())
    assert not torch.equal(before[0].weights, attention_maps(model, inputs)[0].weights)


def test_no_weights_are_drawn_where_a_variant_replaces_the_kernel():
    model, inputs = tiny("llama").eval(), {key: value[:1] for key, value in padded("llama").inputs.items()}
    custom_attention.attach(model, [{"linear_attention": {"form": "replaced"}}], where={"kind": "self"})
    with pytest.raises(custom_attention.VariantError, match="replaces the kernel here"):
        attention_maps(model, inputs)


# ---- the picture
def pixels(picture: str) -> list[np.ndarray]:
    """The shades of each image of a picture, decoded by hand."""
    found = []
    for data in re.findall(r"base64,([A-Za-z0-9+/=]+)", picture):
        content = base64.b64decode(data)
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
        at = content.index(b"IDAT")
        rows = zlib.decompress(content[at + 4 : at + 4 + int.from_bytes(content[at - 4 : at], "big")])
        found.append(np.frombuffer(rows, np.uint8).reshape(height, width + 1)[:, 1:])
    return found


def test_a_picture_has_a_map_for_each_head_and_its_shades_are_the_weights():
    rng = np.random.default_rng(3)
    weights = rng.dirichlet(np.ones(4), size=(2, 4)).astype(np.float32)
    site = SiteMaps("encoder 0, self", list("abcd"), list("abcd"), {"gate": weights, "stock": weights[::-1]})
    picture = draw([site])
    ElementTree.fromstring(picture)
    shades = pixels(picture)
    assert len(shades) == 4
    for drawn, wanted in zip(shades, [*weights, *weights[::-1]]):
        back = np.square((drawn - 127.5) / 127.5) * weights.max()
        assert np.abs(back - wanted).max() < 0.02
    assert PALETTE[-3:] == bytes((1, 74, 195))
    assert PALETTE[:3] == bytes((163, 0, 4))


# ---- the command
@pytest.mark.parametrize(
    ("task", "family", "sites"),
    [
        ("ner", "encoder", 2),
        ("translation", "encoder_decoder", 6),
        ("text_classification", "decoder", 2),
        ("language_modelling", "decoder", 2),
    ],
)
def test_the_command_writes_a_page_and_a_picture_of_one_input(
    task, family, sites, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    assert main(["train", *settings(task, family), "attention=[temperature]", "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["show", "run", "--input", LINES[task]]) == 0
    assert capsys.readouterr().out.split() == ["attention.html", "attention.svg"]
    page, picture = ((tmp_path / f"attention.{suffix}").read_text() for suffix in ("html", "svg"))
    heads = 3
    assert len(pixels(picture)) == sites * heads * 2  # the run and stock
    assert LINES[task] in page
    assert f"{task} with temperature attention" in page
    assert not re.search(r"(src|href)=\"(?!data:)(?!#)", page)
    assert "encoder 0, self" in page or "decoder 0, self" in page
    assert ("decoder 0, cross" in page) == (family == "encoder_decoder")


def test_a_stock_run_has_no_second_map(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *settings("ner", "encoder"), "--out", "run"]) == 0
    assert main(["show", "run", "--input", LINES["ner"], "--out", "one"]) == 0
    assert len(pixels((tmp_path / "one.svg").read_text())) == 2 * 3


def test_what_cannot_be_shown_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["show", "nowhere", "--input", "a b"]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert main(["train", *settings("ner", "encoder"), "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["show", "run", "--input", "a b", "--out", "no/such/folder/name"]) == 2
    assert "--out: there is no such folder" in capsys.readouterr().err
    assert main(["show", "run", "--input", "  "]) == 2
    assert "--input: holds no input" in capsys.readouterr().err
    (tmp_path / "two").write_text("ada slept .\n\njordan slept in the house .\n")
    for absent in ("three.txt", "three.csv[1:2]", "three.jsonl.gz"):
        assert main(["show", "run", "--input", absent]) == 2
        assert f"--input: there is no such file (got {absent})" in capsys.readouterr().err
    for several in ("two", "two[0:2]", "two[5:6]"):
        assert main(["show", "run", "--input", several]) == 2
        assert "and one is taken" in capsys.readouterr().err
    assert not (tmp_path / "attention.html").exists()
    assert main(["show", "run", "--input", "two[1:2]"]) == 0
    page = (tmp_path / "attention.html").read_text()
    assert "jordan slept in the house ." in page
    assert "two[1:2]" not in page
