"""The lines that load a pushed model. The card shows them, and the load check runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ModelKind = Literal["stock", "folded", "custom"]  # custom: its attention needs code of its own

# The processor of a model's inputs, by the class that loads the model; any other class has a tokenizer.
PROCESSORS = {
    "AutoModelForImageClassification": ("image_processor", "AutoImageProcessor"),
    "AutoModelForAudioClassification": ("feature_extractor", "AutoFeatureExtractor"),
    # Series are plain numbers. No Auto class loads a PatchTST, so with custom attention it is an AutoModel.
    "PatchTSTForPrediction": None,
    "AutoModel": None,
}


@dataclass(frozen=True)
class Way:
    """One way to load a model: what it needs, and the lines."""

    name: str  # "plain", "trusted" or "registered"
    needs: str  # a sentence of the card
    code: str
    standalone: bool  # works where attnlab is not installed


def ways(kind: str, auto_class: str, source: str, revision: str | None) -> list[Way]:
    """Return every way to load a model of a `ModelKind` from `source`, a Hub id or a folder."""
    if kind != "custom":
        return [Way("plain", "It needs only transformers.", _lines(auto_class, source, revision), True)]
    trusted = _lines(auto_class, source, revision, trust=True)
    plain = _lines(auto_class, source, revision)
    registered = f"import custom_attention  # registers this architecture\n{plain}"
    return [
        Way(
            "trusted",
            "With the code of this repository, which is one file you can read first:",
            trusted,
            standalone=True,
        ),
        Way(
            "registered",
            "With attnlab installed, and no code from this repository:",
            registered,
            standalone=False,
        ),
    ]


def _lines(auto_class: str, source: str, revision: str | None, *, trust: bool = False) -> str:
    pinned = f', revision="{revision}"' if revision else ""
    trusting = ", trust_remote_code=True" if trust else ""
    processor = PROCESSORS.get(auto_class, ("tokenizer", "AutoTokenizer"))
    imported = ", ".join(sorted([auto_class] if processor is None else [auto_class, processor[1]]))
    lines = [
        f"from transformers import {imported}\n",
        f'model = {auto_class}.from_pretrained("{source}"{pinned}{trusting})',
    ]
    if processor is not None:
        lines.append(f'{processor[0]} = {processor[1]}.from_pretrained("{source}"{pinned})')
    return "\n".join(lines) + "\n"
