"""Named entities: every word is labelled once, whatever the tokenizer, the windows and the batches."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from pipelines.corpora.ner import generate
from pipelines.errors import UserError
from pipelines.models.tokenizer import train_tokenizer
from pipelines.tasks.ner import IGNORED, Ner

SENTENCES = [row | {"id": str(n)} for n, row in enumerate(generate(60, 0, "train"))]
TOKENIZERS = {
    family: train_tokenizer(family, (" ".join(row["tokens"]) for row in SENTENCES), 300)
    for family in ("encoder", "decoder", "encoder_decoder")
}
EXAMPLES = [
    {"id": "a", "tokens": ["Jordan", "and", "Unbelievablest", "slept"], "tags": ["B-PER", "O", "B-LOC", "O"]},
    {"id": "b", "tokens": ["\ufe0f", "Lincoln", "", "Bank"], "tags": ["O", "B-ORG", "I-ORG", "I-ORG"]},
    {"id": "c", "tokens": ["\ufe0f"], "tags": ["B-PER"]},
    {"id": "n", "tokens": ["", ""], "tags": ["B-PER", "O"]},
    {"id": "d", "tokens": ["x" * 90, "of", "Kent"], "tags": ["O", "O", "B-LOC"]},
    {"id": "e", "tokens": ["old", "lawyers", "of", "Jordan", "hired"] * 9, "tags": ["O"] * 45},
]


def task(family: str = "encoder", **options) -> Ner:
    made = Ner(**options)
    made.fit({"train": [*SENTENCES, *EXAMPLES]})
    made.bind(TOKENIZERS[family], family)
    return made


def assembled(made: Ner, examples: list, features: list, raws: list) -> list:
    """Predictions from raws in feature order."""
    mine = {example["id"]: [] for example in examples}
    for feature, raw in zip(features, raws):
        mine[feature["example_id"]].append(raw)
    return [made.assemble(example, mine[example["id"]]) for example in examples]


def oracle(made: Ner, examples: list, features: list) -> list:
    """Raws of a model that reads each label off the batch: what comes back must be the reference."""
    batch = made.collate(features)
    raws = []
    for words, labels in zip(batch["words"], batch["labels"]):
        raws.append({"words": words[words >= 0].tolist(), "labels": labels[words >= 0].tolist()})
    return assembled(made, examples, features, raws)


def wordless(made: Ner, example: dict) -> list[int]:
    [pieces] = made._encoder([example["tokens"]])
    return [word for word, ids in enumerate(pieces) if not ids]


# ---- every word once
@pytest.mark.parametrize("family", TOKENIZERS)
@pytest.mark.parametrize(("max_len", "overlap"), [(3, 0), (4, 1), (7, 3), (11, 8), (19, 5), (128, 16)])
def test_every_word_is_predicted_exactly_once(family, max_len, overlap):
    made = task(family, max_len=max_len, overlap=overlap)
    examples = [*EXAMPLES, *SENTENCES[:20]]
    features = made.prepare(examples)
    for example in examples:
        mine = [feature for feature in features if feature["example_id"] == example["id"]]
        words = [word for feature in mine for word in feature["words"]]
        assert words == [w for w in range(len(example["tokens"])) if w not in wordless(made, example)]
        assert sum(feature["num_targets"] for feature in mine) == len(words)
        assert all(1 <= len(feature["input_ids"]) <= max_len for feature in mine)
        assert mine
    for example, prediction in zip(examples, oracle(made, examples, features)):
        expected = list(example["tags"])
        for word in wordless(made, example):
            expected[word] = "O"
        assert prediction == expected


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text("abcAB \ufe0f漢é", max_size=30), min_size=1, max_size=25),
    st.integers(3, 30),
    st.integers(0, 29),
    st.sampled_from(sorted(TOKENIZERS)),
)
def test_any_text_in_any_window_is_covered(words, max_len, overlap, family):
    room = max_len - {"encoder": 2, "decoder": 0, "encoder_decoder": 1}[family]
    made = task(family, max_len=max_len, overlap=min(overlap, room - 1))
    example = {"id": "x", "tokens": words, "tags": ["B-PER"] * len(words)}
    features = made.prepare([example])
    expected = ["B-PER"] * len(words)
    for word in wordless(made, example):
        expected[word] = "O"
    assert oracle(made, [example], features) == [expected]


def test_words_without_sub_words_are_counted_and_real_data_has_four(shared):
    from transformers import AutoTokenizer

    from pipelines.data.splits import load_splits
    from tests.pipelines.data.tagging import config

    folder = shared / "data/ner/wnut17"
    made = Ner(max_len=24, overlap=4)
    entries = {split: folder / f"{split}.parquet" for split in ("train", "validation")}
    splits = load_splits(config(**entries), made)
    made.bind(AutoTokenizer.from_pretrained(shared / "models/minilm-l6"), "encoder")
    features = made.prepare(splits.validation)
    assert made.counts["words_without_tokens"] == 4
    assert made.counts["words"] == sum(len(row["tokens"]) for row in splits.validation)
    assert sum(len(feature["words"]) for feature in features) == made.counts["words"] - 4
    references = [list(row["tags"]) for row in splits.validation]
    predictions = oracle(made, splits.validation, features)
    differing = sum(p != r for row in zip(predictions, references) for p, r in zip(*row))
    assert differing <= 4  # those that are O anyway do not differ


def test_counts_tell_what_was_cut():
    made = task(max_len=10, overlap=2)
    made.prepare(EXAMPLES)
    assert made.counts["examples"] == 6
    assert made.counts["words"] == 4 + 4 + 1 + 2 + 3 + 45
    assert made.counts["words_without_tokens"] == 5
    assert made.counts["words_cut"] >= 1
    assert made.counts["examples_in_windows"] >= 2


# ---- features by hand
def test_features_of_a_small_vocabulary_by_hand():
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "jor": 4, "##dan": 5, "slept": 6, "and": 7}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    from tokenizers.processors import TemplateProcessing

    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made = Ner(max_len=5, overlap=1, labels=["O", "B-PER"])
    made.bind(PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]"), "encoder")
    example = {"id": "x", "tokens": ["jordan", "slept", "and"], "tags": ["B-PER", "O", "O"]}
    assert made.prepare([example]) == [
        # "slept" has 0 tokens to its right here, 0 to its left in the next window: the earlier one
        {
            "example_id": "x",
            "input_ids": [2, 4, 5, 6, 3],
            "positions": [1, 3],
            "words": [0, 1],
            "labels": [1, 0],
            "num_targets": 2,
        },
        {
            "example_id": "x",
            "input_ids": [2, 6, 7, 3],
            "positions": [2],
            "words": [2],
            "labels": [0],
            "num_targets": 1,
        },
    ]
    batch = made.collate(made.prepare([example]))
    assert batch["labels"].tolist() == [[-100, 1, -100, 0, -100], [-100, -100, 0, -100, -100]]
    assert batch["words"].tolist() == [[-1, 0, -1, 1, -1], [-1, -1, 2, -1, -1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]


def test_words_of_byte_level_tokenizers_are_those_of_running_text():
    """RoBERTa and GPT-2 as published put no blank before a word that is given alone: another word to them."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator((" ".join(row["tokens"]) for row in SENTENCES), trainer)
    made = Ner()
    made.fit({"train": SENTENCES})
    made.bind(PreTrainedTokenizerFast(tokenizer_object=backend), "decoder")
    [feature] = made.prepare([{"id": "x", "tokens": ["the", "lawyers", "of"], "tags": ["O"] * 3}])
    assert feature["input_ids"] == backend.encode(" the lawyers of").ids
    assert made.collate([feature])["input_ids"].shape == (1, len(feature["input_ids"]))  # no pad token needed


def test_settings_of_the_tokenizer_file_do_not_cut_or_pad_words():
    made = task()
    plain = made.prepare(SENTENCES[:5])
    made.processor.backend_tokenizer.enable_truncation(4)
    made.processor.backend_tokenizer.enable_padding(length=50)
    assert made.prepare(SENTENCES[:5]) == plain


def test_an_example_without_tags_can_be_predicted():
    made = task()
    feature = made.prepare([{"id": "x", "tokens": ["Jordan", "slept"]}])[0]
    assert feature["labels"] == [IGNORED, IGNORED]
    assert feature["num_targets"] == 0
    assert feature["words"] == [0, 1]


# ---- loss and prediction
def small_bert(made: Ner) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
    options = made.model_options()
    config = BertConfig(vocab_size=len(made.processor), hidden_dropout_prob=0.0, **sizes, **options)
    return BertForTokenClassification(config).eval()


def test_the_loss_is_the_sum_of_the_cross_entropies_of_the_targets():
    made = task(max_len=12, overlap=4)
    model, features = small_bert(made), made.prepare(EXAMPLES)
    by_hand, targets = 0.0, 0
    for feature in features:
        logits = model(input_ids=torch.tensor([feature["input_ids"]])).logits[0]
        for position, label in zip(feature["positions"], feature["labels"]):
            by_hand -= functional.log_softmax(logits[position].double(), dim=-1)[label].item()
            targets += 1
    assert targets == sum(feature["num_targets"] for feature in features)
    batch = made.collate(features)
    with torch.no_grad():
        loss, raws = made.loss(model, batch), made.predict(model, batch)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)
    assert math.fsum(raw["loss"] for raw in raws) == pytest.approx(by_hand, rel=1e-5)


@torch.no_grad()
def test_batches_and_padding_do_not_change_predictions():
    made = task(max_len=20, overlap=5)
    model, features = small_bert(made), made.prepare(SENTENCES)
    assert len({len(feature["input_ids"]) for feature in features}) > 5

    def predicted(size: int, order: list[int]) -> list:
        raws: dict[int, dict] = {}
        for start in range(0, len(order), size):
            part = order[start : start + size]
            raws |= zip(part, made.predict(model, made.collate([features[i] for i in part])))
        return assembled(made, SENTENCES, features, [raws[i] for i in range(len(features))])

    straight = list(range(len(features)))
    one_by_one = predicted(1, straight)
    assert len({tag for prediction in one_by_one for tag in prediction}) > 1
    assert predicted(7, straight) == one_by_one
    assert predicted(len(features), straight[::-1]) == one_by_one


# ---- labels and options
def test_labels_are_those_of_train_with_o_first():
    made = task()
    assert made.state()["labels"] == ["O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER"]
    assert made.model_options()["id2label"][5] == "B-PER"
    restored = Ner()
    restored.restore(made.state())
    assert restored.model_options() == made.model_options()


def test_numbers_are_labels_by_the_names_given():
    made = Ner(labels=["O", "B-PER", "I-PER"])
    row = {"id": "x", "tokens": ["a", "b"], "tags": [1, 0]}
    assert made.check(row) is None
    assert made.reference(row) == ["B-PER", "O"]
    assert "task.labels names 3" in made.check(row | {"tags": [1, 3]})


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tags": ["O"]}, "has 2 tokens and 1 tags"),
        ({"tokens": [], "tags": []}, "has no words"),
        ({"tokens": "a b"}, "has tokens that are no list but str"),
        ({"tokens": ["a", None]}, "has a token that is not text: None"),
        ({"tags": [0, 3]}, "has numbers as tags, without names (give them in order, as task.labels"),
        ({"tags": ["O", "PER"]}, "has the tag 'PER', where O, B-TYPE or I-TYPE belongs"),
        ({"tags": ["O", "B-"]}, "has the tag 'B-'"),
        ({"tags": ["O", None]}, "has the tag None"),
        ({"tags": ["O", "B-NEW"]}, "has the tag 'B-NEW', which no row of train has"),
    ],
)
def test_rows_that_cannot_be_used_say_why(row, said):
    made = Ner()
    made.fit({"train": SENTENCES})
    assert said in made.check({"id": "x", "tokens": ["a", "b"], "tags": ["O", "O"]} | row)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_len": 2}, r"task\.max_len: has no room for a word \(got 2\); at least 3"),
        ({"max_len": 10, "overlap": 8}, r"task\.overlap: must be less than a window \(got 8\); 0 to 7"),
        ({"overlap": -1}, r"task\.overlap"),
        ({"labels": ["B-PER"]}, r"task\.labels: labels must be distinct, in IOB2 and with O"),
        ({"labels": ["O", "PER"]}, r"task\.labels"),
        ({"labels": ["O", "O"]}, r"task\.labels"),
    ],
)
def test_options_that_cannot_work_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        task(**options)


def test_windows_longer_than_the_model_are_refused():
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=TOKENIZERS["encoder"].backend_tokenizer, model_max_length=64, pad_token="[PAD]"
    )
    with pytest.raises(UserError, match=r"task\.max_len: .*\(got 65\); at most 64"):
        Ner(max_len=65).bind(tokenizer, "encoder")


def test_a_slow_tokenizer_is_refused():
    with pytest.raises(UserError, match="has no fast form"):
        Ner().bind(object(), "encoder")
