"""An encoder that also writes: itself, and a copy that attends to it and says the next token (bert2bert)."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import transformers

from pipelines.errors import UserError

# Said whenever the model is given labels. Its own loss is never used: tasks compute theirs.
warnings.filterwarnings("ignore", message="Version v4.12.0 introduces a better way", category=FutureWarning)


class EncoderPair:
    """Builds `EncoderDecoderModel`s from one encoder's config, as the Auto classes build their models.

    Both stacks have the sizes of the encoder, and its weights where it is pretrained; cross-attention and
    whatever else the encoder lacks is drawn (Rothe et al. 2020, "BERT2BERT"). The config says with which
    token a text begins (`bos_token_id`) and ends (`eos_token_id`).
    """

    @classmethod
    def from_config(cls, config: Any) -> transformers.EncoderDecoderModel:
        """A pair from scratch."""
        return transformers.EncoderDecoderModel(config=_pair_config(config, _decoder_config(config)))

    @classmethod
    def from_pretrained(
        cls, name: str, *, config: Any, **options: Any
    ) -> tuple[transformers.EncoderDecoderModel, dict[str, Any]]:
        """A pair of which both start from the weights at `name`, or that stands there as a pair already.

        With it transformers' loading info, which `output_loading_info=True` among the options asks for.
        """
        if config.is_encoder_decoder:
            return transformers.AutoModelForSeq2SeqLM.from_pretrained(name, config=config, **options)
        decoder_config = _decoder_config(config)
        encoder, read = transformers.AutoModel.from_pretrained(name, config=config, **options)
        decoder, said = transformers.AutoModelForCausalLM.from_pretrained(
            name, config=decoder_config, **options
        )
        pair = _pair_config(encoder.config, decoder.config)
        model = transformers.EncoderDecoderModel(config=pair, encoder=encoder, decoder=decoder)
        infos = (("encoder", read), ("decoder", said))
        return model, {
            "missing_keys": [f"{part}.{key}" for part, info in infos for key in info["missing_keys"]],
            "mismatched_keys": [
                (f"{part}.{key}", *sizes) for part, info in infos for key, *sizes in info["mismatched_keys"]
            ],
        }


def _decoder_config(config: Any) -> Any:
    """The config of the copy that writes.

    Raises:
        UserError: the architecture has no form that writes and attends to an encoder.
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


def _pair_config(encoder: Any, decoder: Any) -> Any:
    pair = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    pair.decoder_start_token_id = encoder.bos_token_id
    pair.pad_token_id, pair.eos_token_id = encoder.pad_token_id, encoder.eos_token_id
    return pair
