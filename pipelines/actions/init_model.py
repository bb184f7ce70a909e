"""The model section that `attnlab init --model` writes: a small one from scratch, or a pretrained one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.config.suggestions import perhaps
from pipelines.errors import UserError
from pipelines.hub import mirror
from pipelines.registry import catalog

ENCODER = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 512,
}
MODELS: Mapping[str, dict[str, Any]] = {
    "bert": {
        "architecture": "bert",
        "family": "encoder",
        "config": ENCODER,
    },
    "gpt2": {
        "architecture": "gpt2",
        "family": "decoder",
        "config": {"n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 512},
    },
    "t5": {
        "architecture": "t5",
        "family": "encoder_decoder",
        "config": {"d_model": 128, "d_kv": 32, "num_layers": 2, "num_heads": 4, "d_ff": 512},
    },
    "vit": {
        "architecture": "vit",
        "family": "encoder",
        "config": {"image_size": 24, "patch_size": 8, "num_channels": 1, **ENCODER},
    },
    "ast": {
        "architecture": "audio-spectrogram-transformer",
        "family": "encoder",
        "config": {"max_length": 23, "num_mel_bins": 64, **ENCODER},
    },
    "patchtst": {
        "architecture": "patchtst",
        "family": "encoder",
        "config": {
            "d_model": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "ffn_dim": 128,
            "patch_length": 16,
            "patch_stride": 8,
            "norm_type": "layernorm",
        },
    },
}
READS = {"vit": "image", "ast": "audio", "patchtst": "series"}  # every other model reads text
# Parts of the names of pretrained models, for those whose config.json is not on this machine.
FAMILIES: Mapping[str, str] = {
    "encoder_decoder": "t5 bart mbart marian opus pegasus nllb m2m100 led prophetnet flan ul2 byt5 mt5",
    "decoder": "gpt gpt2 llama qwen qwen2 qwen3 mistral mixtral opt pythia bloom phi gemma smollm falcon neo",
}


def able_models(task: catalog.Entry) -> list[str]:
    """Return the names in `MODELS` that can learn a task."""
    families, reads = catalog.families(task), task.attributes.get("reads", "text")
    return [
        name
        for name, settings in MODELS.items()
        if (settings["family"] in families or not families) and READS.get(name, "text") == reads
    ]


def model_section(task: catalog.Entry, model: str | None) -> tuple[dict[str, Any], list[str]]:
    """Return the model section for a task, and comments on how it was chosen.

    Args:
        model: a name in `MODELS`, a folder or a Hub id; None: the first of `MODELS` that can learn the task.

    Raises:
        UserError: it is none of these, or it cannot learn the task.
    """
    able = able_models(task)
    model = model or able[0]
    if model in able:
        return dict(MODELS[model]), []
    if model in MODELS:
        fix = f"models: {', '.join(able)}"
        raise UserError("--model", f"{model} cannot learn {task.name}", accepted=fix)
    if os.path.isdir(model) or re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        return _pretrained(task, model)
    fix = f"{perhaps(model, MODELS, 'models')}; or name a folder, or a model of the Hub as ORG/NAME"
    raise UserError("--model", f"unknown model {model!r}", accepted=fix)


def _pretrained(task: catalog.Entry, model: str) -> tuple[dict[str, Any], list[str]]:
    """Return the section of a pretrained model.

    Raises:
        UserError: a folder without config.json, or a family that the task has no model class for.
    """
    config = _config(model)
    family = _family_of(config) if config is not None else _family_by_name(model)
    known = "its config.json" if config is not None else "its name, as its config.json is not here: check it"
    families = catalog.families(task)
    if families and family not in families:
        what = f"{model} is of the family {family}, which cannot learn {task.name}"
        raise UserError("--model", what, accepted=f"a model of the family {' or '.join(families)}")
    return {"name": model, "family": family}, [f"model.family {family}: by {known}."]


def _config(model: str) -> dict[str, Any] | None:
    """Return the config.json of a folder, or of a Hub model in mirror or cache; None where it is not here.

    Raises:
        UserError: a folder without one, or one that is not JSON.
    """
    mirrored = mirror.find("models", model)
    file: object = Path(mirrored.folder if mirrored else model, "config.json")
    if not os.path.isdir(model) and not mirrored:
        from huggingface_hub import try_to_load_from_cache

        file = try_to_load_from_cache(model, "config.json")
    elif not os.path.isfile(str(file)):
        raise UserError("--model", "the folder has no config.json", model, "name the folder of a model")
    if not isinstance(file, str | Path):
        return None
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise UserError(str(file), "is not a JSON object", accepted="fetch the model again")
    return found


def _family_of(config: Mapping[str, Any]) -> str:
    """Return the family that a config states, by its class names where it does not say."""
    classes = " ".join(map(str, config.get("architectures") or []))
    if config.get("is_encoder_decoder"):
        return "encoder_decoder"
    if config.get("is_decoder") or re.search("CausalLM|LMHead|DoubleHeads", classes):
        return "decoder"
    if re.search("MaskedLM|PreTraining", classes):
        return "encoder"
    return _family_by_name(str(config.get("model_type", "")))


def _family_by_name(name: str) -> str:
    words = set(re.findall(r"[a-z]+\d*[a-z]*(?=[\W_]|$)|[a-z]+", name.lower()))
    return next((family for family, parts in FAMILIES.items() if words & set(parts.split())), "encoder")
