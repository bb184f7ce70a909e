"""An encoder-decoder made of one encoder and a copy of it that writes (bert2bert)."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from pipelines.errors import UserError
from pipelines.models.weights import LoadingInfo, require_body

# transformers warns whenever this model is given labels; its own loss is never used, tasks compute theirs.
warnings.filterwarnings("ignore", message="Version v4.12.0 introduces a better way", category=FutureWarning)


class EncoderPair:
    """Builds an `EncoderDecoderModel` from one encoder's config, with the interface of an Auto class.

    Both stacks have the sizes of the encoder, and its weights where it is pretrained; cross-attention and
    whatever else the encoder lacks is drawn (Rothe et al. 2020, "Leveraging Pre-trained Checkpoints for
    Sequence Generation Tasks", BERT2BERT). A text begins with `bos_token_id` of the config and ends with
    `eos_token_id`.
    """

    @classmethod
    def from_config(cls, config: PreTrainedConfig) -> PreTrainedModel:
        """Build a pair with drawn weights."""
        return transformers.EncoderDecoderModel(config=_pair_config(config, _decoder_config(config)))

    @classmethod
    def from_pretrained(
        cls, name: str, *, config: PreTrainedConfig, **options: Any
    ) -> tuple[PreTrainedModel, LoadingInfo]:
        """Load the weights at `name` into both stacks, or the pair that is stored there.

        Args:
            options: those of transformers' `from_pretrained`; `output_loading_info=True` is one of them.
        """
        if config.is_encoder_decoder:
            return _load(transformers.AutoModelForSeq2SeqLM, name, config, options)
        decoder_config = _decoder_config(config)
        encoder, of_encoder = _load(transformers.AutoModel, name, config, options)
        decoder, of_decoder = _load(transformers.AutoModelForCausalLM, name, decoder_config, options)
        own = {key for key, _ in encoder.named_parameters()}
        prefix = f"{decoder.base_model_prefix}."
        require_body(encoder, of_encoder, name)
        require_body(decoder, of_decoder, name, lambda key: key.removeprefix(prefix) not in own)
        pair = _pair_config(encoder.config, decoder.config)
        model = transformers.EncoderDecoderModel(config=pair, encoder=encoder, decoder=decoder)
        parts = (("encoder", of_encoder), ("decoder", of_decoder))
        return model, {
            "missing_keys": [f"{part}.{key}" for part, info in parts for key in info["missing_keys"]],
            # What neither half reads; both halves name it as the file does.
            "unexpected_keys": set(of_encoder["unexpected_keys"]) & set(of_decoder["unexpected_keys"]),
            "mismatched_keys": [
                (f"{part}.{key}", *sizes) for part, info in parts for key, *sizes in info["mismatched_keys"]
            ],
        }


def _load(
    auto_class: Any, name: str, config: PreTrainedConfig, options: dict[str, Any]
) -> tuple[PreTrainedModel, LoadingInfo]:
    model, info = auto_class.from_pretrained(name, config=config, **options)
    return model, info


def _decoder_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """Return the config of the copy that writes.

    Raises:
        UserError: the architecture has no causal form with cross-attention.
    """
    decoder = copy.deepcopy(config)
    can_write = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    if not can_write or not hasattr(config, "add_cross_attention"):
        raise UserError(
            "model",
            "this encoder has no form that could write text, which the task needs",
            config.model_type,
            "an encoder such as bert, roberta or electra, or a decoder, or an encoder_decoder",
        )
    decoder.is_decoder = decoder.add_cross_attention = True
    return decoder


def _pair_config(encoder: PreTrainedConfig, decoder: PreTrainedConfig) -> PreTrainedConfig:
    pair = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    pair.decoder_start_token_id = encoder.bos_token_id
    pair.pad_token_id, pair.eos_token_id = encoder.pad_token_id, encoder.eos_token_id
    return pair
