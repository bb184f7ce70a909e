"""Layers that compute no padding give the same loss and gradients, and no example sees another."""

import pytest
import torch
import transformers

import custom_attention
from custom_attention.runtime import blockwise, call
from pipelines.models import trial_inputs
from pipelines.train.speed import unpadding
from pipelines.train.speed.token_layout import TokenLayout
from tests.pipelines.train.harness import DROPOUTS, ToyTagging, rows, tiny_model

CPU = torch.device("cpu")
EPS = torch.finfo(torch.float32).eps
TAGGING = ToyTagging()


def batch(count=5):
    features = ToyTagging().prepare(rows(count, 4))
    made = ToyTagging().collate(features)
    assert not made["attention_mask"].all()
    return made


def attached(architecture, variants=()):
    model = tiny_model(architecture, 0.0)
    return custom_attention.attach(model, list(variants), example=batch())


def loss_and_gradients(model, made, skipping=None, task=TAGGING):
    model.zero_grad()
    if skipping is None:
        loss = task.loss(model, made)
        loss.backward()
    else:
        with skipping.skip(made, CPU):
            loss = task.loss(model, made)
            loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(came, expected):
    """Two results of `loss_and_gradients`, up to rounding."""
    (loss, gradients), (expected_loss, wanted) = came, expected
    assert abs(loss - expected_loss) <= 20 * EPS * expected_loss
    assert gradients.keys() == wanted.keys()
    scale = max(gradient.abs().max() for gradient in wanted.values())
    for name, gradient in wanted.items():
        assert (gradients[name] - gradient).abs().max() <= 100 * EPS * scale, name


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "variants",
    [
        [],
        ["gate"],
        ["talking_heads"],
        [{"temperature": {"per": "head"}}, "alibi"],
        ["hidden_gate", "value_residual", "layer_scale", "forgetting"],
    ],
)
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_loss_and_gradients_are_those_of_the_padded_batch(architecture, variants, checkpointing):
    model, made = attached(architecture, variants), batch()
    if checkpointing:
        model.activation_checkpointing_enable()
    model.train()
    expected = loss_and_gradients(model, made)
    skipping = unpadding.unpadding_for(model, ToyTagging(), made)
    assert skipping is not None
    assert_same(loss_and_gradients(model, made, skipping), expected)


@pytest.mark.parametrize("variants", [[], ["gate"], ["relative_bias"]])
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_attention_in_blocks_leaves_rows_of_padding_out_and_says_the_same(
    architecture, variants, monkeypatch
):
    monkeypatch.setattr(call, "FEWEST_SCORES", 0)
    monkeypatch.setattr(blockwise, "BLOCK_SCORES", 40)
    read = []

    def noting(*arguments):
        read.append(arguments[8])
        return blockwise.attend_in_blocks(*arguments)

    monkeypatch.setattr(call, "attend_in_blocks", noting)
    made = batch()
    model = tiny_model(architecture, 1e-9)  # a rate that rounds to none
    custom_attention.attach(model, variants, example=made)
    skipping = unpadding.unpadding_for(model, ToyTagging(), made)
    model.train()
    with custom_attention.site_dropout(1):
        expected = loss_and_gradients(model, made)
        came = loss_and_gradients(model, made, skipping)
    assert read == [None, None, *2 * [made["attention_mask"].sum(1).tolist()]]
    assert_same(came, expected)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_the_layers_get_tokens_and_no_padding(architecture):
    model, made = attached(architecture), batch()
    skipping = unpadding.unpadding_for(model, ToyTagging(), made)
    seen = []
    for module in model.modules():
        if isinstance(module, (torch.nn.LayerNorm,)):
            module.register_forward_hook(lambda module, args, output: seen.append(args[0].shape[:2]))
    with skipping.skip(made, CPU):
        ToyTagging().loss(model, made)
    inside = [shape for shape in seen if shape == (1, int(made["attention_mask"].sum()))]
    assert len(inside) == 2 * 2  # two norms in each of two layers
    seen.clear()
    ToyTagging().loss(model, made)
    assert set(seen) == {made["attention_mask"].shape}


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_no_example_sees_another(architecture):
    """The gradient of one example's output at the inputs of all others is zero."""
    model, made = attached(architecture), batch()
    skipping = unpadding.unpadding_for(model, ToyTagging(), made)
    inputs = model.get_input_embeddings()(made["input_ids"]).detach().requires_grad_()
    with skipping.skip(made, CPU):
        logits = model(inputs_embeds=inputs, attention_mask=made["attention_mask"]).logits
        for example in range(len(inputs)):
            [gradient] = torch.autograd.grad(logits[example].sum(), inputs, retain_graph=True)
            assert gradient[example].abs().max() > 0
            others = [other for other in range(len(inputs)) if other != example]
            assert not gradient[others].any()


@pytest.mark.parametrize("most", [4096, 10], ids=["whole", "cut"])
def test_a_layer_that_mixes_tokens_outside_attention_is_found_out(most, monkeypatch):
    class Mixing(torch.nn.Module):
        def __init__(self, dense):
            super().__init__()
            self.dense = dense

        def forward(self, states):
            return self.dense(states + states.roll(1, dims=1))

    model, made = attached("bert"), batch()
    monkeypatch.setattr(trial_inputs, "MOST_TOKENS", most)
    assert unpadding.unpadding_for(model, ToyTagging(), made) is not None
    layer = model.bert.encoder.layer[0]
    layer.intermediate.dense = Mixing(layer.intermediate.dense)
    assert unpadding.unpadding_for(model, ToyTagging(), made) is None


@pytest.mark.parametrize("groups", [1, 2])
def test_a_layer_that_runs_several_times_gives_the_loss_of_the_padded_batch(groups):
    sizes = {
        "hidden_size": 24,
        "embedding_size": 14,
        "num_hidden_layers": 4,
        "num_hidden_groups": groups,
        "num_attention_heads": 3,
        "intermediate_size": 29,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout_prob": 0.0,
    }
    asked = transformers.AlbertConfig(vocab_size=37, num_labels=3, pad_token_id=0, **sizes)
    model, made = transformers.AlbertForTokenClassification(asked), batch()
    custom_attention.attach(model, ["gate"], example=batch())
    expected = loss_and_gradients(model, made)
    skipping = unpadding.unpadding_for(model, ToyTagging(), made)
    assert (skipping is None) == (groups == 2)  # between two shared layers the tokens would not be put back
    assert_same(loss_and_gradients(model, made, skipping), expected)


def test_little_padding_is_computed(monkeypatch):
    made = batch()
    missing = int((made["attention_mask"] == 0).sum())
    for fewest, has_rows in ((missing, True), (missing + 1, False)):
        monkeypatch.setattr(unpadding, "FEWEST_PADDING", fewest)
        model = attached("bert")
        skipping, seen = unpadding.unpadding_for(model, ToyTagging(), made), []
        model.bert.encoder.layer[0].output.dense.register_forward_hook(
            lambda module, args, output, seen=seen: seen.append(output.shape[0] == 1)
        )
        with skipping.skip(made, CPU):
            ToyTagging().loss(model, made)
        assert seen == [has_rows]


def test_layers_that_training_may_leave_out_are_not_unpadded():
    model = attached("bert")
    assert unpadding.unpadding_for(model, ToyTagging(), batch()) is not None
    model.config.layerdrop = 0.1
    assert unpadding.unpadding_for(model, ToyTagging(), batch()) is None


def test_dropout_is_paired_across_arms():
    """Two arms that compute the same function draw the same masks on tokens as well."""
    made, losses = batch(), []
    for variants in ([], ["gate"]):
        model = tiny_model("bert", 0.3)
        assert set(DROPOUTS["bert"]) <= vars(model.config).keys()
        custom_attention.attach(model, variants, example=made)
        skipping = unpadding.unpadding_for(model, ToyTagging(), made)
        model.train()
        with custom_attention.site_dropout(5), skipping.skip(made, CPU):
            losses.append(ToyTagging().loss(model, made))
    assert abs(losses[0] - losses[1]) <= 50 * EPS * losses[0]


def test_places_are_kept_wherever_padding_stands():
    mask = torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1], [1, 0, 1, 0]], dtype=torch.bool)
    layout = TokenLayout.of(mask, CPU)
    assert layout.ends == [3, 4, 3]
    states = torch.randn(3, 4, 2)
    assert torch.equal(layout.spread(layout.pack(states)), states * mask[..., None])
    assert torch.equal(layout.pack(states)[0], states[mask])
