"""ROUGE is rouge-score's, its traps closed: plain mean, stemmer and tokenizer stated, sentences split."""

import pytest
from rouge_score.rouge_scorer import RougeScorer

from pipelines.errors import UserError
from pipelines.metrics.base import total
from pipelines.metrics.load import load
from pipelines.metrics.rouge import MEASURES, AnyLanguage, sentences

PREDICTIONS = ["Cats running quickly. Dogs slept.", "", "b c d. a x y.", "The runner's 3 dogs"]
REFERENCES = ["Cats run quickly. Dogs sleeping.", "a", "a x y. b c d.", "the runners and three dogs"]


@pytest.mark.parametrize("measure", ["rouge1", "rouge2", "rougeL"])
@pytest.mark.parametrize("stemmer", [True, False])
def test_the_score_is_the_plain_mean_of_rouge_score_itself(measure, stemmer):
    metric = load("rouge", {"measure": measure, "stemmer": stemmer})
    scorer = RougeScorer([measure], use_stemmer=stemmer)
    each = [scorer.score(r, p)[measure].fmeasure for p, r in zip(PREDICTIONS, REFERENCES)]
    rows = [metric.statistics(p, r) for p, r in zip(PREDICTIONS, REFERENCES)]
    assert [row[0] for row in rows] == each
    assert float(metric.score(total(rows))) == metric.library_score(PREDICTIONS, REFERENCES)
    assert metric.library_score(PREDICTIONS, REFERENCES) == pytest.approx(100 * sum(each) / len(each))


@pytest.mark.parametrize(
    ("measure", "stemmer", "score"),
    [("rouge1", False, 60), ("rouge2", False, 25), ("rouge1", True, 80), ("rouge2", True, 75)],
)
def test_the_stemmer_moves_the_score_as_measured(measure, stemmer, score):
    metric = load("rouge", {"measure": measure, "stemmer": stemmer})
    assert metric.library_score(PREDICTIONS[:1], REFERENCES[:1]) == pytest.approx(score)
    assert f"stem:{'porter' if stemmer else 'no'}" in metric.signature


def test_rouge_lsum_splits_sentences_that_have_no_line_breaks():
    metric = load("rouge", {"measure": "rougeLsum"})
    assert RougeScorer(["rougeLsum"]).score(REFERENCES[2], PREDICTIONS[2])["rougeLsum"].fmeasure == 0.5
    assert metric.library_score(PREDICTIONS[2:3], REFERENCES[2:3]) == 100
    broken = [text.replace(". ", ".\n") for text in (PREDICTIONS[2], REFERENCES[2])]
    assert metric.library_score(broken[:1], broken[1:]) == 100


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Line one. Still one.\nLine two.", ["Line one. Still one.", "Line two."]),
        ("He said “no.” Then left.", ["He said “no.", "Then left."]),
        ("3.5 per cent", ["3.5 per cent"]),
        ("今天下雨。我们回家！", ["今天下雨。", "我们回家！"]),
        ("", []),
    ],
)
def test_the_rule_for_sentences(text, parts):
    assert sentences(text) == parts


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("ru", "привет мир"),
        ("zh", "今天下雨"),
        ("hi", "नमस्ते दुनिया"),
        ("de", "für Übung"),
        ("ar", "مرحبا بالعالم"),
    ],
)
def test_other_scripts_and_accents_keep_their_words(language, text):
    metric = load("rouge", {"measure": "rouge1", "language": language})
    assert metric.library_score([text], [text]) == 100
    assert metric.library_score([text], ["zzz"]) == 0
    assert "tok:unicode" in metric.signature
    assert RougeScorer(["rouge1"]).score("привет мир", "привет мир")["rouge1"].fmeasure == 0  # the trap


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("नमस्ते, दुनिया!", ["नमस्ते", "दुनिया"]),  # vowel signs are marks, not letters
        ("Öl-Preis 3,5", ["öl", "preis", "3", "5"]),
        ("2024年の雨", ["2024", "年", "の", "雨"]),
        ("한국어 문장", ["한국어", "문장"]),
    ],
)
def test_tokens_of_other_scripts(text, tokens):
    assert AnyLanguage().tokenize(text) == tokens


def test_accented_words_are_whole_words_and_composed_accents_equal_combining_ones():
    metric = load("rouge", {"measure": "rouge1", "language": "fr"})
    assert metric.library_score(["café"], ["cafe\u0301"]) == 100
    assert metric.library_score(["für"], ["f r"]) == 0


def test_the_best_of_several_references_counts():
    metric = load("rouge", {"measure": "rouge1"})
    assert metric.statistics("a cat", ["the dog", "a cat"]).tolist() == [1, 1]


def test_options_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="unknown measure"):
        load("rouge", {"measure": "rouge9"})
    with pytest.raises(UserError, match="English stemmer"):
        load("rouge", {"language": "de", "stemmer": True})


def test_every_measure_is_rebuilt_from_its_options():
    for measure in MEASURES:
        metric = load("rouge", {"measure": measure, "language": "de"})
        assert load("rouge", metric.options).signature == metric.signature
