"""A folder we wrote loads as exactly what was saved, or raises; never as stock attention."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from custom_attention import VariantError, attach, attached, load, save, variant_parameters
from custom_attention.saved import is_saved
from tests.custom_attention.conftest import arms, attach_where_possible
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


@pytest.mark.parametrize("arm", arms(), indirect=True)
def test_every_variant_comes_back(arm, tmp_path):
    model = attach_where_possible(tiny("bert"), arm, "bert")
    nudge(model.parameters(), size=0.02)
    again = load(save(model, tmp_path))
    assert torch.equal(logits(again, padded("bert").inputs), logits(model, padded("bert").inputs))


def test_compensated_weights_are_not_divided_again(tmp_path):
    model = trained("gpt2", {"unscaled": {"mode": "compensated"}})
    again = load(save(model, tmp_path))
    for (name, one), two in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two), name
    assert all(stack.weight_edits for _, stack in attached(again))


def test_sites_types_shards_and_resized_embeddings_come_back(tmp_path):
    model = tiny("t5").to(torch.bfloat16)
    model.resize_token_embeddings(67)
    attach(model, "gate", where={"kind": "cross", "layers": "1"})
    nudge(variant_parameters(model).values())
    save(model, tmp_path, max_shard_size="8KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    again = load(tmp_path)
    assert [s.site.name for _, s in attached(again) if len(s)] == [
        s.site.name for _, s in attached(model) if len(s)
    ]
    assert again.dtype == torch.bfloat16
    assert {p.dtype for p in variant_parameters(again).values()} == {torch.float32}
    assert torch.equal(logits(again, padded("t5").inputs), logits(model, padded("t5").inputs))


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
    asked = [loader.format(str(ours)) for loader in LOADERS]
    asked += [loader.format(str(theirs)) for loader in LOADERS[:4]]
    asked += [LOADERS[0].format(str(tmp_path / "stock"))]
    lines = ["import transformers", "transformers.logging.set_verbosity_error()"]
    for loader in asked:
        lines += ["try:", f"    {loader}", "except Exception: pass", f"else: print({loader!r})"]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == asked[-1:]  # stock itself loads, so the others failed by themselves


def test_with_the_package_imported_a_stock_class_still_raises_before_it_answers(tmp_path):
    save(trained("bert", "gate"), tmp_path)
    with pytest.raises((ValueError, RuntimeError)):
        type(tiny("bert")).from_pretrained(tmp_path)(**padded("bert").inputs)
    save_pretrained = tmp_path / "plain"
    trained("bert", "gate").save_pretrained(save_pretrained)
    model = type(tiny("bert")).from_pretrained(save_pretrained)
    with pytest.raises(ValueError, match="not reached"):
        model(**padded("bert").inputs)


def test_what_is_not_ours_or_does_not_fit_is_refused(tmp_path):
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
