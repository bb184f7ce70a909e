"""The stock control against `sdpa` itself, over what transformers' model tests ask of an attention function.

Each behaviour is a function from a model to tensors; the control gives the very same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import transformers as hf

from custom_attention import attach
from tests.custom_attention.models import PAD, padded, tiny, unpadded

FAMILIES = ("bert", "gpt2", "t5")
GENERATING = ("gpt2", "t5")
BEHAVIOURS: dict[str, tuple[Callable, tuple[str, ...]]] = {}
LENGTHS = {"max_new_tokens": 6, "min_new_tokens": 6, "pad_token_id": PAD}


def behaviour(families: tuple[str, ...] = FAMILIES):
    def register(function):
        BEHAVIOURS[function.__name__] = (function, families)
        return function

    return register


def tensors(output) -> Iterator[torch.Tensor | None]:
    """All tensors of an output, nested or not, and the Nones among them."""
    if output is None or torch.is_tensor(output):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from tensors(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from tensors(value)
    elif hasattr(output, "layers"):  # a cache
        for layer in output.layers:
            yield from tensors([getattr(layer, "keys", None), getattr(layer, "values", None)])


def family_of(model) -> str:
    return model.config.model_type


def prompt(model) -> dict:
    inputs = padded(family_of(model)).inputs
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


@behaviour()
def padding_on_its_usual_side(model):
    return model(**padded(family_of(model)).inputs)


@behaviour()
def padding_on_the_other_side(model):
    inputs = {name: value.flip(-1) for name, value in prompt(model).items()}
    rest = {k: v for k, v in padded(family_of(model)).inputs.items() if k == "decoder_input_ids"}
    return model(**inputs, **rest)


@behaviour()
def no_padding(model):
    return model(**unpadded(family_of(model)))


@behaviour()
def each_example_alone_and_all_together(model):
    batch = padded(family_of(model))
    return [model(**batch.inputs).logits, *(model(**batch.alone(row)).logits for row in range(3))]


@behaviour()
def masks_of_every_type(model):
    inputs, mask = unpadded(family_of(model)), prompt(model)["attention_mask"]
    types = (torch.long, torch.int32, torch.bool, torch.float32)
    return [model(**inputs, attention_mask=mask.to(dtype)).logits for dtype in types]


@behaviour()
def masks_of_all_ones_and_all_zeros(model):
    inputs, mask = unpadded(family_of(model)), prompt(model)["attention_mask"]
    one_hidden = mask.clone()
    one_hidden[1] = 0
    return [model(**inputs, attention_mask=given).logits for given in (torch.ones_like(mask), one_hidden)]


@behaviour(("bert", "gpt2"))
def a_mask_of_four_axes(model):
    inputs, length = unpadded(family_of(model)), 9
    visible = torch.rand(3, 1, length, length, generator=torch.Generator().manual_seed(3)) > 0.3
    visible |= torch.eye(length, dtype=torch.bool)
    additive = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
    return [model(**inputs, attention_mask=given).logits for given in (visible, additive)]


@behaviour()
def embeddings_instead_of_ids(model):
    inputs = dict(padded(family_of(model)).inputs)
    inputs["inputs_embeds"] = model.get_input_embeddings()(inputs.pop("input_ids"))
    return model(**inputs)


@behaviour()
def hidden_states_on_request(model):
    return model(**padded(family_of(model)).inputs, output_hidden_states=True)


@behaviour()
def attention_weights_on_request(model):
    """Weights: neither sdpa nor the control returns any."""
    return model(**padded(family_of(model)).inputs, output_attentions=True)


@behaviour()
def a_tuple_on_request(model):
    return model(**padded(family_of(model)).inputs, return_dict=False)


@behaviour()
def a_step_of_training_with_dropout(model):
    model.train()
    torch.manual_seed(4)
    output = model(**padded(family_of(model)).inputs)
    output.logits.square().mean().backward()
    return [output.logits, *(p.grad for p in model.parameters())]


@behaviour()
def a_step_of_training_with_checkpointing(model):
    model.activation_checkpointing_enable()
    return a_step_of_training_with_dropout(model)


@behaviour()
def sixteen_bits(model):
    return model.to(torch.bfloat16)(**padded(family_of(model)).inputs).logits


@behaviour()
def autocast(model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return model(**padded(family_of(model)).inputs).logits


@behaviour()
def a_resized_vocabulary(model):
    torch.manual_seed(5)
    model.resize_token_embeddings(70, mean_resizing=False)
    return model(**unpadded(family_of(model)))


@behaviour(GENERATING)
def greedy(model):
    asked = {"return_dict_in_generate": True, "output_logits": True, "do_sample": False}
    return model.generate(**prompt(model), **LENGTHS, **asked)


@behaviour(GENERATING)
def without_a_cache(model):
    return model.generate(**prompt(model), **LENGTHS, do_sample=False, use_cache=False)


@behaviour(GENERATING)
def with_a_static_cache(model):
    return model.generate(
        **prompt(model), **LENGTHS, do_sample=False, cache_implementation="static", disable_compile=True
    )


@behaviour(GENERATING)
def beams(model):
    asked = {
        "num_beams": 4,
        "num_return_sequences": 2,
        "return_dict_in_generate": True,
        "output_scores": True,
    }
    return model.generate(**prompt(model), **LENGTHS, **asked, do_sample=False)


@behaviour(GENERATING)
def sampling(model):
    torch.manual_seed(6)
    return model.generate(**prompt(model), **LENGTHS, do_sample=True, top_k=7)


@behaviour(GENERATING)
def going_on_from_a_cache(model):
    inputs = unpadded(family_of(model))
    name = "decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"
    ids = inputs.pop(name)
    first = model(**inputs, **{name: ids[:, :3]}, use_cache=True)
    second = model(**inputs, **{name: ids[:, 3:]}, past_key_values=first.past_key_values, use_cache=True)
    return [first.logits, second.logits, second.past_key_values]


@behaviour(("gpt2",))
def an_assistant_that_guesses_ahead(model):
    asked = {"assistant_model": model, "do_sample": False, "max_new_tokens": 6, "pad_token_id": PAD}
    return model.generate(input_ids=unpadded("gpt2")["input_ids"][:1], **asked)


@behaviour(("t5",))
def a_mask_over_the_target(model):
    inputs = padded("t5").inputs
    mask = torch.ones_like(inputs["decoder_input_ids"])
    mask[0, 3:] = 0
    return model(**inputs, decoder_attention_mask=mask)


@behaviour(("t5",))
def an_encoder_that_ran_before(model):
    inputs = dict(padded("t5").inputs)
    encoded = model.get_encoder()(input_ids=inputs.pop("input_ids"), attention_mask=inputs["attention_mask"])
    return model(**inputs, encoder_outputs=encoded)


def run(function: Callable, model) -> list[torch.Tensor | None]:
    with torch.set_grad_enabled("training" in function.__name__):
        return list(tensors(function(model)))


CASES = [(name, family) for name, (_, families) in BEHAVIOURS.items() for family in families]


@pytest.mark.parametrize(("name", "family"), CASES)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_the_control_is_sdpa(name, family):
    function, _ = BEHAVIOURS[name]
    sdpa, control = run(function, tiny(family)), run(function, attach(tiny(family), []))
    assert len(sdpa) == len(control) > 0
    for one, two in zip(sdpa, control, strict=True):
        assert (one is None) == (two is None)
        assert one is None or torch.equal(one, two)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_attention_fails_the_comparison(family):
    """The comparison above can fail."""
    differing = {
        name
        for name, (function, families) in BEHAVIOURS.items()
        if family in families and "sampling" not in name
        if not all(
            one is None or torch.equal(one, two)
            for one, two in zip(run(function, tiny(family)), run(function, attach(tiny(family), "cosine")))
        )
    }
    expected = {name for name, (_, families) in BEHAVIOURS.items() if family in families} - {"sampling"}
    assert differing == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_switching_to_another_kernel_is_refused_as_it_would_bypass_the_control(family):
    """`set_attn_implementation` would replace the dispatcher, as it replaces sdpa."""
    model = attach(tiny(family), [])
    model.set_attn_implementation("eager")
    with pytest.raises(ValueError, match="kernel"):
        model(**padded(family).inputs)


def test_the_config_that_asks_for_weights_is_refused_as_by_sdpa():
    for model in (tiny("bert"), attach(tiny("bert"), [])):
        with pytest.raises(ValueError, match="output_attentions"):
            model.config.output_attentions = True
    assert isinstance(model, hf.BertForTokenClassification)
