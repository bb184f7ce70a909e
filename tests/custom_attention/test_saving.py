"""A saved folder loads as exactly what was saved, or raises; never as stock attention."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys

import pytest
import torch
import transformers

from custom_attention import VariantError, attach, attached, load, save, variant_parameters
from custom_attention.saving import is_saved
from tests.custom_attention.models import logits, nudge, padded, tiny


def trained(family: str, spec, **options):
    model = attach(tiny(family), spec, **options)
    nudge(model.parameters(), size=0.02)
    nudge(variant_parameters(model).values())
    return model


@pytest.mark.parametrize(
    "spec", ["gate", ["temperature", "sink"], {"temperature": {"per": "model"}}], ids=str
)
def test_a_round_trip_is_exact(family, spec, tmp_path):
    model = trained(family, spec)
    save(model, tmp_path)
    again = load(tmp_path)
    assert type(again) is type(model)
    assert torch.equal(logits(again, padded(family).inputs), logits(model, padded(family).inputs))
    assert list(variant_parameters(again)) == list(variant_parameters(model))


def test_every_variant_loads_as_saved(swapped, family, tmp_path):
    nudge(variant_parameters(swapped).values())
    again = load(save(swapped, tmp_path))
    assert torch.equal(logits(again, padded(family).inputs), logits(swapped, padded(family).inputs))


def test_loading_warns_of_nothing(tmp_path, caplog):
    """transformers would report the variants' parameters as unexpected keys."""
    save(trained("bert", "gate"), tmp_path)
    logging.getLogger("transformers").addHandler(caplog.handler)
    load(tmp_path)
    assert not caplog.records
    state = {**tiny("bert").state_dict(), "bert.other": torch.zeros(1)}
    tiny("bert").save_pretrained(tmp_path / "stock", state_dict=state)
    type(tiny("bert")).from_pretrained(tmp_path / "stock")
    assert "bert.other" in caplog.text  # others are reported as ever
    logging.getLogger("transformers").removeHandler(caplog.handler)


def test_compensated_weights_are_not_divided_again(tmp_path):
    model = trained("gpt2", {"unscaled": {"mode": "compensated"}})
    again = load(save(model, tmp_path))
    for (name, one), two in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two), name
    assert all(stack.weight_edits for _, stack in attached(again))


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_others_may_read_the_weights_as_the_umask_says(mask, tmp_path):
    (tmp_path / "own.txt").touch(0o600)
    before = os.umask(mask)
    try:
        save(trained("bert", "gate"), tmp_path, max_shard_size="8KB")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes.pop("own.txt") == 0o600  # was there before
    assert set(modes.values()) == {0o666 & ~mask}


def tied(model) -> set[frozenset[str]]:
    """Groups of names that are one parameter."""
    groups: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), set()).add(name)
    return {frozenset(names) for names in groups.values() if len(names) > 1}


def test_sites_types_shards_resized_and_tied_weights_load_as_saved(family, tmp_path):
    stock = tiny(family)
    if family != "bert2bert":  # whose two embeddings are resized one by one
        stock.resize_token_embeddings(67)
    stock.save_pretrained(tmp_path / "stock")  # `.to` rounds rotary tables too, which no folder holds
    model = type(stock).from_pretrained(tmp_path / "stock", dtype=torch.bfloat16).eval()
    attach(model, ["gate", {"temperature": {"per": "model"}}], where={"layers": "1"})
    nudge(variant_parameters(model).values())
    save(model, tmp_path, max_shard_size="8KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    again = load(tmp_path)
    assert [s.site.name for _, s in attached(again) if len(s)] == [
        s.site.name for _, s in attached(model) if len(s)
    ]
    assert tied(again) == tied(model)
    assert again.dtype == torch.bfloat16
    assert {p.dtype for p in variant_parameters(again).values()} == {torch.float32}
    assert torch.equal(logits(again, padded(family).inputs), logits(model, padded(family).inputs))


def test_a_model_whose_weights_have_older_names_on_disk_loads(tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 29}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4)
    model = attach(transformers.ViTForImageClassification(config).eval(), "gate")
    nudge(variant_parameters(model).values())
    save(model, tmp_path)
    pixels = torch.randn(2, 3, 8, 8)
    ours = load(tmp_path)
    registered = transformers.AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        wanted = model(pixel_values=pixels).logits
        assert torch.equal(ours(pixel_values=pixels).logits, wanted)
        assert torch.equal(registered(pixel_values=pixels).logits, wanted)


def test_a_model_that_no_auto_class_of_a_job_has_is_found_by_auto_model(tmp_path):
    torch.manual_seed(0)
    sizes = {"d_model": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "ffn_dim": 13}
    lengths = {"context_length": 12, "prediction_length": 5, "patch_length": 4, "patch_stride": 4}
    config = transformers.PatchTSTConfig(**sizes, **lengths, norm_type="layernorm")
    model = attach(transformers.PatchTSTForPrediction(config).eval(), "gate")
    nudge(variant_parameters(model).values())
    save(model, tmp_path)
    past = torch.randn(2, 12, 1)
    again = transformers.AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        outputs = [one(past_values=past).prediction_outputs for one in (model, again)]
    assert torch.equal(*outputs)


LOADERS = [
    "transformers.AutoModelForTokenClassification.from_pretrained({0!r})",
    "transformers.BertForTokenClassification.from_pretrained({0!r})",
    "transformers.AutoModel.from_pretrained({0!r})",
    "transformers.AutoModel.from_pretrained({0!r}, trust_remote_code=True)",
    "transformers.AutoModel.from_pretrained({0!r}, attn_implementation='sdpa')",
    "transformers.pipeline('token-classification', {0!r})",
]


def test_plain_transformers_raises_in_a_fresh_process(tmp_path):
    ours, theirs = tmp_path / "save", tmp_path / "save_pretrained"
    save(trained("bert", "gate"), ours)
    trained("bert", "gate").save_pretrained(theirs)
    stock = tiny("bert")
    stock.save_pretrained(tmp_path / "stock")
    asked = [loader.format(str(theirs)) for loader in LOADERS[:4]]
    asked += [loader.format(str(ours)) for loader in LOADERS]  # trusting its code registers our kernel names
    asked += [LOADERS[0].format(str(tmp_path / "stock"))]
    lines = ["import transformers", "transformers.logging.set_verbosity_error()"]
    for loader in asked:
        lines += ["try:", f"    {loader}", "except Exception: pass", f"else: print('\\n' + {loader!r})"]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    assert [line for line in done.stdout.splitlines() if line in asked] == asked[
        -1:
    ]  # stock itself loads, so the others failed by themselves


def test_with_the_package_imported_a_stock_class_still_raises_before_it_answers(tmp_path):
    save(trained("bert", "gate"), tmp_path)
    with pytest.raises((ValueError, RuntimeError)):
        type(tiny("bert")).from_pretrained(tmp_path)(**padded("bert").inputs)
    save_pretrained = tmp_path / "plain"
    trained("bert", "gate").save_pretrained(save_pretrained)
    model = type(tiny("bert")).from_pretrained(save_pretrained)
    with pytest.raises(ValueError, match="nothing is attached"):
        model(**padded("bert").inputs)


def test_a_folder_without_variants_or_with_wrong_weights_is_refused(tmp_path):
    with pytest.raises(VariantError, match=r"no config\.json"):
        load(tmp_path)
    tiny("bert").save_pretrained(tmp_path)
    assert not is_saved(tmp_path)
    with pytest.raises(VariantError, match="it is stock"):
        load(tmp_path)
    with pytest.raises(VariantError, match="no variant is attached"):
        save(attach(tiny("bert"), []), tmp_path)
    save(trained("bert", "gate"), tmp_path)
    assert is_saved(tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    values["attnlab"]["variants"] = [["temperature", {}]]
    path.write_text(json.dumps(values))
    with pytest.raises(VariantError, match="do not fit"):
        load(tmp_path)
