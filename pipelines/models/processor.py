"""What stands between data and model: a tokenizer, an image processor, a feature extractor or nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import transformers

from pipelines.config.load import RunConfig
from pipelines.errors import UserError
from pipelines.hub.fetch import model_source
from pipelines.models.build import cannot_load, known_config
from pipelines.models.tokenizer import train_tokenizer
from pipelines.tasks.base import Example, Task


def load_processor(config: RunConfig, task: Task, train: Sequence[Example] = ()) -> Any:
    """The model's own processor, or one for a model from scratch; a tokenizer is trained on the rows `train`.

    Raises:
        UserError: the folder or Hub id has none that can be loaded.
    """
    kind = KINDS[task.reads]
    named = config.model.tokenizer or config.model.name
    source = named and model_source(named)
    if source is None:
        return kind.from_scratch(config, task, train)
    if kind.auto_class is None:
        return None
    try:
        auto_class = getattr(transformers, kind.auto_class)
        return auto_class.from_pretrained(source, revision=config.model.revision, **kind.options)
    except (OSError, ValueError) as error:
        raise cannot_load(kind.word, named, error) from error


def _tokenizer(config: RunConfig, task: Task, train: Sequence[Example]) -> Any:
    processor = train_tokenizer(config.model.family, task.texts(train), config.model.vocab_size)
    positions = getattr(known_config(config.model), "max_position_embeddings", None)
    processor.model_max_length = positions or processor.model_max_length
    return processor


def _image_processor(config: RunConfig, task: Task, train: Sequence[Example]) -> Any:
    """Pictures of the model's own size and channels, values from -1 to 1."""
    model = known_config(config.model)
    if not hasattr(model, "image_size"):
        raise _reads_no("image", config)
    side, centre = model.image_size, [0.5] * model.num_channels
    size = {"height": side, "width": side} if isinstance(side, int) else dict(zip(("height", "width"), side))
    return transformers.ViTImageProcessorPil(size=size, image_mean=centre, image_std=centre)


def _feature_extractor(config: RunConfig, task: Task, train: Sequence[Example]) -> Any:
    """The architecture's own feature extractor, with the sizes that its config says."""
    model = known_config(config.model)
    try:
        kind = transformers.FEATURE_EXTRACTOR_MAPPING[type(model)]
    except KeyError as error:
        raise _reads_no("audio", config) from error
    options = inspect.signature(kind.__init__).parameters
    return kind(**{name: getattr(model, name) for name in options if hasattr(model, name)})


def _reads_no(medium: str, config: RunConfig) -> UserError:
    return UserError(
        "model.architecture", f"reads no {medium}, which the task needs", config.model.architecture
    )


@dataclass(frozen=True)
class InputKind:
    """Where the processor of one kind of input comes from."""

    word: str  # what a user calls it
    auto_class: str | None  # of transformers; None: the model takes the numbers of the data as they are
    from_scratch: Callable[[RunConfig, Task, Sequence[Example]], Any]
    options: Mapping[str, Any]


KINDS: Mapping[str, InputKind] = {
    "text": InputKind("tokenizer", "AutoTokenizer", _tokenizer, {"use_fast": True, "add_prefix_space": True}),
    # Pillow resizes the same everywhere and needs no torchvision, which must fit torch to the build.
    "image": InputKind("image processor", "AutoImageProcessor", _image_processor, {"backend": "pil"}),
    "audio": InputKind("feature extractor", "AutoFeatureExtractor", _feature_extractor, {}),
    "series": InputKind("processor", None, lambda config, task, train: None, {}),
}
