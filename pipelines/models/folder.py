"""Check that a folder holds a model that can be loaded, before anything is read from it."""

from __future__ import annotations

from pathlib import Path

from pipelines.errors import UserError
from pipelines.hub.fetch import model_source
from pipelines.storage import reading

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
AGAIN = "download or save the model again"  # what mends a damaged file of a model
SAFE = "*.safetensors"
POINTER = b"version https://git-lfs"  # how a file begins that Git has not fetched
MOST_INNER = 3  # folders in one sentence
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
OTHERS = {"*.gguf": "GGUF", "*.h5": "TensorFlow", "*.msgpack": "Flax"}
CONVERT = (
    "load it where you trust it, and save it again: "
    "AutoModel.from_pretrained(folder).save_pretrained(folder) writes model.safetensors "
    "(take the class with the head that you want to keep)"
)


def model_folder(name: str) -> str:
    """Return what transformers loads a model from: a Hub id, or a folder that holds a whole model.

    Raises:
        UserError: the folder holds no model, or one in a form that is not loaded.
    """
    source = model_source(name)
    folder = Path(source)
    if folder.is_dir():
        _require_whole(folder, name)
    return source


def _require_whole(folder: Path, name: str) -> None:
    if (folder / ADAPTER).is_file():
        adapter = reading.json_object(folder / ADAPTER, AGAIN)
        base = adapter.get("base_model_name_or_path", "its base model")
        what = f"the folder holds an adapter of {base} ({ADAPTER}), not a model"
        fix = "merge it: PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(other)"
        raise _refused(what, name, fix)
    weights = sorted(path.name for path in folder.glob(SAFE))
    if not weights:
        _refuse_other_forms(folder, name)
    config = reading.json_object_if_there(folder / CONFIG, AGAIN)
    if config is None:
        inner = sorted(
            path.parent for path in folder.glob(f"*/{CONFIG}")
        )  # of runs, and of Trainer's checkpoints
        fix = (
            f"name {' or '.join(map(str, inner[:MOST_INNER]))}" if inner else "name the folder that holds it"
        )
        raise _refused(f"the folder has no {CONFIG}", name, fix)
    if not config.get("model_type"):
        fix = 'state it there, such as "model_type": "bert"'
        raise _refused(f"{CONFIG} does not say which architecture it is (no model_type)", name, fix)
    if not weights:
        raise _refused("the folder has no weights", name, "name one with model.safetensors")
    for file in weights:
        with (folder / file).open("rb") as stream:
            if stream.read(len(POINTER)) == POINTER:
                what = f"{file} is a Git LFS pointer, not the weights"
                raise _refused(
                    what, name, "run git lfs pull in the folder, or download the model with hf download"
                )


def _refuse_other_forms(folder: Path, name: str) -> None:
    """Refuse weights that are there in another form; pickles can run code when they are read."""
    for pattern in PICKLES:
        found = sorted(path.name for path in folder.glob(pattern) if path.name != "training_args.bin")
        if found:
            what = f"its weights are pickles ({found[0]}), which can run code when they are read"
            raise _refused(what, name, CONVERT)
    for pattern, form in OTHERS.items():
        found = sorted(path.name for path in folder.glob(pattern))
        if found:
            fix = "name a folder with model.safetensors and config.json"
            raise _refused(f"its weights are of the form {form} ({found[0]}), which is not loaded", name, fix)


def _refused(what: str, name: str, fix: str) -> UserError:
    return UserError("model.name", what, name, fix)
