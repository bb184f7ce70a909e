"""Every family leaves padding out: absolute, rotary and relative positions, one stack and two."""

import copy
import random
from functools import cache

import peft
import pytest
import torch
import transformers

import custom_attention
from pipelines.tasks.base import Task
from pipelines.train.speed import unpadding
from tests.custom_attention.models import VOCAB, tiny
from tests.pipelines.train.speed.test_unpadding import CPU, assert_same, loss_and_gradients

ROTARY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "vocab_size": VOCAB,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
MODERNBERT = {
    "local_attention": 6,
    "global_attn_every_n_layers": 2,
    "cls_token_id": 1,
    "sep_token_id": 1,
    "num_labels": VOCAB,
}
PAIRS = ("t5", "bart", "bert2bert")
FAMILIES = ("bert", "gpt2", "modernbert", "llama", "qwen3", *PAIRS)
HOOKS = [  # what they override: value, scores, hidden states and projection, biases
    [],
    ["value_residual"],
    ["softcap"],
    ["hidden_gate", "layer_scale"],
    ["relative_bias"],
]


@cache
def prototype(family):
    if family not in ("modernbert", "qwen3"):
        return tiny(family)
    torch.manual_seed(5)
    if family == "modernbert":
        config = transformers.ModernBertConfig(**ROTARY, **MODERNBERT)
        return transformers.ModernBertForTokenClassification(config)
    return transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(**ROTARY, num_key_value_heads=2, head_dim=8)
    )


class Toy(Task):
    """Give each token, or each token that a decoder reads, a label of its own."""

    head, primary, metric_names, columns = "none", "accuracy", ("accuracy",), {}
    prepare = predict = assemble = metric = reference = collate = None

    def logits(self, model, batch):
        names = [name for name in batch if name != "labels"]
        return model(**{name: batch[name] for name in names}, use_cache=False).logits

    def loss(self, model, batch):
        logits, labels = self.logits(model, batch), batch["labels"]
        labels = torch.where(labels < 0, labels, labels % logits.shape[-1])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")


def batch(family, sources=(5, 11, 2, 8), targets=(4, 1, 7, 3)):
    draw = random.Random(3)

    def padded(lengths, filler):
        rows = [[draw.randrange(4, VOCAB) for _ in range(length)] for length in lengths]
        return torch.tensor([row + [filler] * (max(lengths) - len(row)) for row in rows])

    inputs = padded(sources, 0)
    made = {"input_ids": inputs, "attention_mask": (inputs > 0).long()}
    if family not in PAIRS:
        return made | {"labels": inputs.masked_fill(inputs == 0, -100)}
    labels = padded(targets, -100)
    read = torch.cat([torch.full((len(targets), 1), 2), labels.clamp(min=0)[:, :-1]], dim=1)
    return made | {"labels": labels, "decoder_input_ids": read}


def attached(family, variants=()):
    made, model = batch(family), copy.deepcopy(prototype(family))
    example = {name: value for name, value in made.items() if name != "labels"}
    where = {"kind": "self"} if "relative_bias" in variants else None
    custom_attention.attach(model, list(variants), where=where, example=example)
    with torch.no_grad():  # so that the variants do something
        for parameter in custom_attention.variant_parameters(model).values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model.eval()


def skipping_for(model, family):
    found = unpadding.unpadding_for(model, Toy(), batch(family))
    assert found is not None
    return found


def compare(model, family, made):
    expected = loss_and_gradients(model, made, task=Toy())
    assert_same(loss_and_gradients(model, made, skipping_for(model, family), task=Toy()), expected)


@pytest.mark.parametrize("variants", HOOKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_the_padded_batch(family, variants):
    compare(attached(family, variants), family, batch(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_recomputed_activations_leave_padding_out_too(family):
    model = attached(family, ["gate"]).train()
    for module in model.modules():
        rates = [name for name, value in vars(module).items() if "drop" in name and isinstance(value, float)]
        vars(module).update(dict.fromkeys(rates, 0.0))
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.activation_checkpointing_enable()
    compare(model, family, batch(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_leaves_padding_out_too(family):
    names = "q|k|v|o|query|key|value|dense|c_attn|c_proj|Wqkv|Wo|q_proj|k_proj|v_proj|o_proj|out_proj"
    lora = peft.LoraConfig(r=2, lora_alpha=4, target_modules=rf".*\.({names})", init_lora_weights=False)
    model = attached(family)
    peft.inject_adapter_in_model(lora, model)
    compare(model, family, batch(family))


@pytest.mark.parametrize("family", PAIRS)
def test_texts_of_equal_lengths_are_not_mixed_up(family):
    """Where source and target are equally wide, keys still have the source's tokens."""
    compare(attached(family), family, batch(family, (3, 9, 5), (9, 2, 4)))


@pytest.mark.parametrize("family", PAIRS)
def test_one_side_may_have_no_padding(family):
    model = attached(family)
    compare(model, family, batch(family, (6, 6), (2, 5)))
    compare(model, family, batch(family, (6, 3), (4, 4)))


@pytest.mark.parametrize("family", FAMILIES)
def test_another_example_moves_no_bit(family):
    model, made = attached(family, ["hidden_gate"]), batch(family)
    skipping = skipping_for(model, family)

    def logits(changed):
        with skipping.skip(changed, CPU), torch.no_grad():
            return Toy().logits(model, changed)

    before, targets = logits(made), made["labels"] != -100
    for name in [name for name in ("input_ids", "decoder_input_ids") if name in made]:
        for example in range(len(before)):
            changed = made | {name: made[name].clone()}
            changed[name][example, 0] = (changed[name][example, 0] + 7) % VOCAB
            after = logits(changed)
            moved = [bool((a != b)[t].any()) for a, b, t in zip(after, before, targets)]
            assert moved == [row == example for row in range(len(before))]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_linear_layers_get_tokens_and_no_padding(family):
    model, made = attached(family), batch(family)
    skipping, seen = skipping_for(model, family), []
    layers = unpadding.layers_of(model)
    for own in layers.values():
        for module in own.modules():
            if isinstance(module, torch.nn.Linear | transformers.pytorch_utils.Conv1D):
                module.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[:-1].numel()))
    with skipping.skip(made, CPU):
        Toy().logits(model, made)
    sizes = {int(made["attention_mask"].sum()), int((made["labels"] != -100).sum())}
    assert set(seen) == sizes
