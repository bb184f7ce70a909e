"""A pushed model loads without attnlab, by the lines of its card, with the outputs of the trained model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import custom_attention
from pipelines.cli import main
from pipelines.config.load import run_from_dict
from pipelines.hub.secrets import NAMED_SECRET
from pipelines.models.encoder_pair import EncoderPair
from pipelines.models.tokenizer import train_tokenizer
from pipelines.publish import load_check
from pipelines.publish.loading_code import Way
from pipelines.runs import identity
from tests.pipelines import stored_ablation
from tests.pipelines.hub.conftest import know_only
from tests.pipelines.hub.double import Hub
from tests.pipelines.publish import load_pushed_process

BERT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 29}
GPT2 = {"n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 64}
T5 = {"d_model": 24, "d_kv": 7, "num_layers": 2, "num_heads": 3, "d_ff": 29}
AUTO: dict[str, Any] = {
    "ner": transformers.AutoModelForTokenClassification,
    "language_modelling": transformers.AutoModelForCausalLM,
    "translation": transformers.AutoModelForSeq2SeqLM,
    "bert2bert": EncoderPair,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {  # name -> (task, model section)
    "ner": ("ner", {"architecture": "bert", "family": "encoder", "config": BERT}),
    "language_modelling": (
        "language_modelling",
        {"architecture": "gpt2", "family": "decoder", "config": GPT2},
    ),
    "translation": ("translation", {"architecture": "t5", "family": "encoder_decoder", "config": T5}),
    "bert2bert": ("translation", {"architecture": "bert", "family": "encoder", "config": BERT}),
}
VARIANTS = {"folded": "temperature", "custom": "gate"}
TEXTS = ["a reader of the card loads the model", "what was trained is what they get"] * 3

Pushed = tuple[Hub, dict[str, str]]  # the Hub, and repository -> staged folder


def trained(folder: Path, name: str, kind: str) -> Path:
    """Write a finished run whose model has a variant with random parameters, far from stock."""
    task, section = MODELS[name]
    data = {"generated": {"name": task, "train": 30, "validation": 20, "test": 60}}
    attention = [VARIANTS[kind]]
    config = run_from_dict(
        {"task": task, "data": data, "model": section, "attention": attention, "max_steps": 4}
    )
    tokenizer = train_tokenizer(section["family"], iter(TEXTS), 300)
    sizes = {**section["config"], "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    sizes |= {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0}
    torch.manual_seed(len(name))
    model = AUTO[name].from_config(transformers.AutoConfig.for_model(section["architecture"], **sizes))
    custom_attention.attach(model, attention)
    with torch.no_grad():
        for parameter in custom_attention.variant_parameters(model).values():
            parameter.normal_(std=0.7)
    stored_ablation.finish(folder, config, identity.describe(config))
    (folder / "model" / "model.safetensors").unlink()
    custom_attention.save(model.eval(), folder / "model")
    tokenizer.save_pretrained(folder / "model")
    stored_ablation.list_again(folder)
    return folder


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    """Every model pushed to one Hub."""
    root = tmp_path_factory.mktemp("pushed")
    checked: list[int] = []
    with pytest.MonkeyPatch.context() as patch, Hub(chunk_bytes=60_000) as hub:
        know_only(hub, root, patch)
        check_loading = load_check.check_loading

        def check_each_kind_once(folder: Path, ways: list[Way]) -> dict[str, float]:
            """A fresh process costs seven seconds; the fixture `alone` loads all models in one."""
            if len(ways) in checked:
                return {way.name: 0.0 for way in ways}
            checked.append(len(ways))
            return check_loading(folder, ways)

        patch.setattr(load_check, "check_loading", check_each_kind_once)
        folders = {}
        for name in MODELS:
            for kind in VARIANTS:
                repo = f"lab/{name.replace('_', '-')}-{kind}"
                run = trained(root / f"{name}-{kind}", name, kind)
                assert main.main(["push", str(run), repo]) == 0
                [folders[repo]] = [str(path) for path in (run / "hub").iterdir() if path.is_dir()]
        assert sorted(checked) == [1, 2]
        yield hub, folders


@pytest.fixture(scope="module")
def without_attnlab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with all packages of this one except attnlab."""
    home = tmp_path_factory.mktemp("without-attnlab")
    venv.create(home, with_pip=False)
    [packages] = home.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]  # whose own .pth are not read
    (packages / "others.pth").write_text("\n".join(others) + "\n")
    return home / "bin" / "python"


@pytest.fixture(scope="module")
def alone(pushed: Pushed, without_attnlab: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The differences of models loaded with an empty cache and no token, without attnlab, then with it."""
    hub, folders = pushed
    home = tmp_path_factory.mktemp("empty-cache")
    environment = {name: value for name, value in os.environ.items() if not NAMED_SECRET.search(name)}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    request = {"repos": folders, "sources": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [without_attnlab, "-I", load_pushed_process.__file__],
        input=json.dumps(request),
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", VARIANTS)
@pytest.mark.parametrize("name", MODELS)
def test_without_attnlab_the_pushed_weights_load_exactly(
    alone: dict[str, dict[str, float]], name: str, kind: str
) -> None:
    found = alone[f"lab/{name.replace('_', '-')}-{kind}" + " alone"]
    assert found["to_folder"] == 0.0
    assert found["to_trained"] <= (1e-5 if kind == "folded" else 0.0)


@pytest.mark.parametrize("name", MODELS)
def test_with_attnlab_no_code_from_the_hub_is_needed(alone: dict[str, dict[str, float]], name: str) -> None:
    found = alone[f"lab/{name.replace('_', '-')}-custom registered"]
    assert found == {"to_folder": 0.0, "to_trained": 0.0}


@pytest.mark.parametrize("name", MODELS)
def test_a_folded_model_is_stock_and_brings_no_code(pushed: Pushed, name: str) -> None:
    hub, _ = pushed
    files = hub.repos[f"models/lab/{name.replace('_', '-')}-folded"].refs["main"].files
    config = json.loads(files["config.json"])
    assert not [file for file in files if file.endswith(".py")]
    assert "attnlab" not in json.dumps({k: v for k, v in config.items() if k != "_name_or_path"})


def test_other_files_of_a_model_folder_are_not_sent(pushed: Pushed) -> None:
    hub, _ = pushed
    for repo in hub.repos.values():
        names = repo.refs["main"].files
        assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
