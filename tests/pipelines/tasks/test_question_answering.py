"""Question answering: the right span comes back from any window, and "no answer" where it should."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForQuestionAnswering

from pipelines.corpora.question_answering import generate
from pipelines.data import features as feature_cache
from pipelines.data.readers import read_file
from pipelines.data.splits import load_splits
from pipelines.errors import UserError
from pipelines.metrics.squad import Squad
from pipelines.models.tokenizer import train_tokenizer
from pipelines.tasks.question_answering import IGNORED, QuestionAnswering
from pipelines.train.evaluate import by_example
from tests.pipelines.data.tagging import config

ROWS = [row | {"id": str(n)} for n, row in enumerate(generate(60, 0, "train", unanswerable=0.3))]
TOKENIZERS = {
    family: train_tokenizer(family, QuestionAnswering().texts(ROWS), 400)
    for family in ("encoder", "decoder", "encoder_decoder")
}
FAMILIES = pytest.mark.parametrize("family", TOKENIZERS)


def row(question: str, context: str, *answers: str, **more) -> dict:
    starts = [context.index(answer) for answer in answers]
    return {
        "id": "a",
        "question": question,
        "context": context,
        "answers": list(answers),
        "answer_starts": starts,
    } | more


def task(family: str = "encoder", **options) -> QuestionAnswering:
    made = QuestionAnswering(**{"max_len": 64, "overlap": 16, "unanswerable": True} | options)
    made.bind(TOKENIZERS[family], family)
    return made


def answered(made: QuestionAnswering, examples: list, model) -> list:
    """Predictions of a model, in batches of three features."""
    features = feature_cache.build(made, examples, "test", None, "")
    raws = []
    for start in range(0, len(features), 3):
        batch = made.collate(features[start : start + 3])
        raws += made.predict(model(batch) if getattr(model, "sees_labels", False) else model, batch)
    return [made.assemble(e, group) for e, group in zip(examples, by_example(examples, features, raws))]


def oracle(batch):
    """A model that points at the labels of the batch; at the first token where it has none."""

    def logits(name: str) -> torch.Tensor:
        return 20.0 * torch.nn.functional.one_hot(batch[name].clamp(min=0), batch["input_ids"].shape[1])

    return lambda **_: SimpleNamespace(start_logits=logits("first"), end_logits=logits("last"))


oracle.sees_labels = True


# ---- from rows to windows and back
@FAMILIES
@pytest.mark.parametrize(("max_len", "overlap"), [(33, 5), (47, 0), (64, 16), (200, 90)])
def test_the_answer_comes_back_character_by_character_from_any_windows(family, max_len, overlap):
    made = task(family, max_len=max_len, overlap=overlap)
    features = made.prepare(ROWS)
    shown = {f["example_id"] for f in features if f["first"] not in (IGNORED, f["null"])}
    assert all(len(f["input_ids"]) <= max_len for f in features)
    checked = 0
    for example, said in zip(ROWS, answered(made, ROWS, oracle)):
        if example["id"] not in shown and example["answers"]:
            continue  # in no window whole: no target, and counted
        assert [said["text"]] == (example["answers"] or [""])
        checked += 1
        if said["text"]:
            assert said["start"] == example["answer_starts"][0]
            assert example["context"][said["start"] : said["end"]] == said["text"]
    assert checked + made.counts["answers_not_taught"] == len(ROWS)
    assert checked > len(ROWS) / 2


@FAMILIES
def test_any_word_of_a_text_full_of_odd_characters_can_be_the_answer(family):
    context = (
        "Zoë Andre\u0301 \U0001f600 met\tJose\u0301  Müller \U0001f469\u200d\U0001f52c Malmo\u0308 \u2028 ½ x"
    )
    words = context.split()
    examples = [row(f"which {n} ?", context, word, id=str(n)) for n, word in enumerate(words)]
    examples += [
        row("where ?", context, context[context.index(a) : context.index(b) + len(b)], id=a + b)
        for a, b in zip(words, words[2:])
    ]
    made = task(family, max_len=200, overlap=20, unanswerable=False, max_answer_len=60)
    assert [made.check(example) for example in examples] == [None] * len(examples)
    for example, said in zip(examples, answered(made, examples, oracle)):
        assert said["text"] == example["answers"][0]
        assert said["start"] == example["answer_starts"][0]


def test_windows_are_those_of_the_official_script(shared):
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "minilm-l6")
    made = QuestionAnswering(max_len=96, overlap=31)
    made.bind(tokenizer, "encoder")
    table = read_file(str(shared / "data" / "qa" / "squad_v1" / "validation.parquet"))
    for source in table.take(table.columns)[:40]:
        answers = source["answers"]
        example = {**source, "answers": answers["text"], "answer_starts": answers["answer_start"]}
        ours = made.prepare([example])
        theirs = tokenizer(
            example["question"], example["context"], truncation="only_second", max_length=96, stride=31,
            return_overflowing_tokens=True, return_token_type_ids=True, padding=False,
        )  # fmt: skip
        assert [f["input_ids"] for f in ours] == theirs["input_ids"]
        batch = made.collate(ours)
        for types, ids, line in zip(theirs["token_type_ids"], ours, batch["token_type_ids"].tolist()):
            assert line[: len(ids["input_ids"])] == types


def test_real_answers_come_back_but_for_those_inside_a_token(shared):
    """SQuAD marks a few answers inside a word; the span of whole tokens then holds the answer."""
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "minilm-l6")
    for version, unanswerable in (("v1", False), ("v2", True)):
        made = QuestionAnswering(unanswerable=unanswerable)
        data = config(
            train=shared / "data" / "qa" / f"squad_{version}" / "validation.parquet", max_train_examples=250
        )
        rows = load_splits(data, made, required=("train",)).train
        made.bind(tokenizer, "encoder")
        exact = 0
        for example, said in zip(rows, answered(made, rows, oracle)):
            if not example["answers"]:
                assert said["text"] == ""
                exact += 1
                continue
            assert example["answers"][0].strip() in said["text"]
            exact += said["text"] == example["answers"][0].strip()
        assert exact >= 0.98 * len(rows)
        assert made.counts["answers_not_taught"] == 0
        assert len({made.cluster(example) for example in rows}) < len(rows)


def test_a_window_without_the_whole_answer_is_taught_no_answer_and_an_answer_in_none_is_not_taught():
    context = " ".join(["Rome Oslo Lima"] * 20)
    made = task(max_len=33, overlap=4)
    long = row("where ?", context, context[: len(context) // 2])
    assert {(f["first"], f["num_targets"]) for f in made.prepare([long])} == {(IGNORED, 0)}
    assert made.counts["answers_not_taught"] == 1
    features = made.prepare([row("where ?", context, "Oslo")])
    assert features[0]["first"] == features[0]["last"] == features[0]["context_at"] + 1
    assert {(f["first"], f["last"]) for f in features[1:]} == {(0, 0)}
    assert {f["num_targets"] for f in features} == {2}


@FAMILIES
def test_a_question_longer_than_half_the_input_is_cut_and_counted(family):
    made = task(family)
    features = made.prepare([row("who sang in Rome and " * 40 + "?", "Anna sang .", "Anna")])
    assert made.counts["questions_cut"] == 1
    assert all(len(f["input_ids"]) <= 64 and f["context_at"] <= 36 for f in features)
    made.prepare([row("who ?", "Anna sang .", "Anna")])
    assert made.counts["questions_cut"] == 1


@pytest.mark.parametrize(
    ("family", "place"), [("encoder", "first"), ("decoder", "last"), ("encoder_decoder", "last")]
)
def test_no_answer_stands_at_a_special_token_that_has_seen_the_input(family, place):
    made = task(family)
    for feature in made.prepare(ROWS[:9]):
        assert feature["null"] == (0 if place == "first" else len(feature["input_ids"]) - 1)
        assert feature["input_ids"][feature["null"]] in TOKENIZERS[family].all_special_ids


# ---- rows that cannot be used
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"answer_starts": [4]},
            r"not stand at its start: 'Anna' at character 4, where the context has ' san' \(it is at 0\)",
        ),
        ({"answer_starts": [-4]}, "at character -4"),
        ({"answers": ["Bruno"], "answer_starts": [0]}, "it is nowhere in the context"),
        ({"answers": ["Anna", "sang"]}, "has 2 answers and 1 answer starts"),
        ({"answers": [" "]}, "has an answer that is not text: ' '"),
        ({"answers": [7]}, "has an answer that is not text: 7"),
        ({"answer_starts": ["0"]}, "has an answer start that is not a whole number: '0'"),
        ({"answers": [], "answer_starts": []}, "has no answer"),
        ({"question": " \n"}, "has an empty question"),
        ({"context": ""}, "has an empty context"),
        ({"context": ["Anna"]}, "has a context that is not text"),
    ],
)
def test_a_faulty_row_is_refused_with_its_reason(changes, reason):
    import re

    found = QuestionAnswering().check(row("who ?", "Anna sang .", "Anna") | changes)
    assert re.search(reason, found or "")


def test_a_row_without_targets_can_be_predicted():
    made = task()
    example = {"id": "a", "question": "who ?", "context": "Anna sang ."}
    assert made.check(example) is None
    assert [f["num_targets"] for f in made.prepare([example])] == [0]


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"max_len": 4}, "task.max_len"),
        ({"overlap": 31}, "task.overlap"),
        ({"overlap": -1}, "task.overlap"),
    ],
)
def test_options_that_cannot_work_are_refused(options, where):
    with pytest.raises(UserError) as caught:
        task(**options)
    assert caught.value.where == where


# ---- the best span, no answer, the threshold
def raw(*spans, null=0.0) -> dict:
    total = math.log(sum(math.exp(score) for score, _, _ in spans)) if spans else -math.inf
    return {"spans": [list(span) for span in spans], "total": total, "null": null}


def test_the_best_span_over_all_windows_answers_once():
    made = task(unanswerable=False)
    example = row("who ?", "Anna sang in Rome .")
    windows = [raw((1.0, 0, 4), (0.5, 13, 17)), raw((2.0, 13, 17), (1.5, 5, 9))]
    said = made.assemble(example, windows)
    assert (said["text"], said["start"], said["end"]) == ("Rome", 13, 17)
    assert said["score"] == pytest.approx(math.exp(2) / sum(map(math.exp, (1, 0.5, 2, 1.5))))
    assert [one["text"] for one in made.answer(example, windows)["n_best"]] == ["Rome", "sang", "Anna"]


@pytest.mark.parametrize(("threshold", "text"), [(0.9, ""), (1.0, "Rome"), (None, "")])
def test_no_answer_is_given_where_its_lowest_score_beats_the_best_span_by_more_than_the_threshold(
    threshold, text
):
    made = task(null_threshold=threshold)
    windows = [raw((1.0, 0, 4), null=9.0), raw((2.0, 13, 17), null=3.0)]  # by 3 - 2 = 1
    said = made.assemble(row("who ?", "Anna sang in Rome ."), windows)
    assert said["text"] == text
    assert (said["start"] is None) == (text == "")
    assert made.answer(row("who ?", "Anna sang in Rome ."), windows)["null_margin"] == 1.0


def test_the_threshold_is_tuned_on_what_tune_is_given_and_kept_in_the_state():
    made = task()
    examples = [
        row("q", "Anna sang .", *answers, id=str(n)) for n, answers in enumerate([["Anna"], ["Anna"], [], []])
    ]
    groups = [[raw((0.0, 0, 4), null=margin)] for margin in (1.0, 3.0, 5.0, 9.0)]
    made.tune(examples, groups)
    assert made.state() == {"null_threshold": 4.0}
    said = [made.assemble(example, group)["text"] for example, group in zip(examples, groups)]
    assert said == ["Anna", "Anna", "", ""]
    again = task()
    again.restore(made.state())
    assert again.assemble(examples[1], groups[1])["text"] == "Anna"
    fixed = task(null_threshold=0.5)
    fixed.tune(examples, groups)
    assert fixed.state() == {"null_threshold": 0.5}
    assert task(unanswerable=False).state() == {}


def test_the_tuned_threshold_is_the_best_of_the_official_scorer():
    made = task()
    generator = torch.Generator().manual_seed(3)
    examples = [{**example, "id": str(n)} for n, example in enumerate(ROWS)]
    groups = []
    for example in examples:
        scores = torch.randn(3, generator=generator).tolist()
        begin = example["answer_starts"][0] if example["answers"] else 3
        groups.append([raw((scores[0], begin, begin + 4), (scores[1], 0, 7), null=2 * scores[2])])

    def f1(threshold: float) -> float:
        made.restore({"null_threshold": threshold})
        metric = Squad("f1", "2.0")
        return sum(
            metric.statistics(made.assemble(e, g), made.reference(e))[0] for e, g in zip(examples, groups)
        )

    made.tune(examples, groups)
    tuned = f1(made.state()["null_threshold"])
    assert tuned == pytest.approx(max(f1(threshold / 50) for threshold in range(-400, 400)))


# ---- learning
def tiny_bert(vocab_size: int) -> BertForQuestionAnswering:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 29}
    return BertForQuestionAnswering(BertConfig(vocab_size=vocab_size, **sizes)).eval()


def test_the_mean_loss_is_that_of_transformers_without_padding():
    made, model = task(), tiny_bert(400)
    features = made.prepare(ROWS)
    for feature in features[:7]:
        batch = made.collate([feature])
        theirs = model(
            **{name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")},
            start_positions=batch["first"],
            end_positions=batch["last"],
        ).loss
        ours = made.loss(model, batch) / feature["num_targets"]
        torch.testing.assert_close(ours, theirs)


def test_neither_batches_nor_padding_change_loss_or_prediction():
    made, model = task(max_len=40, overlap=7), tiny_bert(400)
    features = made.prepare(ROWS[:12])
    with torch.no_grad():
        alone = [made.predict(model, made.collate([feature]))[0] for feature in features]
        together = made.predict(model, made.collate(features))
        summed = made.loss(model, made.collate(features)).item()
    tolerance = {"rel": 200 * torch.finfo(torch.float32).eps, "abs": 1e-5}
    for one, other in zip(alone, together):
        assert [span[1:] for span in one["spans"][:1]] == [span[1:] for span in other["spans"][:1]]
        for name in ("total", "null", "loss"):
            assert one[name] == pytest.approx(other[name], **tolerance)
    assert summed == pytest.approx(sum(one["loss"] for one in alone), **tolerance)


# ---- reading
def test_nested_squad_files_give_one_row_per_question(tmp_path):
    import json

    context = "Anna sang in Rome ."
    question = {"id": "q1", "question": "who ?", "answers": [{"text": "Anna", "answer_start": 0}]}
    none = {"id": "q2", "question": "why ?", "answers": [], "is_impossible": True,
            "plausible_answers": [{"text": "Rome", "answer_start": 13}]}  # fmt: skip
    article = {
        "title": "Songs",
        "paragraphs": [{"context": context, "qas": [question, none]}, {"context": context}],
    }
    file = tmp_path / "train-v2.0.json"
    file.write_text(json.dumps({"version": "v2.0", "data": [article, {"title": "none"}]}))
    data = config(train=file, on_bad_row="skip")
    made = QuestionAnswering(unanswerable=True)
    splits = load_splits(data, made, required=("train",))
    first, second = splits.train
    assert (first["id"], first["title"], first["answers"], first["answer_starts"]) == (
        "q1",
        "Songs",
        ["Anna"],
        [0],
    )
    assert (second["id"], second["answers"]) == ("q2", [])
    assert made.cluster(first) == made.cluster(second) == "Songs"
    assert [row for row, _ in splits.skipped["train"]] == [3, 4]


def test_questions_without_a_title_are_clustered_by_their_context():
    made = QuestionAnswering()
    rows = [
        row("who ?", "Anna sang .", "Anna"),
        row("what ?", "Anna sang .", "sang"),
        row("q", "Bo ran .", "Bo"),
    ]
    clusters = [made.cluster(example) for example in rows]
    assert clusters[0] == clusters[1] != clusters[2]
