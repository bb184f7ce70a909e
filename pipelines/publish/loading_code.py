"""The lines with which a stranger loads a pushed model. The card shows them, and the proof runs them."""

from __future__ import annotations

from dataclasses import dataclass

# What reads the inputs of a model, by the class that loads it; of any other it is a tokenizer.
PROCESSORS = {
    "AutoModelForImageClassification": ("image_processor", "AutoImageProcessor"),
    "AutoModelForAudioClassification": ("feature_extractor", "AutoFeatureExtractor"),
    # of series: plain numbers. No Auto class has it, so with other attention it is an AutoModel
    "PatchTSTForPrediction": None,
    "AutoModel": None,
}


@dataclass(frozen=True)
class Way:
    """One way to load a model: what it needs, and the lines."""

    name: str  # "plain", "trusted" or "registered"
    needs: str  # as a sentence of the card
    code: str
    without_us: bool  # works where neither custom_attention nor pipelines is installed


def ways(kind: str, auto_class: str, source: str, revision: str | None) -> list[Way]:
    """Every way to load a model of a kind ("stock", "folded" or "custom") from a Hub id or a folder."""
    if kind != "custom":
        return [Way("plain", "transformers is all it needs.", _lines(auto_class, source, revision), True)]
    trusted = _lines(auto_class, source, revision, trust=True)
    registered = "import custom_attention  # registers this architecture\n" + _lines(
        auto_class, source, revision
    )
    return [
        Way(
            "trusted",
            "With the code of this repository, which is one file you can read first:",
            trusted,
            True,
        ),
        Way("registered", "With attnlab installed, and no code from here:", registered, False),
    ]


def _lines(auto_class: str, source: str, revision: str | None, *, trust: bool = False) -> str:
    pinned = f', revision="{revision}"' if revision else ""
    trusting = ", trust_remote_code=True" if trust else ""
    reader = PROCESSORS.get(auto_class, ("tokenizer", "AutoTokenizer"))
    imported = ", ".join(sorted([auto_class] if reader is None else [auto_class, reader[1]]))
    lines = [
        f"from transformers import {imported}\n",
        f'model = {auto_class}.from_pretrained("{source}"{pinned}{trusting})',
    ]
    if reader is not None:
        lines.append(f'{reader[0]} = {reader[1]}.from_pretrained("{source}"{pinned})')
    return "\n".join(lines) + "\n"
