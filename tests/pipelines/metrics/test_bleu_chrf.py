"""BLEU and chrF are sacrebleu's: its numbers, its signature, and a sum of statistics that gives them back."""

from importlib.util import find_spec
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from pipelines.errors import UserError
from pipelines.metrics.base import total
from pipelines.metrics.load import load

WORDS = st.lists(st.sampled_from(["the", "cat", "sat.", "naïve", "x", "кот", "北京", "I'm"]), max_size=9).map(
    " ".join
)


@st.composite
def corpora(draw):
    """Hypotheses and one to three references each, empty texts among them."""
    size = draw(st.integers(1, 6))
    hypotheses = [draw(WORDS) for _ in range(size)]
    return hypotheses, [draw(st.lists(WORDS, min_size=1, max_size=3)) for _ in range(size)]


def summed(metric, predictions, references):
    return total([metric.statistics(p, r) for p, r in zip(predictions, references, strict=True)])


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("bleu", {}),
        ("bleu", {"tokenize": "char"}),
        ("bleu", {"target_language": "zh"}),
        ("chrf", {}),
        ("chrf", {"word_order": 2, "lowercase": True}),
    ],
)
@given(corpora())
@settings(max_examples=60, deadline=None)
def test_the_score_of_summed_statistics_is_sacrebleus_to_the_last_bit(module, options, corpus):
    metric = load(module, {**options, "num_references": None})
    assert float(metric.score(summed(metric, *corpus))) == metric.library_score(*corpus)


def test_the_published_values_of_sacrebleu_come_out():
    hypotheses = ["hello there general kenobi", "on our way to ankh morpork"]
    references = [["hello there general kenobi", "hello there !"], ["goodbye ankh morpork", "ankh morpork"]]
    bleu = load("bleu", {"num_references": 2})
    assert bleu.library_score(hypotheses, references) == 39.76353643835252
    assert float(bleu.score(summed(bleu, hypotheses, references))) == 39.76353643835252
    assert load("bleu").library_score(hypotheses, [r[0] for r in references]) < 100
    assert load("bleu").library_score(hypotheses, hypotheses) == pytest.approx(100, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "score"),
    [
        ({}, 84.64214891738334),
        ({"word_order": 2}, 82.87263732906315),
        ({"word_order": 2, "lowercase": True}, 92.12853119829202),
    ],
)
def test_the_published_values_of_chrf_come_out(options, score):
    hypotheses = [
        "The relationship between cats and dogs is not exactly friendly.",
        "a good bookshop is just a genteel black hole that knows how to read.",
    ]
    references = [
        "The relationship between dogs and cats is not exactly friendly.",
        "A good bookshop is just a genteel Black Hole that knows how to read.",
    ]
    metric = load("chrf", options)
    assert metric.library_score(hypotheses, references) == pytest.approx(score, abs=1e-11)
    assert float(metric.score(summed(metric, hypotheses, references))) == pytest.approx(score, abs=1e-11)


def test_bleu_of_a_corpus_is_not_the_mean_of_its_sentences():
    hypotheses = ["the cat sat on the mat today", "a b c d e f"]
    references = ["the cat sat on the mat", "x y c d e z"]
    bleu = load("bleu")
    rows = np.array([bleu.statistics(h, r) for h, r in zip(hypotheses, references)])
    assert abs(bleu.score(rows).mean() - bleu.score(total(rows))) > 1


def test_whole_arrays_of_sums_score_like_one_by_one():
    rng = np.random.default_rng(0)
    for metric in (load("bleu"), load("chrf", {"word_order": 2})):
        sums = rng.integers(0, 4, (2, 5, len(metric.columns))).astype(float)
        one_by_one = [[float(metric.score(row)) for row in block] for block in sums]
        assert np.array_equal(metric.score(sums), one_by_one)
        assert np.isfinite(metric.score(np.zeros((3, len(metric.columns))))).all()


def test_chinese_scores_zero_by_13a_and_gets_its_own_tokenizer_by_language():
    reference, hypothesis = "我喜欢在北京学习中文。", "我喜欢在北京学习英文。"
    plain, chinese = load("bleu", {"tokenize": "13a"}), load("bleu", {"target_language": "zh"})
    assert plain.library_score([hypothesis], [reference]) == 0
    assert chinese.library_score([hypothesis], [reference]) > 50
    assert "tok:zh" in chinese.signature
    assert "tok:char" in load("bleu", {"target_language": "th_TH"}).signature
    assert "tok:13a" in load("bleu", {"target_language": "de"}).signature


def test_the_signature_is_the_one_sacrebleu_prints_after_scoring():
    theirs = BLEU()
    theirs.corpus_score(["a"], [["a"], ["b"]])
    assert load("bleu", {"num_references": 2}).signature == f"BLEU|{theirs.get_signature()}"
    theirs = CHRF(word_order=2)
    theirs.corpus_score(["a"], [["a"]])
    assert load("chrf", {"word_order": 2}).signature == f"chrF2++|{theirs.get_signature()}"


def test_the_number_of_references_must_be_the_one_in_the_signature():
    with pytest.raises(UserError, match="2 references where num_references says 1"):
        load("bleu").statistics("a", ["a", "b"])
    with pytest.raises(UserError, match="0 references"):
        load("chrf", {"num_references": None}).statistics("a", [])


def test_a_tokenizer_that_is_not_there_is_an_error_with_a_remedy():
    with pytest.raises(UserError, match="no such tokenizer"):
        load("bleu", {"tokenize": "13b"})


@pytest.mark.skipif(find_spec("MeCab") is not None, reason="the Japanese tokenizer is installed here")
def test_a_tokenizer_whose_package_is_missing_says_how_to_get_it():
    with pytest.raises(UserError, match=r"pip install 'sacrebleu\[ja\]'"):
        load("bleu", {"target_language": "ja"})


def test_metrics_are_rebuilt_from_their_options():
    for metric in (load("bleu", {"target_language": "zh"}), load("chrf", {"word_order": 2})):
        again = load(metric.module, metric.options)
        assert (again.name, again.signature, again.columns) == (metric.name, metric.signature, metric.columns)


def test_the_private_method_of_sacrebleu_that_chrf_reads_is_there():
    """pyproject.toml bounds sacrebleu for it: look at both before the bound is raised."""
    [counts] = CHRF()._extract_corpus_statistics(["ab"], [["ab"]])
    assert counts[:6] == [2, 2, 2, 1, 1, 1]  # hypothesis, reference and matches of 1-grams, then of 2-grams


@pytest.mark.parametrize("tokenizer", ["flores200", "spBLEU-1K", "spm"])
def test_a_tokenizer_whose_model_cannot_be_downloaded_is_told(tokenizer, tmp_path, monkeypatch):
    import sacrebleu.tokenizers.tokenizer_spm as spm

    def refused(*_):
        raise URLError("Name or service not known")

    monkeypatch.setattr(spm, "SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr(spm, "download_file", refused)
    with pytest.raises(
        UserError, match=rf"tokenizer {tokenizer}: sacrebleu cannot get its model \(.*not known"
    ):
        load("bleu", {"tokenize": tokenizer})
