"""Language modelling: what is hidden and what is asked, likelihoods token by token, one figure per text."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
import torch

from pipelines.data.features import build
from pipelines.errors import UserError
from pipelines.models.attention import attach_and_prove
from pipelines.seeds import derive
from pipelines.tasks.language_modelling import LanguageModelling
from pipelines.tasks.shared.language_objectives import Masked, Next, Spans, TextBlock
from pipelines.tasks.shared.text_encoder import TextEncoder
from pipelines.tasks.shared.token_loss import IGNORED
from pipelines.train.evaluate import by_example
from tests.pipelines.tasks.writing import FAMILIES, WORDS, bound, config, model, processor

TEXTS = [
    "one two three four five six seven eight nine ten eleven twelve one two three",
    "four",
    "ten nine eight seven",
    "six six  two one five .",
]


def rows():
    return [{"id": f"text-{number}", "text": text} for number, text in enumerate(TEXTS)]


def task(family: str, **options) -> LanguageModelling:
    return bound(LanguageModelling(**{"max_len": 12, "overlap": 3, **options}), family)


def block(count: int) -> TextBlock:
    return TextBlock(list(range(100, 100 + count)), [1] * count)


def encoder(family: str) -> TextEncoder:
    return TextEncoder(processor(family))


# ---- what is hidden


def test_a_mask_hides_the_share_asked_for_and_the_labels_say_what_it_hides():
    objective = Masked(encoder("encoder"), 0.3, 3.0)
    blocks = [block(11), block(1), block(2)]
    batch = objective.evaluation_batch(blocks, [Random(n) for n in range(3)])
    mask, special = encoder("encoder").mask, encoder("encoder").num_special
    for row, (one, count) in enumerate(zip(blocks, (3, 1, 1))):
        asked = batch["labels"][row] != IGNORED
        assert asked.sum() == objective.num_targets(one) == batch["num_bytes"][row] == count
        assert (batch["input_ids"][row][asked] == mask).all()
        whole = torch.where(asked, batch["labels"][row], batch["input_ids"][row])
        assert whole[1 : 1 + len(one.ids)].tolist() == one.ids
        assert batch["attention_mask"][row].sum() == len(one.ids) + special


def test_in_training_one_in_ten_is_left_and_one_is_any_other():
    objective = Masked(encoder("encoder"), 0.5, 3.0)
    one, seen = TextBlock([7] * 4000, [1] * 4000), Counter()
    batch = objective.training_batch([one], Random(1), 5000)
    asked = batch["labels"][0] != IGNORED
    for token in batch["input_ids"][0][asked].tolist():
        seen["mask" if token == encoder("encoder").mask else "same" if token == 7 else "other"] += 1
    assert seen.total() == 2000
    assert {name: round(count / 2000, 1) for name, count in seen.items()} == {
        "mask": 0.8, "same": 0.1, "other": 0.1,
    }  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40, 200])
@pytest.mark.parametrize("share", [0.15, 0.5, 0.9])
def test_spans_and_what_is_between_them_give_the_text_back(count, share):
    found = encoder("encoder_decoder")
    objective, one = Spans(found, share, 3.0), block(count)
    draws = set()
    for seed in range(20):
        batch = objective.evaluation_batch([one], [Random(seed)])
        source, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
        assert source.pop() == labels.pop() == found.end
        assert len(labels) + 1 == objective.num_targets(one)
        assert len(source) + len(labels) + 2 == objective.cost(one)
        hidden = spans_of(labels, found.sentinels)
        assert list(hidden) == found.sentinels[: len(hidden)]
        assert all(hidden.values())
        assert restored(source, hidden) == one.ids
        assert batch["num_bytes"] == [sum(map(len, hidden.values()))]
        draws.add(tuple(source))
    assert len(draws) > 1 or count < 3


def spans_of(labels, sentinels) -> dict:
    spans: dict[int, list[int]] = {}
    for token in labels:
        if token in sentinels:
            spans[token] = []
        else:
            spans[list(spans)[-1]].append(token)
    return spans


def restored(source, hidden) -> list[int]:
    return [token for shown in source for token in hidden.get(shown, [shown])]


def test_t5_hides_as_much_as_it_should():
    """512 tokens at 15 % in spans of 3: 77 tokens in 26 spans (Raffel et al. 2020, 3.1.4)."""
    objective = Spans(encoder("encoder_decoder"), 0.15, 3.0)
    assert (objective._num_hidden(block(512)), objective._num_spans(block(512))) == (77, 26)


def test_a_mask_token_serves_where_there_are_no_sentinels_and_neither_is_refused():
    assert encoder("encoder").sentinels == [encoder("encoder").mask] * 100
    assert len(encoder("encoder_decoder").sentinels) == 32
    with pytest.raises(UserError, match="neither sentinels"):
        Spans(encoder("decoder"), 0.15, 3.0)
    with pytest.raises(UserError, match="no mask token"):
        Masked(encoder("decoder"), 0.15, 3.0)


def test_every_token_and_the_end_is_a_next_token_exactly_once():
    objective = Next(encoder("decoder"), 0.15, 3.0)
    begin, end = encoder("decoder").begin, encoder("decoder").end
    for count in (0, 1, 3, 10, 11, 12, 29, 40):
        ids, sizes = list(range(50, 50 + count)), [2] * count
        blocks = objective.blocks(ids, sizes, 12, 4)
        targets = [token for b in blocks for token in b.ids[b.first :]]
        assert targets == [*ids, end]
        assert sum(map(objective.num_targets, blocks)) == count + 1
        assert blocks[0].ids[: blocks[0].first] == begin
        assert all(len(b.ids) <= 12 for b in blocks)
        assert all(b.first == 4 for b in blocks[1:])
        whole = [*begin, *ids, end]
        for b in blocks:  # the context is what stands before
            at = whole.index(b.ids[b.first], 1)  # begin and end are one id in GPT-2
            assert whole[at - b.first : at] == b.ids[: b.first]
        assert sum(sum(b.sizes[b.first :]) for b in blocks) == 2 * count


# ---- bytes


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "text", ["one two", "  one\n\ttwo  ", "é naïve ﬁ", "漢字 one", "👩‍🚀 two 👍🏽", "x" * 300, "\u200b one"]
)
def test_the_bytes_of_the_tokens_add_up_to_those_of_the_text(family, text):
    [(ids, sizes)] = encoder(family).with_bytes([text])
    assert ids == encoder(family)([text])[0]
    assert len(ids) == len(sizes)
    assert sum(sizes) == (len(text.encode()) if ids else 0)
    assert min(sizes, default=0) >= 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_word_takes_the_space_before_it(family):
    [(_, sizes)] = encoder(family).with_bytes(["one three two"])
    assert sizes == [3, 6, 4]


# ---- likelihoods


def test_the_likelihood_of_a_text_is_that_of_its_tokens_one_by_one():
    one, built = task("decoder", max_len=90, overlap=3), model("decoder", "language_modelling")
    found = encoder("decoder")
    with torch.no_grad():
        raws = one.predict(built, one.collate(one.prepare(rows())))
        for row, raw in zip(rows(), raws):
            told, total = list(found.begin), 0.0
            for token in [*found([row["text"]])[0], found.end]:
                total -= built(torch.tensor([told])).logits[0, -1].double().log_softmax(-1)[token].item()
                told.append(token)
            prediction = one.assemble(row, [raw])
            assert prediction["nll"] == pytest.approx(total, rel=1e-5)
            assert prediction["num_tokens"] == len(told) - 1
            assert prediction["num_bytes"] == len(row["text"].encode())


@pytest.mark.parametrize("family", FAMILIES)
def test_one_prediction_per_text_over_all_its_blocks(family):
    one, built = task(family), model(family, "language_modelling")
    features = build(one, rows(), "test", None, "")
    assert features.feature_counts(4).tolist()[0] > 1
    assert one.counts == {"examples": 4, "examples_in_blocks": 1}
    with torch.no_grad():
        raws = one.predict(built, one.collate(list(features)))
    groups = by_example(rows(), features, raws)
    predictions = [one.assemble(row, group) for row, group in zip(rows(), groups)]
    assert sum(p["num_tokens"] for p in predictions) == features.num_targets.sum()
    metric = one.metrics["perplexity"]
    sums = sum(metric.statistics(p, one.reference(row)) for p, row in zip(predictions, rows()))
    nll = sum(raw["loss"] for raw in raws)
    assert float(metric.score(sums)) == pytest.approx(math.exp(nll / features.num_targets.sum()))


@pytest.mark.parametrize("family", FAMILIES)
def test_neighbours_and_padding_never_change_a_likelihood(family):
    one, built = task(family), model(family, "language_modelling")
    features = one.prepare(rows())
    with torch.no_grad():
        together = one.predict(built, one.collate(features))
        alone = [one.predict(built, one.collate([feature]))[0] for feature in features[::-1]][::-1]
    for a, b in zip(together, alone):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert (a["num_tokens"], a["num_bytes"]) == (b["num_tokens"], b["num_bytes"])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_in_evaluation_is_what_predict_adds_up(family):
    one, built = task(family), model(family, "language_modelling")
    batch = one.collate(one.prepare(rows()))
    with torch.no_grad():
        loss = one.loss(built, batch).item()
        assert loss == pytest.approx(sum(raw["loss"] for raw in one.predict(built, batch)), rel=1e-6)


# ---- draws


@pytest.mark.parametrize("family", ["encoder", "encoder_decoder"])
def test_training_hides_something_else_each_step_and_the_same_for_one_seed(family):
    one, built = task(family), model(family, "language_modelling")
    batch = one.collate(one.prepare(rows()))
    for module in built.modules():  # no dropout, so that only the draws differ
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if family == "encoder":
        built.config._attn_implementation = "sdpa"
        for module in built.modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.0
    built.train()
    losses = []
    for seed in (derive(1, "dropout", 0), derive(1, "dropout", 1), derive(1, "dropout", 0)):
        torch.manual_seed(seed)
        losses.append(one.loss(built, batch).item())
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_targets_are_as_many_as_the_loop_divides_by_whatever_is_drawn(family):
    one = task(family)
    features = one.prepare(rows())
    batch = one.collate(features)
    for seed in range(5):
        drawn = one._objective.training_batch(batch["blocks"], Random(seed), len(processor(family)))
        asked = (drawn["labels"] != IGNORED).sum(1).tolist()
        assert asked == [feature["num_targets"] for feature in features]
        longest = drawn["input_ids"].shape[1] + (drawn["labels"].shape[1] if family == FAMILIES[2] else 0)
        assert longest <= 2 * max(map(one.feature_len, features))


def test_what_evaluation_hides_depends_on_the_id_and_not_on_torch():
    one = task("encoder")
    features = one.prepare(rows())
    torch.manual_seed(1)
    first = one.collate(features)["input_ids"]
    torch.manual_seed(2)
    assert torch.equal(first, one.collate(features)["input_ids"])
    renamed = [dict(feature, example_id="other") for feature in features]
    assert not torch.equal(first, one.collate(renamed)["input_ids"])


# ---- edges


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_without_a_token_costs_nothing_or_its_end(family):
    one, built = task(family), model(family, "language_modelling")
    features = one.prepare([{"id": "blank", "text": "\u0000"}, {"id": "word", "text": "one"}])
    with torch.no_grad():
        raws = one.predict(built, one.collate(features))
    assert [raw["num_tokens"] for raw in raws] == [feature["num_targets"] for feature in features]
    assert all(math.isfinite(raw["loss"]) for raw in raws)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("encoder", {"max_len": 513}), ("encoder", {"max_len": 3}), ("decoder", {"max_len": 97}),
        ("decoder", {"overlap": 0}), ("decoder", {"overlap": 12}),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(family, options):
    with pytest.raises(UserError, match=r"task\."):
        task(family, **options)


def test_a_row_that_cannot_be_used_says_why():
    one = LanguageModelling()
    assert "empty" in one.check({"id": "1", "text": " \n"})
    assert "not text but NoneType" in one.check({"id": "1", "text": None})
    assert one.check({"id": "1", "text": WORDS}) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_a_variant_is_proven_on_a_batch(family):
    one = task(family)
    _, proof = attach_and_prove(
        config(family, ("gate",)), model(family, "language_modelling"), one.collate(one.prepare(rows()))
    )
    assert (proof.passed, proof.max_difference) == (True, 0.0)
