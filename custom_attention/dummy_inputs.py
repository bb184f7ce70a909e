"""Make up a batch for a model, from its config and the arguments of its forward."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from custom_attention.errors import VariantError
from custom_attention.modes import quiet

BATCH, TEXT_LEN, TARGET_LEN, SAMPLES = 2, 7, 5, 3200


def made_up_example(model: PreTrainedModel) -> dict[str, Any]:
    """Return a small batch of two different examples that `model` runs on.

    First only the main input and required ones are tried, then all inputs that the forward accepts, in the
    usual shapes.

    Raises:
        VariantError: the model ran on none of them; the message has the error of the first.
    """
    failure: Exception | None = None
    with quiet(model), torch.no_grad():
        for batch in _batches_to_try(model):
            try:
                model(**batch)
            except Exception as error:  # any model, any shape: the next one may run
                failure = failure or error
            else:
                return batch
    what = f"no example can be made up for `{', '.join(_main_inputs(model))}`"
    if failure is not None:
        what += f" (its forward stopped with {type(failure).__name__}: {failure})"
    raise VariantError(type(model).__name__, what, accepted="pass example= with a batch, a dict of tensors")


def _batches_to_try(model: PreTrainedModel) -> Iterator[dict[str, Any]]:
    accepted = inspect.signature(model.forward).parameters
    sizes = _Sizes(model)
    known = [name for name in accepted if name in _SHAPES]
    required = [name for name in known if accepted[name].default is inspect.Parameter.empty]
    main = [name for name in _main_inputs(model) if name in _SHAPES]
    decoder = _decoder_inputs(sizes, accepted)
    plain: dict[str, Any] = {"use_cache": False} if "use_cache" in accepted else {}
    tried: list[dict[str, tuple[int, ...] | None]] = []
    for names in (dict.fromkeys(main + required), dict.fromkeys(main + known)):
        for shapes in itertools.islice(itertools.product(*(_SHAPES[name] for name in names)), 8):
            made = {name: sizes.make(shape) for name, shape in zip(names, shapes)}
            made_shapes = {name: None if t is None else tuple(t.shape) for name, t in made.items()}
            if names and None not in made_shapes.values() and made_shapes not in tried:
                tried.append(made_shapes)
                yield made | decoder | plain
                if decoder:  # T5 and BART with a head for a whole text make the decoder's input themselves
                    yield made | plain


def _main_inputs(model: PreTrainedModel) -> list[str]:
    # transformers declares a name, but some models have a list of names.
    names: Any = model.main_input_name
    return [names] if isinstance(names, str) else list(names)


def _decoder_inputs(sizes: _Sizes, accepted: Mapping[str, inspect.Parameter]) -> dict[str, Tensor]:
    if "decoder_input_ids" in accepted and sizes.get("is_encoder_decoder"):
        vocabulary = getattr(sizes.get("decoder"), "vocab_size", None) or sizes.text("vocab_size")
        return {"decoder_input_ids": sizes.ids(TARGET_LEN, vocabulary)} if vocabulary else {}
    if "future_time_features" in accepted and sizes.get("prediction_length"):
        steps = sizes.get("prediction_length")
        features = sizes.noise(steps, sizes.get("num_time_features"))
        return {"future_values": sizes.noise(steps), "future_time_features": features}
    if "encoder_hidden_states" in accepted and sizes.get("add_cross_attention"):
        width = sizes.get("cross_attention_hidden_size") or sizes.get("hidden_size")
        return {"encoder_hidden_states": sizes.noise(6, width)}
    return {}


class _Sizes:
    """The sizes in a config and in the configs inside it, and tensors of these sizes."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.config, self.device, self.dtype = model.config, model.device, model.dtype
        self.generator = torch.Generator().manual_seed(0)
        inner = [value for value in vars(self.config).values() if hasattr(value, "model_type")]
        self.configs = [self.config, *inner]

    def get(self, *names: str, default: Any = None) -> Any:
        """Return the first value of these names that the config, or one inside it, has."""
        for config in self.configs:
            for name in names:
                value = getattr(config, name, None)
                if value is not None:
                    return value
        return default

    def text(self, name: str) -> Any:
        """Return a value of the text part of the config."""
        return getattr(self.config.get_text_config(), name, None) or self.get(name)

    def make(self, shape: Callable[[_Sizes], Tensor]) -> Tensor | None:
        """Return the tensor, or None if the config lacks the sizes for it."""
        try:
            return shape(self)
        except (TypeError, ValueError):
            return None

    def noise(self, *shape: int) -> Tensor:
        """Return normal random numbers of shape (batch, *shape)."""
        return torch.randn(BATCH, *shape, generator=self.generator).to(self.device, self.dtype)

    def ids(self, length: int, vocab_size: int) -> Tensor:
        """Return token ids, the end of the sequence last and only there, because some heads look for it."""
        made = torch.randint(min(5, vocab_size - 1), vocab_size, (BATCH, length), generator=self.generator)
        eos = self.text("eos_token_id")
        if isinstance(eos, int) and 0 <= eos < vocab_size:
            made[made == eos] = vocab_size - 1 if eos != vocab_size - 1 else vocab_size - 2
            made[:, -1] = eos
        return made.to(self.device)

    def history(self) -> int:
        """Return the steps of a time series that a model with lagged inputs reads."""
        return self.get("context_length") + max(self.get("lags_sequence"))

    def image(self) -> tuple[int, int, int]:
        """Return channels, height and width of an image."""
        side = self.get("image_size", "input_size", "img_size", default=224)
        height, width = (side, side) if isinstance(side, int) else tuple(side)[-2:]
        return self.get("num_channels", "in_channels", "in_chans", default=3), height, width


# The usual shapes of each input, most common first.
_SHAPES: dict[str, list[Callable[[_Sizes], Tensor]]] = {
    "input_ids": [lambda f: f.ids(TEXT_LEN, f.text("vocab_size"))],
    "bbox": [lambda f: torch.tensor([1, 2, 3, 4], device=f.device).expand(BATCH, TEXT_LEN, 4)],
    "pixel_values": [
        lambda f: f.noise(*f.image()),
        lambda f: f.noise(f.get("num_frames", default=2), *f.image()),
    ],
    "pixel_values_videos": [lambda f: f.noise(f.get("frames_per_clip", "num_frames"), *f.image())],
    "input_values": [
        lambda f: f.noise(f.get("max_length"), f.get("num_mel_bins")),
        lambda f: f.noise(SAMPLES),
        lambda f: f.noise(1, SAMPLES),
    ],
    "inputs": [lambda f: f.noise(SAMPLES)],
    "input_features": [
        lambda f: f.noise(f.get("num_mel_bins"), 2 * f.get("max_source_positions")),
        lambda f: f.noise(
            40, f.get("input_feat_per_channel", "feature_projection_input_dim", "num_mel_bins")
        ),
        lambda f: f.noise(f.get("num_mel_bins"), 40),
    ],
    "past_values": [
        lambda f: f.noise(f.get("context_length"), f.get("num_input_channels", default=1)),
        lambda f: f.noise(f.get("context_length")),
        lambda f: f.noise(f.history()),
    ],
    "past_time_features": [lambda f: f.noise(f.history(), f.get("num_time_features"))],
    "past_observed_mask": [lambda f: f.noise(f.history()).new_ones(BATCH, f.history())],
}
