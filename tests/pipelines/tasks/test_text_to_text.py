"""Reading a text and writing one: features by hand, losses by another way, predictions without neighbours."""

from __future__ import annotations

import copy
import math

import pytest
import torch

import custom_attention
from pipelines.data.features import build
from pipelines.errors import UserError
from pipelines.models.attention import attach_and_prove
from pipelines.models.build import build_model
from pipelines.tasks.shared.token_loss import IGNORED
from pipelines.tasks.summarization import Summarization
from pipelines.tasks.translation import Translation
from pipelines.train.evaluate import by_example
from tests.pipelines.tasks.writing import FAMILIES, bound, config, model, processor, rows

SMALL = {"max_source_len": 16, "max_target_len": 8}


def tokens(family: str, ids) -> list[str]:
    return [token.strip("▁Ġ") for token in processor(family).convert_ids_to_tokens(list(ids))]


# ---- features


GOLDEN = {  # of ("one two three", "four five")
    "encoder": (
        ["[CLS]", "translate", ":", "one", "two", "three", "[SEP]"],
        ["[CLS]", "four", "five", "[SEP]"],
    ),
    "decoder": (
        ["translate", ":", "one", "two", "three", "=>"],
        ["four", "five", "<|endoftext|>"],
    ),
    "encoder_decoder": (
        ["translate", ":", "one", "two", "three", "</s>"],
        ["four", "five", "</s>"],
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_feature_reads_prefix_and_source_and_writes_the_target_with_its_end(family):
    task = bound(Translation(prefix="translate : ", **SMALL), family)
    [feature] = task.prepare(rows()[:1])
    assert tokens(family, feature["input_ids"]) == GOLDEN[family][0]
    assert tokens(family, feature["labels"]) == GOLDEN[family][1]
    assert feature["num_targets"] == len(GOLDEN[family][1])
    assert task.feature_len(feature) == len(feature["input_ids"]) + feature["num_targets"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_source_is_cut_at_its_end_and_what_stands_around_it_stays(family):
    row = {"id": "long", "source": "one two three four five six seven", "target": "one two three four five"}
    task = bound(Translation(prefix="", max_source_len=5, max_target_len=4), family)
    [feature] = task.prepare([row])
    around = {"encoder": (["[CLS]"], ["[SEP]"]), "decoder": ([], ["=>"]), "encoder_decoder": ([], ["</s>"])}
    before, after = around[family]
    words = ["one", "two", "three", "four", "five"][: 5 - len(before) - len(after)]
    assert tokens(family, feature["input_ids"]) == [*before, *words, *after]
    learned = [*(before if family == "encoder" else []), "one", "two", "three", "four"][:4]
    assert tokens(family, feature["labels"]) == learned  # cut, so without an end
    assert task.counts == {"examples": 1, "sources_cut": 1, "targets_cut": 1}


def test_counts_of_what_was_cut_travel_with_the_features():
    task = bound(Translation(max_source_len=6, max_target_len=5), "encoder")
    assert build(task, rows(), "train", None, "").counts == {
        "examples": 5, "sources_cut": 3, "targets_cut": 2,
    }  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_of_several_references_is_learned_and_all_are_scored(family):
    task = bound(Summarization(**SMALL), family)
    row = {"id": "several", "source": "one", "target": ["two three", "four"]}
    [feature] = task.prepare([row])
    assert tokens(family, feature["labels"])[-3:-1] == ["two", "three"]
    assert task.reference(row) == ["two three", "four"]
    metric = task.metrics["rouge1"]
    assert metric.statistics("four", task.reference(row))[0] == 1.0


def test_a_row_without_a_target_can_be_predicted():
    task = bound(Translation(**SMALL), "decoder")
    examples = [task.from_text("one two") | {"id": "a"}, rows()[1]]
    features = task.prepare(examples)
    assert (features[0]["labels"], features[0]["num_targets"]) == ([], 0)
    with torch.no_grad():
        raws = task.predict(model("decoder"), task.collate(features))
        alone = task.predict(model("decoder"), task.collate(features[:1]))
    assert raws[0]["loss"] == 0.0
    assert alone[0]["tokens"] == raws[0]["tokens"]


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (None, "b", "not text but NoneType"),
        (["a"], "b", "not text but list"),
        (" \n", "b", "an empty source"),
        ("a", "", "an empty target"),
        ("a", [], "an empty target"),
        ("a", ["b", " "], "an empty target"),
        ("a", 3, "a target that is not text but int"),
        ("a", ["b", None], "a target that is not text but NoneType"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(source, target, reason):
    assert reason in Translation().check({"id": "1", "source": source, "target": target})
    assert Translation().check({"id": "1", "source": "a", "target": ["b", "c"]}) is None
    assert Translation().check({"id": "1", "source": "a"}) is None


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("encoder", {"max_source_len": 513}),
        ("encoder", {"max_target_len": 513}),
        ("decoder", {"max_source_len": 60, "max_target_len": 37}),
        ("decoder", {"max_source_len": 60, "max_target_len": 30, "max_new_tokens": 37}),
        ("encoder", {"max_source_len": 2}),
    ],
)
def test_lengths_that_do_not_fit_the_model_are_refused(family, options):
    with pytest.raises(UserError, match=r"task\.") as caught:
        bound(Translation(**{**SMALL, **options}), family)
    assert len(str(caught.value)) < 300


# ---- loss


def by_hand(built, family: str, source, target) -> float:
    """Negative log-likelihood of a target, one feature and one token at a time, in float64."""
    total, told = 0.0, []
    for token in target:
        with torch.no_grad():
            if family == "decoder":
                logits = built(torch.tensor([[*source, *told]])).logits
            else:
                begin = built.config.decoder_start_token_id
                logits = built(
                    input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([[begin, *told]])
                ).logits
        total -= logits[0, -1].double().log_softmax(-1)[token].item()
        told.append(token)
    return total


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_the_target_token_by_token(family):
    task, built = bound(Translation(**SMALL), family), model(family)
    features = task.prepare(rows())
    batch = task.collate(features)
    expected = [by_hand(built, family, f["input_ids"], f["labels"]) for f in features]
    with torch.no_grad():
        loss = task.loss(built, batch)
        raws = task.predict(built, batch)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(sum(expected), rel=1e-5)
    assert [raw["loss"] for raw in raws] == pytest.approx(expected, rel=1e-5)


def test_a_decoder_learns_the_target_only():
    task, built = bound(Translation(**SMALL), "decoder"), model("decoder")
    features = task.prepare(rows())
    batch = task.collate(features)
    for feature, labels in zip(features, batch["labels"]):
        assert (labels != IGNORED).sum() == feature["num_targets"]
        assert (labels[: len(feature["input_ids"])] == IGNORED).all()
    # at the prompt's own tokens no logits are formed, and states have no gradient from them
    seen = {}

    def noting(name):
        def note(module, args, output):
            output.retain_grad()
            seen[name] = output

        return note

    built.transformer.ln_f.register_forward_hook(noting("states"))
    built.lm_head.register_forward_hook(noting("logits"))
    task.loss(built, batch).backward()
    assert seen["logits"].shape[:2] == (1, sum(feature["num_targets"] for feature in features))
    felt = seen["states"].grad.abs().sum(-1) > 0
    for feature, places in zip(features, felt):
        begin = len(feature["input_ids"]) - 1
        wanted = [begin <= place < begin + feature["num_targets"] for place in range(len(places))]
        assert places.tolist() == wanted


# ---- predictions


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_neighbours_and_padding_never_change_a_prediction(family, beams):
    task, built = bound(Translation(num_beams=beams, **SMALL), family), model(family)
    features = task.prepare(rows())
    with torch.no_grad():
        together = task.predict(built, task.collate(features))
        backwards = task.predict(built, task.collate(features[::-1]))[::-1]
        alone = [task.predict(built, task.collate([feature]))[0] for feature in features]
    assert len({tuple(raw["tokens"]) for raw in alone}) > 1
    for raws in (together, backwards):
        assert [raw["tokens"] for raw in raws] == [raw["tokens"] for raw in alone]
        assert [raw["loss"] for raw in raws] == pytest.approx([raw["loss"] for raw in alone], rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_is_the_likeliest_token_each_time_with_a_cache_or_without(family):
    task, built = bound(Translation(max_new_tokens=9, **SMALL), family), model(family)
    features = task.prepare(rows())
    with torch.no_grad():
        written = [raw["tokens"] for raw in task.predict(built, task.collate(features))]
    uncached = copy.deepcopy(built)
    uncached.generation_config.use_cache = False
    with torch.no_grad():
        assert [raw["tokens"] for raw in task.predict(uncached, task.collate(features))] == written
    end = task._encoder.end
    for feature, found in zip(features, written):
        told = []
        while len(told) < 9 and end not in told:
            with torch.no_grad():
                told.append(likeliest(built, family, feature["input_ids"], told))
        assert found == [token for token in told if token != end]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", ["encoder", "encoder_decoder"])
def test_a_source_is_read_once_for_loss_and_text(family, beams):
    task, built = bound(Translation(num_beams=beams, **SMALL), family), model(family)
    batch, sizes = task.collate(task.prepare(rows())), []
    with torch.no_grad():
        losses = task._form.losses(built, batch).sum(dim=1).tolist()
        written = task._form.generate(built, batch, task.search())
        reading = built.get_encoder().register_forward_hook(lambda *_: sizes.append(1))
        raws = task.predict(built, batch)
        reading.remove()
    assert len(sizes) == 1
    assert raws == [{"tokens": ids, "loss": loss} for ids, loss in zip(written, losses)]


def likeliest(built, family, source, told) -> int:
    if family == "decoder":
        return built(torch.tensor([[*source, *told]])).logits[0, -1].argmax().item()
    begin = [[built.config.decoder_start_token_id, *told]]
    logits = built(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor(begin)).logits
    return logits[0, -1].argmax().item()


def test_writing_stops_at_the_end_and_decoding_drops_special_tokens():
    task = bound(Translation(**SMALL), "encoder_decoder")
    end, pad = task._encoder.end, task._encoder.pad
    words = task._encoder(["one two"])[0]
    assert len(words) == 2

    class Scripted:
        config = model("encoder_decoder").config

        def generate(self, **inputs):
            assert inputs["max_new_tokens"] == 8
            assert not inputs["do_sample"]
            return torch.tensor([[pad, *words, end, words[0]], [pad, end, pad, pad, pad]])

    batch = task.collate(task.prepare(rows()[:2]))
    written = task._form.generate(Scripted(), batch, task.search())
    assert written == [words, []]
    assert task.assemble(rows()[0], [{"tokens": words}]) == "one two"
    assert task.assemble(rows()[0], [{"tokens": []}]) == ""


@pytest.mark.parametrize("family", FAMILIES)
def test_every_example_gets_exactly_one_prediction(family):
    task, built = bound(Translation(**SMALL), family), model(family)
    features = build(task, rows(), "test", None, "")
    with torch.no_grad():
        raws = task.predict(built, task.collate(list(features)))
    groups = by_example(rows(), features, raws)
    assert [len(group) for group in groups] == [1] * 5
    assert all(isinstance(task.assemble(row, group), str) for row, group in zip(rows(), groups))


def test_more_beams_find_no_less_likely_text():
    built = model("encoder_decoder")
    tasks = [
        bound(Translation(num_beams=beams, length_penalty=0.0, **SMALL), "encoder_decoder")
        for beams in (1, 4)
    ]
    features = tasks[0].prepare(rows())
    totals = []
    for task in tasks:
        with torch.no_grad():
            raws = task.predict(built, task.collate(features))
        ends = [[*raw["tokens"], task._encoder.end][: task.max_new_tokens] for raw in raws]
        totals.append(sum(-by_hand(built, "", f["input_ids"], e) for f, e in zip(features, ends)))
    assert totals[1] >= totals[0] - 1e-4
    assert not math.isclose(totals[0], totals[1])


# ---- models


@pytest.mark.parametrize("family", FAMILIES)
def test_a_variant_is_attached_to_every_site_and_proven_on_a_batch(family):
    task = bound(Translation(**SMALL), family)
    batch = task.collate(task.prepare(rows()))
    for attention in ((), ("gate",)):
        run = config(family, attention)
        built, proof = attach_and_prove(run, model(family), batch)
        assert proof.passed
        assert proof.max_difference == 0.0
    sites = custom_attention.sites(built)
    assert len(sites) == (2 if family == "decoder" else 6)
    assert sum(site.is_cross for site in sites) == (0 if family == "decoder" else 2)
    with torch.no_grad():
        before = task.predict(built, batch)
        for parameter in custom_attention.variant_parameters(built).values():
            parameter.add_(torch.linspace(-3, 3, parameter.numel()).view_as(parameter))
        after = task.predict(built, batch)
    assert before != after
    with torch.no_grad():
        alone = [task.predict(built, task.collate([f]))[0] for f in task.prepare(rows())]
    assert [raw["tokens"] for raw in alone] == [raw["tokens"] for raw in after]


def test_cross_attention_of_bert2bert_alone_can_carry_a_variant():
    task = bound(Translation(**SMALL), "encoder")
    batch = task.collate(task.prepare(rows()))
    run = config("encoder", ("gate",), kind="cross")
    built, proof = attach_and_prove(run, model("encoder"), batch)
    assert (proof.passed, proof.expected, proof.reached) == (True, 2, 2)
    assert len(custom_attention.variant_parameters(built)) > 0


def test_bert2bert_from_a_pretrained_encoder_has_its_weights_twice(tmp_path):
    import transformers

    encoder_config = transformers.BertConfig(
        vocab_size=len(processor("encoder")), hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=29,
    )  # fmt: skip
    transformers.BertModel(encoder_config).save_pretrained(tmp_path)
    processor("encoder").save_pretrained(tmp_path)
    run = config("encoder").to_dict()
    run["model"] = {"name": str(tmp_path), "family": "encoder"}
    from pipelines.config.load import run_from_dict

    built = build_model(run_from_dict(run), "text_to_text", processor("encoder"), {})
    stored = transformers.BertModel.from_pretrained(tmp_path).state_dict()
    encoder, decoder = built.encoder.state_dict(), built.decoder.bert.state_dict()
    for name, weight in stored.items():
        assert torch.equal(encoder[name], weight), name
        assert name.startswith("pooler") or torch.equal(decoder[name], weight), name
    tokenizer = processor("encoder")
    assert built.config.decoder_start_token_id == tokenizer.cls_token_id
    assert (built.config.eos_token_id, built.config.pad_token_id) == (
        tokenizer.sep_token_id, tokenizer.pad_token_id,
    )  # fmt: skip
    again = build_model(run_from_dict(run), "text_to_text", processor("encoder"), {})
    assert all(torch.equal(a, b) for a, b in zip(built.state_dict().values(), again.state_dict().values()))


def test_an_encoder_that_cannot_write_is_refused_by_name():
    run = config("encoder").to_dict()
    run["model"] |= {"architecture": "distilbert", "config": {}}
    from pipelines.config.load import run_from_dict

    with pytest.raises(UserError, match="distilbert"):
        build_model(run_from_dict(run), "text_to_text", processor("encoder"), {})


def test_what_follows_from_an_entry_of_the_config_follows():
    assert model("encoder_decoder").config.num_decoder_layers == 2
