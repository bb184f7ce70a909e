"""`data.split`: random parts of one source, stratified, the same each time, nothing in two of them."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config.data import SplitSpec
from pipelines.config.load import load_run, run_from_dict
from pipelines.data.partition import partition
from pipelines.data.splits import load_splits
from pipelines.errors import UserError
from pipelines.runs import identity
from pipelines.tasks.ner import Ner
from pipelines.tasks.question_answering import QuestionAnswering
from pipelines.tasks.text_classification import TextClassification
from tests.pipelines.data.tagging import Tagging, config

LABELS = ["angry"] * 120 + ["calm"] * 60 + ["sad"] * 20


def sorted_file(folder, labels=LABELS):
    path = folder / "all.jsonl"
    path.write_text(
        "\n".join(json.dumps({"text": f"t{n}", "label": label}) for n, label in enumerate(labels))
    )
    return path


def loaded(path, task=None, **split):
    return load_splits(config(train=path, split=SplitSpec(**split)), task or TextClassification())


def counts(examples) -> Counter[str]:
    return Counter(example["label"] for example in examples)


def test_every_label_has_its_share_in_every_split(tmp_path):
    splits = loaded(sorted_file(tmp_path), validation=0.1, test=0.2)
    assert counts(splits.train) == {"angry": 84, "calm": 42, "sad": 14}
    assert counts(splits.validation) == {"angry": 12, "calm": 6, "sad": 2}
    assert counts(splits.test) == {"angry": 24, "calm": 12, "sad": 4}
    ids = [example["id"] for part in (splits.train, splits.validation, splits.test) for example in part]
    assert sorted(ids, key=int) == [str(n) for n in range(1, 201)]
    assert [int(row["id"]) for row in splits.train] == sorted(int(row["id"]) for row in splits.train)
    assert any("split at random (seed 1): 140 train, 20 validation, 40 test" in note for note in splits.notes)


def test_the_split_follows_from_seed_and_content_not_from_the_order_of_the_file(tmp_path):
    path = sorted_file(tmp_path)
    texts = [{row["text"] for row in loaded(path, seed=seed).validation} for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    lines = path.read_text().split("\n")
    Random(0).shuffle(lines)
    path.write_text("\n".join(lines))
    assert {row["text"] for row in loaded(path, seed=1).validation} == texts[0]


def test_rows_with_equal_inputs_stay_together(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [{"text": f"t{n % 30}", "label": "ab"[n % 2]} for n in range(90)]
    path.write_text("\n".join(map(json.dumps, rows)))
    splits = loaded(path, validation=0.3, test=0.2)
    parts = [{row["text"] for row in part} for part in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, parts)) == 30 == len(set.union(*parts))


def test_questions_about_one_text_stay_together(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [
        {
            "question": f"q{n} ?",
            "context": f"Text {n % 20} .",
            "answers": {"text": ["Text"], "answer_start": [0]},
        }
        for n in range(100)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    splits = loaded(path, QuestionAnswering(), validation=0.2)
    contexts = [{row["context"] for row in part} for part in (splits.train, splits.validation)]
    assert [len(part) for part in contexts] == [16, 4]
    assert not contexts[0] & contexts[1]


def test_any_labels_and_shares_give_disjoint_splits_of_the_right_size():
    @settings(max_examples=150, derandomize=True, deadline=None)
    @given(
        st.lists(st.sampled_from("abc"), min_size=8, max_size=80),
        st.floats(0.05, 0.45),
        st.sampled_from([0.0, 0.1, 0.3]),
        st.integers(0, 3),
    )
    def check(labels, validation, test, seed):
        examples = [{"id": str(n), "text": str(n), "label": label} for n, label in enumerate(labels)]
        spec = SplitSpec(validation=validation, test=test, seed=seed)
        try:
            found = partition(examples, spec, TextClassification(), "t")
        except UserError:  # too few rows for a share
            return
        assert sorted(row for rows in found.values() for row in rows) == list(range(len(labels)))
        assert {labels[row] for row in found["train"]} == set(labels)
        for split, share in (("validation", validation), ("test", test)):
            assert abs(len(found.get(split, ())) - share * len(labels)) <= len(set(labels)) + 1

    check()


def test_a_split_without_a_row_is_refused(tmp_path):
    path = sorted_file(tmp_path, ["x", "y"] * 4)
    with pytest.raises(UserError, match=r"data\.split\.validation: no row of .* \(got 0\.01 of 8 rows"):
        loaded(path, validation=0.01)


def test_numbers_taken_for_labels_are_told_where_a_split_gets_no_row(tmp_path):
    path = sorted_file(tmp_path, [f"{n}.5" for n in range(12)])
    with pytest.raises(UserError, match=r"in 12 groups with 12 different labels\).*kind: regression"):
        loaded(path, validation=0.25)


def test_a_label_that_only_a_drawn_row_has_is_told(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [{"tokens": [str(n)], "ner_tags": [f"T{n}"]} for n in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(
        UserError, match=r"t\.jsonl, id \d+ and 1 more row: has the tag 'T\d+', which no row of"
    ):
        loaded(path, Tagging(), validation=0.1)
    skipping = config(train=path, split=SplitSpec(validation=0.5), on_bad_row="skip")
    assert len(load_splits(skipping, Tagging()).skipped["validation"]) == 10


def test_the_shares_of_labels_of_a_sorted_file_are_told(tmp_path):
    path = sorted_file(tmp_path, ["bad"] * 60 + ["good"] * 60)
    cut = config(train=f"{path}[:75%]", validation=f"{path}[75%:]")
    [note] = load_splits(cut, TextClassification()).notes
    assert note.startswith(
        "validation: the shares of labels differ from those of train (good: 100 % here, 33 %"
    )
    fair = sorted_file(tmp_path, ["bad", "good"] * 60)
    assert (
        load_splits(config(train=f"{fair}[:75%]", validation=f"{fair}[75%:]"), TextClassification()).notes
        == []
    )


def test_a_label_that_a_sorted_file_has_only_at_its_end_is_told(tmp_path):
    path = sorted_file(tmp_path, ["a"] * 10 + ["b"] * 10 + ["c"] * 5)
    cut = config(train=f"{path}[:80%]", validation=f"{path}[80%:]")
    with pytest.raises(
        UserError, match=r"'c', which no row of train has.*if the file is sorted, data\.split"
    ):
        load_splits(cut, TextClassification())


def test_the_split_is_part_of_the_identity_of_a_run(tmp_path):
    model = {"architecture": "bert", "family": "encoder"}
    data = {"train": str(sorted_file(tmp_path))}
    hashes = {
        identity.run_hash(
            identity.describe(
                run_from_dict(
                    {"task": "text_classification", "model": model, "data": data | {"split": split}}
                )
            )
        )
        for split in ({"test": 0.1}, {"test": 0.1, "seed": 2}, {"test": 0.2}, {"validation": 0.2})
    }
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("split={validation: 0.1}", None),
        ("split={validation: 0, test: 0.1}", "data.validation is missing"),
        ("split={validation: 0.7, test: 0.4}", "validation and test together must be above 0 and below 1"),
        ("split={valid: 0.1}", "unknown key 'valid' in data.split"),
        ("split={validation: 1.5}", "data.split.validation must be below 1"),
        ("split={test: 0.1} data.streaming=true", "data.split and data.streaming exclude each other"),
        ("split={} data.validation=all.jsonl", "data.split draws validation, and data.validation names it"),
    ],
)
def test_settings_of_a_split_are_checked(tmp_path, monkeypatch, data, said):
    sorted_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    settings_ = ["task=text_classification", "model.architecture=bert", "model.family=encoder"]
    asked = [*settings_, "data.train=all.jsonl", *f"data.{data}".replace("} ", "}|").split("|")]
    if said is None:
        assert load_run([], asked).data.split == SplitSpec()
        return
    with pytest.raises(UserError) as caught:
        load_run([], asked)
    assert said in str(caught.value)


def entity_file(folder, types, name="t.jsonl"):
    """Sentences with the given sets of entity types, such as "PER LOC"."""
    rows = [
        {"tokens": [f"w{n}", "x", *kinds.split()], "ner_tags": ["O", "O", *(f"B-{k}" for k in kinds.split())]}
        for n, kinds in enumerate(types)
    ]
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_sentences_are_stratified_by_the_types_of_their_entities(tmp_path):
    types = [""] * 60 + ["PER"] * 30 + ["LOC PER"] * 20 + ["ORG"] * 10
    splits = loaded(entity_file(tmp_path, types), Ner(), validation=0.2)
    found = Counter(" ".join(row["tokens"][2:]) for row in splits.validation)
    assert found == {"": 12, "PER": 6, "LOC PER": 4, "ORG": 2}
    assert not any("shares" in note for note in splits.notes)


def test_rare_sets_of_types_are_drawn_too_and_no_type_is_missing_in_train(tmp_path):
    kinds = ["PER", "LOC", "ORG", "MISC", "DATE"]
    sets = [" ".join(pair) for size in (1, 2, 3) for pair in itertools.combinations(kinds, size)]
    splits = loaded(entity_file(tmp_path, [*sets, "EVENT LOC"]), Ner(), validation=0.4)
    assert len(splits.validation) == round(0.4 * len([*sets, ""]))
    learned = {tag for row in splits.train for tag in row["tags"]}
    assert {f"B-{kind}" for kind in [*kinds, "EVENT"]} <= learned
    assert all("EVENT" not in row["tokens"] for row in splits.validation)


def test_sorted_sentences_are_told(tmp_path):
    whole = entity_file(tmp_path, ["PER", "", "LOC PER"] * 40, "fair.jsonl")
    fair = load_splits(config(train=f"{whole}[:75%]", validation=f"{whole}[75%:]"), Ner())
    assert fair.notes == []
    mixed = entity_file(tmp_path, ["LOC PER", "PER", ""] * 10 + ["PER"] * 50 + [""] * 40, "sorted.jsonl")
    cut = load_splits(config(train=f"{mixed}[:75%]", validation=f"{mixed}[75%:]"), Ner())
    [note] = cut.notes
    assert "the shares of labels differ from those of train (no label: 100 % here" in note


def test_rows_of_several_labels_are_stratified_by_all_of_them(tmp_path):
    labels = [["a"]] * 40 + [["a", "b"]] * 20 + [[]] * 20
    task = TextClassification(kind="multi_label")
    splits = loaded(sorted_file(tmp_path, labels), task, validation=0.25)
    assert Counter(map(tuple, (row["label"] for row in splits.validation))) == {
        ("a",): 10, ("a", "b"): 5, (): 5,
    }  # fmt: skip


@pytest.mark.parametrize("other", ["Calm", "calm ", " calm", "ca\u00adlm", "\uff43alm", "angry"])
def test_labels_that_look_alike_are_told(tmp_path, other):
    path = sorted_file(tmp_path, ["calm", other, "sad"] * 4)
    notes = load_splits(config(train=path, validation=path), TextClassification()).notes
    told = [note for note in notes if "differ only in blanks, case or spelling" in note]
    assert len(told) == (other not in ("angry", "ca\u00adlm"))
    assert not told or (repr(other) in told[0] and "'calm'" in told[0] and "2 labels" in told[0])
    tagged = entity_file(tmp_path, ["Per", "PER", "LOC"] * 3)
    notes = load_splits(config(train=tagged, validation=tagged), Ner()).notes
    assert any("2 labels differ" in note and "'PER', 'Per'" in note for note in notes)


@pytest.mark.parametrize(("one", "other", "told"), [(1, "1.0", 1), (True, 1, 1), ("0", "no", 0), (1, 2, 0)])
def test_labels_that_state_one_number_are_told(tmp_path, one, other, told):
    path = sorted_file(tmp_path, [one, other, "sad"] * 4)
    notes = load_splits(config(train=path, validation=path), TextClassification()).notes
    assert sum("2 labels differ only in blanks, case or spelling" in note for note in notes) == told
