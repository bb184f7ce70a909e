"""Set every dropout of a model to one probability: the run's `dropout` as entries of the model's config."""

from __future__ import annotations

from transformers import PreTrainedConfig

from pipelines.config.dropout import is_dropout
from pipelines.config.load import ModelConfig
from pipelines.errors import UserError


def with_dropout(spec: ModelConfig, config: PreTrainedConfig, dropout: float) -> ModelConfig:
    """Return the model section of a run with an entry for every dropout that its architecture's config has.

    Args:
        config: that of the model before any change.
        dropout: the probability.

    Raises:
        UserError: the config states no dropout.
    """
    entries = dict.fromkeys(dropout_entries(config), dropout)
    if not entries:
        what = f"{type(config).__name__} states no dropout"
        raise UserError("dropout", what, accepted="leave it out")
    return spec.model_copy(update={"config": {**spec.config, **entries}})


def dropout_line(config: PreTrainedConfig, dropout: float) -> str:
    """Return a line that names the entries that were set."""
    return f"dropout {dropout:g}: {', '.join(dropout_entries(config))} of the model's config"


def dropout_entries(config: PreTrainedConfig) -> list[str]:
    """Return the names of the entries that are probabilities of dropout; null: another entry decides it."""
    return sorted(
        name
        for name, value in config.to_dict().items()
        if is_dropout(name) and (value is None or type(value) in (float, int))
    )
