"""Load the processor of a model: a tokenizer, an image processor, a feature extractor or none."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import transformers
from transformers import PreTrainedTokenizerBase

from pipelines.config.load import RunConfig
from pipelines.errors import UserError
from pipelines.hub.address import split_revision
from pipelines.hub.fetch import model_source
from pipelines.models.build import cannot_load, known_config
from pipelines.models.folder import model_folder
from pipelines.models.tokenizer import train_tokenizer
from pipelines.models.tokenizer_fit import fit_to_model
from pipelines.storage.names import PROCESSOR_FILES
from pipelines.tasks.base import Example, Task

LEAST_WORDS = 2  # of a vocabulary; an empty one of SentencePiece has a piece for the blank


class Processor(Protocol):
    """A tokenizer, an image processor or a feature extractor of transformers."""

    def save_pretrained(self, save_directory: Path, /) -> object:
        """Write it into a folder, from which its Auto class loads it."""


def load_processor(config: RunConfig, task: Task, train: Sequence[Example] = ()) -> Processor | None:
    """Load the model's own processor, or make one for a model from scratch.

    Args:
        train: rows that a tokenizer from scratch is trained on.

    Returns:
        None where the model takes the numbers of the data as they are.

    Raises:
        UserError: the folder or Hub id has no processor that can be loaded.
    """
    kind = KINDS[task.reads]
    named = config.model.tokenizer or config.model.name
    if config.model.tokenizer:
        name, revision = split_revision(config.model.tokenizer)
        processor = _load(kind, name, model_source(name), revision)
    elif config.model.name:
        source = model_folder(config.model.name)
        processor = _load(kind, config.model.name, source, config.model.revision)
    else:
        processor = kind.from_scratch(config, task, train)
    if isinstance(processor, PreTrainedTokenizerBase):
        if named:
            _require_words(processor, named)
        fit_to_model(processor, config.model)
    return processor


def _load(kind: InputKind, named: str, source: str, revision: str | None) -> Processor | None:
    if kind.auto_class is None:
        return None
    folder = Path(source)
    if folder.is_dir() and not any((folder / name).is_file() for name in PROCESSOR_FILES):
        what = f"the folder has no {kind.word}"  # transformers would make one that knows no words
        other = ", or name a folder that has it as model.tokenizer" if kind.word == "tokenizer" else ""
        raise UserError("model.name", what, named, f"save the model's {kind.word} in it{other}")
    try:
        auto_class = getattr(transformers, kind.auto_class)
        loaded: Processor = auto_class.from_pretrained(
            source, revision=revision, trust_remote_code=False, **kind.options
        )
        return loaded
    except ImportError as error:
        needs = " ".join(str(error).split()).partition(". ")[0]
        what = f"the {kind.word} needs a package that is not installed: {needs}"
        raise UserError("model.name", what, named, "install it with pip") from error
    except Exception as error:  # the library of fast tokenizers raises bare ones
        raise cannot_load(kind.word, named, error) from error


def _require_words(tokenizer: PreTrainedTokenizerBase, named: str) -> None:
    """Refuse a tokenizer that transformers made without its vocabulary: all texts would be unknown tokens."""
    words = set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)
    if len(words) < LEAST_WORDS:
        fix = "put its vocabulary (such as tokenizer.json) back, or name another tokenizer as model.tokenizer"
        raise UserError("model.name", "the tokenizer knows no words", named, fix)


def _tokenizer(config: RunConfig, task: Task, train: Sequence[Example]) -> Processor:
    """Train a tokenizer on the rows."""
    return train_tokenizer(config.model.family, task.texts(train), config.model.vocab_size)


def _image_processor(config: RunConfig, task: Task, train: Sequence[Example]) -> Processor:
    """Make a processor that gives images of the model's size and channels, with values from -1 to 1."""
    model = known_config(config.model)
    if not hasattr(model, "image_size"):
        raise _reads_no("image", config)
    side, half = model.image_size, [0.5] * model.num_channels
    size = {"height": side, "width": side} if isinstance(side, int) else dict(zip(("height", "width"), side))
    return transformers.ViTImageProcessorPil(size=size, image_mean=half, image_std=half)


def _feature_extractor(config: RunConfig, task: Task, train: Sequence[Example]) -> Processor:
    """Make the architecture's own feature extractor, with the sizes of its config."""
    model = known_config(config.model)
    try:
        extractor: Any = transformers.FEATURE_EXTRACTOR_MAPPING[type(model)]
    except KeyError as error:
        raise _reads_no("audio", config) from error
    options = inspect.signature(extractor.__init__).parameters
    made: Processor = extractor(**{name: getattr(model, name) for name in options if hasattr(model, name)})
    return made


def _reads_no(medium: str, config: RunConfig) -> UserError:
    return UserError(
        "model.architecture", f"reads no {medium}, which the task needs", config.model.architecture
    )


@dataclass(frozen=True)
class InputKind:
    """How the processor of one kind of input is loaded or made."""

    word: str  # its name in messages
    auto_class: str | None  # of transformers; None: the model takes the numbers of the data as they are
    from_scratch: Callable[[RunConfig, Task, Sequence[Example]], Processor | None]
    options: Mapping[str, Any]


KINDS: Mapping[str, InputKind] = {
    "text": InputKind("tokenizer", "AutoTokenizer", _tokenizer, {}),
    # Pillow resizes the same everywhere. The other backend, torchvision, must match the build of torch.
    "image": InputKind("image processor", "AutoImageProcessor", _image_processor, {"backend": "pil"}),
    "audio": InputKind("feature extractor", "AutoFeatureExtractor", _feature_extractor, {}),
    "series": InputKind("processor", None, lambda config, task, train: None, {}),
}
