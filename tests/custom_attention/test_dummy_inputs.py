"""A batch is made up for a model from its main input and config, or an example is required."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

from custom_attention import VariantError, attach, attached, prove, sites
from custom_attention.dummy_inputs import made_up_example
from tests.custom_attention.models import tiny

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}
IMAGE = {"image_size": 24, "patch_size": 8}
TOWERS = {"text_config": SMALL | {"vocab_size": 61, "eos_token_id": 60}, "vision_config": SMALL | IMAGE}
SPEECH = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
WHISPER = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4}
WHISPER |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 37, "decoder_ffn_dim": 37, "vocab_size": 61}
WHISPER |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 2}


def speech_to_text():
    encoder = hf.Wav2Vec2Config(**SMALL, **SPEECH)
    decoder = hf.BertConfig(vocab_size=61, **SMALL, is_decoder=True, add_cross_attention=True)
    config = hf.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    return hf.SpeechEncoderDecoderModel(config)


MODELS = {
    "image": (lambda: hf.ViTModel(hf.ViTConfig(**SMALL, **IMAGE)), {"pixel_values"}),
    "video": (lambda: hf.VideoMAEModel(hf.VideoMAEConfig(**SMALL, **IMAGE, num_frames=4)), {"pixel_values"}),
    "image and text": (lambda: hf.CLIPModel(hf.CLIPConfig(**TOWERS)), {"input_ids", "pixel_values"}),
    "samples": (lambda: hf.Wav2Vec2Model(hf.Wav2Vec2Config(**SMALL, **SPEECH)), {"input_values"}),
    "spectrogram": (
        lambda: hf.WhisperModel(hf.WhisperConfig(**WHISPER, max_source_positions=20)),
        {"input_features", "decoder_input_ids", "use_cache"},
    ),
    "time series": (
        lambda: hf.PatchTSTModel(
            hf.PatchTSTConfig(d_model=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=37)
        ),
        {"past_values"},
    ),
    "lagged time series": (
        lambda: hf.TimeSeriesTransformerModel(
            hf.TimeSeriesTransformerConfig(prediction_length=6, encoder_layers=1, decoder_layers=1)
        ),
        {f"past_{name}" for name in ("values", "time_features", "observed_mask")}
        | {"future_values", "future_time_features", "use_cache"},
    ),
    "sound to text": (lambda: speech_to_text(), {"inputs", "decoder_input_ids", "use_cache"}),
    "text": (lambda: tiny("gpt2"), {"input_ids", "use_cache"}),
    "a label of a text": (
        lambda: hf.T5ForSequenceClassification(tiny("t5").config),
        {"input_ids", "use_cache"},
    ),
    "pairs of texts": (lambda: tiny("t5"), {"input_ids", "decoder_input_ids", "use_cache"}),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_of_any_kind_is_attached_without_an_example(kind):
    build, inputs = MODELS[kind]
    torch.manual_seed(0)
    model = build().eval()
    example = made_up_example(model)
    assert set(example) == inputs
    assert all(value.shape[0] == 2 for value in example.values() if torch.is_tensor(value))
    proof = prove(attach(model, ["temperature", "gate"]), example)
    assert proof.passed, proof.sentence
    assert proof.exact
    assert proof.reached == len(sites(model)) >= 2


def test_an_example_is_required_if_none_can_be_made_up():
    config = hf.DecisionTransformerConfig(state_dim=3, act_dim=2, hidden_size=32, n_layer=2, n_head=4)
    model = hf.DecisionTransformerModel(config).eval()
    with pytest.raises(
        VariantError, match=r"DecisionTransformerModel: no example can be made up for `states`; pass ex"
    ):
        attach(model, "gate")
    example = {"states": torch.randn(2, 5, 3), "actions": torch.randn(2, 5, 2)}
    example |= {"rewards": torch.randn(2, 5, 1), "returns_to_go": torch.randn(2, 5, 1)}
    example["timesteps"] = torch.arange(5).expand(2, 5)
    assert prove(attach(model, "gate", example=example), example).exact


def test_an_example_that_is_no_batch_is_refused():
    with pytest.raises(VariantError, match=r"keyword arguments of one forward \(got list\)"):
        attach(tiny("bert"), "gate", example=[torch.full((2, 5), 9)])
    tokenized = hf.BatchEncoding({"input_ids": torch.full((2, 5), 9)})
    assert attached(attach(tiny("bert"), "gate", example=tokenized))


def test_the_message_has_the_error_of_the_forward():
    model = hf.LxmertModel(hf.LxmertConfig(vocab_size=61, hidden_size=32, num_attention_heads=4)).eval()
    with pytest.raises(
        VariantError, match=r"its forward stopped with ValueError: `visual_feats`.*pass example="
    ):
        attach(model, "gate")


def test_an_example_decides_which_sites_exist():
    config = hf.BertConfig(vocab_size=61, **SMALL, is_decoder=True, add_cross_attention=True)
    model = hf.BertLMHeadModel(config).eval()
    assert len(sites(model)) == 4
    attach(model, "gate", example={"input_ids": torch.full((2, 5), 9)})
    assert len(attached(model)) == 2


def test_making_one_up_leaves_modes_and_the_random_stream_alone():
    model = tiny("bart").train()
    model.model.encoder.layers[0].eval()
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    first, second = made_up_example(model), made_up_example(model)
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first["input_ids"], second["input_ids"])
    assert model.training
    assert not model.model.encoder.layers[0].training
