"""Checkpoints that are unusual in one way, each a change of an ordinary one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.zoo.families import FAMILIES, save

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Quirk:
    """A change of a checkpoint.

    Attributes:
        change: what is done to the folder of the checkpoint.
        refused: part of the sentence by which attnlab refuses it; "": it must be equal to transformers.
        options: options of the task.
    """

    family: str
    task: str
    change: Callable[[Path], None]
    refused: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> Path:
        """Write the checkpoint."""
        save(FAMILIES[self.family], self.task, folder)
        self.change(folder)
        return folder


def _edit(file: str, **entries: Any) -> Callable[[Path], None]:
    """Set entries of a JSON file; None removes one, and a file that is missing is made."""

    def change(folder: Path) -> None:
        path = folder / file
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        found |= entries
        kept = {name: value for name, value in found.items() if value is not None}
        path.write_text(json.dumps(kept), encoding="utf-8")

    return change


def _both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def _weights(edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        save_file(edit(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})

    return change


def _of_type(dtype: torch.dtype) -> Callable[[Path], None]:
    return _both(
        _weights(lambda found: {name: weight.to(dtype) for name, weight in found.items()}),
        _edit("config.json", dtype=str(dtype).removeprefix("torch.")),
    )


def _resized(rows: int) -> Callable[[Path], None]:
    """Give the embedding so many rows more (or fewer) than the tokenizer has ids."""

    def change(folder: Path) -> None:
        model = _model(folder)
        torch.manual_seed(0)
        model.resize_token_embeddings(model.config.vocab_size + rows, mean_resizing=False)
        model.save_pretrained(folder)

    return change


def _model(folder: Path) -> Any:
    [name] = transformers.AutoConfig.from_pretrained(folder).architectures
    return getattr(transformers, name).from_pretrained(folder)


def _sharded(folder: Path) -> None:
    model = _model(folder)
    (folder / WEIGHTS).unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1


def _other_order(folder: Path) -> None:
    """Turn the order of the labels around, with the rows of the head."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    names = list(config["id2label"].values())[::-1]
    config["id2label"] = {str(number): name for number, name in enumerate(names)}
    config["label2id"] = {name: number for number, name in enumerate(names)}
    path.write_text(json.dumps(config), encoding="utf-8")
    _weights(
        lambda found: {
            name: weight.flip(0) if name.startswith("classifier.") else weight
            for name, weight in found.items()
        }
    )(folder)


def _wrapped(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"module.{name}": weight for name, weight in found.items()}


def _no_generation_config(folder: Path) -> None:
    (folder / "generation_config.json").unlink()


OWN_SEARCH = {"num_beams": 4, "min_length": 11, "max_length": 60, "no_repeat_ngram_size": 1}
OWN_SEARCH |= {"length_penalty": 2.0, "early_stopping": True}
SAMPLING = {"do_sample": True, "temperature": 0.3, "top_p": 0.5, "top_k": 5, "repetition_penalty": 1.7}
NO_LIMIT = _edit("tokenizer_config.json", model_max_length=None)
NO_START = _both(
    _edit("config.json", decoder_start_token_id=None),
    _edit("generation_config.json", decoder_start_token_id=None),
)


def _newer_tokenizer(folder: Path) -> None:
    """Give the tokenizer a model of a kind that the installed library does not know."""
    path = folder / "tokenizer.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    stored["model"]["type"] = "Trie"
    path.write_text(json.dumps(stored), encoding="utf-8")


QUIRKS: Mapping[str, Quirk] = {
    "float16 weights": Quirk("bert", "ner", _of_type(torch.float16)),
    "bfloat16 weights": Quirk("t5", "translation", _of_type(torch.bfloat16)),
    "sharded": Quirk("roberta", "text_classification", _sharded),
    "keys begin with module.": Quirk("electra", "ner", _weights(_wrapped), "no weight of"),
    "keys begin with module. (decoder)": Quirk("llama", "translation", _weights(_wrapped), "no weight of"),
    "tokenizer larger than the embedding": Quirk("gpt2", "language_modelling", _resized(-9), "embedding"),
    "tokenizer smaller than the embedding": Quirk("bart", "summarization", _resized(27)),
    "no stated maximum": Quirk("bert", "question_answering", NO_LIMIT),
    "no stated maximum, longer inputs": Quirk(
        "bert", "question_answering", NO_LIMIT, "task.max_len", {"max_len": 200}
    ),
    "no stated maximum, offset positions": Quirk(
        "xlm-roberta", "text_classification", NO_LIMIT, "at most 128", {"max_len": 129}
    ),
    "no stated maximum (decoder)": Quirk(
        "gpt2", "summarization", NO_LIMIT, "at most 128", {"max_source_len": 100, "max_target_len": 40}
    ),
    "labels in another order": Quirk("bert", "ner", _other_order),
    "classes in another order": Quirk("distilbert", "text_classification", _other_order),
    "a search of its own": Quirk("t5", "summarization", _edit("generation_config.json", **OWN_SEARCH)),
    "a search of its own in config.json": Quirk(
        "pegasus", "summarization", _both(_no_generation_config, _edit("config.json", **OWN_SEARCH))
    ),
    "sampling of its own": Quirk("llama", "summarization", _edit("generation_config.json", **SAMPLING)),
    "no decoder_start_token_id": Quirk("t5", "translation", NO_START, "decoder_start_token_id"),
    "no decoder_start_token_id (bert2bert)": Quirk(
        "bert2bert", "translation", NO_START, "decoder_start_token_id"
    ),
    # It would follow from each label: any one token is another than what transformers trains with.
    "no decoder_start_token_id (mBART)": Quirk("mbart-50", "translation", NO_START, "decoder_start_token_id"),
    "no pad token": Quirk(
        "qwen",
        "text_classification",
        _both(_edit("tokenizer_config.json", pad_token=None), _edit("config.json", pad_token_id=None)),
    ),
    "no end token": Quirk(
        "llama",
        "language_modelling",
        _both(
            _edit("tokenizer_config.json", eos_token=None, tokenizer_class="TokenizersBackend"),
            _edit("config.json", eos_token_id=None),
        ),
        "no end token",
    ),
    "end token in the tokenizer alone": Quirk(
        "llama",
        "translation",
        _both(_edit("config.json", eos_token_id=None), _edit("generation_config.json", eos_token_id=None)),
    ),
    # What is no value of its entry, in a config or a tokenizer of someone else's making.
    "an activation that is none": Quirk(
        "bert", "ner", _edit("config.json", hidden_act="swishy"), "KeyError: 'swishy'"
    ),
    "sizes that do not fit": Quirk("bert", "ner", _edit("config.json", hidden_size=33), "not a multiple"),
    "padding beyond the embedding": Quirk(
        "llama", "language_modelling", _edit("config.json", pad_token_id=90_000), "Padding_idx"
    ),
    "a number as text": Quirk(
        "gpt2", "summarization", _edit("config.json", n_head="2"), "expected int, got str"
    ),
    "positions without end": Quirk(
        "qwen", "ner", _edit("config.json", max_position_embeddings=1e30), "expected int, got float"
    ),
    "several end tokens (classifier)": Quirk(
        "bart", "text_classification", _edit("config.json", eos_token_id=[2, 7]), "eq()"
    ),
    "several end tokens": Quirk("t5", "summarization", _edit("generation_config.json", eos_token_id=[1, 9])),
    "a precision that is none": Quirk("electra", "ner", _edit("config.json", dtype="float13"), "float13"),
    "a position table of another scaling": Quirk(
        "qwen", "translation", _edit("config.json", rope_scaling={"type": "curly", "factor": 2.0}), "curly"
    ),
    "quantized weights": Quirk(
        "llama",
        "language_modelling",
        _edit("config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        "take the entry that asks for it out",
    ),
    "a maximum that is none": Quirk(
        "roberta",
        "question_answering",
        _edit("tokenizer_config.json", model_max_length=-1),
        "tokenizer_config.json",
    ),
    "a maximum as text": Quirk(
        "bert", "ner", _edit("tokenizer_config.json", model_max_length="128"), "(got '128')"
    ),
    "outputs beside the logits": Quirk(
        "bert", "ner", _edit("config.json", output_attentions=True, output_hidden_states=True)
    ),
    "outputs beside the logits (encoder-decoder)": Quirk(
        "t5", "summarization", _edit("config.json", output_attentions=True, output_hidden_states=True)
    ),
    "a tokenizer of a newer version": Quirk("bert", "ner", _newer_tokenizer, "untagged enum"),
}
