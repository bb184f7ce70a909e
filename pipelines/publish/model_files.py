"""The model of a run as it is pushed: stock, folded into stock weights, or with its own code."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import transformers

import custom_attention
from custom_attention.saving import is_saved
from pipelines.errors import UserError
from pipelines.models import saving
from pipelines.models.attention import variant_errors_as_user_errors
from pipelines.publish.load_check import write_probe
from pipelines.publish.loading_code import ModelKind
from pipelines.storage.names import PROCESSOR_FILES, WEIGHT_FILES
from pipelines.storage.run_folder import holds_model


@dataclass(frozen=True)
class StagedModel:
    """The kind of the model in a staged folder, and a sentence on whether it could be folded."""

    kind: ModelKind
    note: str = ""


def write(source: Path, target: Path) -> StagedModel:
    """Write the model of the folder `source` and its probe into `target`, folded if its variants allow it.

    Raises:
        UserError: `source` holds no model.
    """
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if not holds_model(source):
        what = "has no model: it was not kept, or an earlier version of attnlab wrote it"
        raise UserError(str(source), what, accepted="train the run again with --fresh")
    _copy(source, target, PROCESSOR_FILES)
    with variant_errors_as_user_errors():
        model = saving.load(source)
    write_probe(model, target)
    if not is_saved(source):
        _copy(source, target, WEIGHT_FILES)
        return StagedModel("stock")
    try:
        folded = custom_attention.fold(model)
    except custom_attention.VariantError as error:
        _copy(source, target, WEIGHT_FILES)
        return StagedModel("custom", f"Not folded, because it {error.what}.")
    model.save_pretrained(target)
    return StagedModel("folded", folded.sentence)


def auto_class(folder: Path, stock: str) -> str:
    """Return the Auto class that loads a staged folder: that of its own code, else `stock`."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # One model may be registered for several classes; AutoModel would load it without its head.
    own = [name for name in config.get("auto_map", {}) if name != "AutoConfig"]
    return min(own, key=lambda name: name == "AutoModel") if own else stock


def _copy(source: Path, target: Path, patterns: tuple[str, ...]) -> None:
    for path in sorted(path for path in source.iterdir() if path.is_file()):
        if any(fnmatch(path.name, pattern) for pattern in patterns):
            shutil.copyfile(path, target / path.name)
