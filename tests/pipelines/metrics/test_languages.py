"""A metric finds a language by any code or name that is in use, and says where it cannot split a script."""

import pytest
from sacrebleu.metrics import BLEU

from pipelines.metrics.base import notes
from pipelines.metrics.languages import code_of, is_unspaced, unknown
from pipelines.metrics.load import load

CHINESE = ["明天早上我们坐火车去上海。", "他们把旧房子卖给了邻居。", "这家饭馆的面条很好吃。"]
WRONG = ["明天早上我们坐飞机去上海。", "他们把旧房子卖给了朋友。", "这家饭馆的面条不好吃。"]


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ("zh ZH zho chi cmn zho_Hans zh-CN zh_TW zh-Hant-HK cmn_Hans yue_Hant Chinese", "zh"),
        ("ja jpn jpn_Jpan ja_XX Japanese", "ja"),
        ("ko kor kor_Hang ko-KR korean", "ko"),
        ("th tha tha_Thai th-TH Thai", "th"),
        ("lao_Laoo km khm_Khmr mya_Mymr my-MM", None),
        ("cdo_Hans hsn_Hans cjy czh_Hant zh-min-nan lzh_Hani za_Hani", "zh"),
        ("bo bod bod_Tibt tib Tibetan dz dzo_Tibt lad_Tibt", "bo"),
        ("my_MM shn shn_Mymr ksw_Mymr", "my"),
        ("ain_Kana ryu_Jpan", "ja"),
        ("en eng eng_Latn en-US en_GB English", "en"),
        ("de deu German fr ru und xx zho_Latn kk_Arab jv_Latn ja-Latn sr-Cyrl-RS pt-BR vi", ""),
    ],
)
def test_every_usual_code_and_name_of_a_language_is_known(codes, code):
    found = {name: code_of(name) for name in codes.split()}
    assert set(found.values()) == ({code} if code is not None else {"lo", "km", "my"}), found
    assert code_of("Chinese (Simplified)") == "zh"


@pytest.mark.parametrize("language", ["zh", "zho", "zho_Hans", "cmn", "zh-CN", "Chinese", "yue_Hant"])
def test_bleu_of_chinese_is_that_of_sacrebleus_chinese_tokenizer(language):
    ours = load("bleu", {"target_language": language})
    theirs = BLEU(tokenize="zh")
    assert ours.library_score(WRONG, CHINESE) == theirs.corpus_score(WRONG, [CHINESE]).score > 50
    assert ours.note(CHINESE) is None


@pytest.mark.parametrize("language", ["tha_Thai", "Lao", "khm", "my-MM", "bod_Tibt", "shn_Mymr"])
def test_scripts_without_blanks_that_sacrebleu_cannot_split_are_scored_by_characters(language):
    assert "tok:char" in load("bleu", {"target_language": language}).signature


def test_rouge_stems_english_by_any_name_and_nothing_else():
    for language in ("en", "eng", "English", "en-US", "eng_Latn"):
        assert "tok:latin|stem:porter" in load("rouge", {"language": language}).signature
    for language in ("de", "zho_Hans", "Japanese", ""):
        assert "tok:unicode|stem:no" in load("rouge", {"language": language}).signature
    chinese = load("rouge", {"measure": "rouge1", "language": "cmn"})
    assert 50 < chinese.library_score(WRONG, CHINESE) < 100


def test_a_metric_that_cannot_split_the_references_says_so():
    metrics = {"bleu": load("bleu"), "chrf": load("chrf"), "rouge1": load("rouge")}
    found = {note.split(":")[0]: note for note in notes(metrics, CHINESE)}
    assert set(found) == {"bleu", "rouge1"}
    assert "3 of 3 references are in a script without blanks" in found["bleu"]
    assert "set the language" in found["rouge1"]
    answers = [[text] for text in CHINESE]
    assert "a whole answer counts as one word" in (load("squad").note(answers) or "")
    assert load("squad", {"measure": "exact_match"}).note(answers) is None


def test_texts_that_a_metric_splits_bring_no_note():
    english = ["The train leaves at nine from platform four.", "She painted the kitchen door blue."]
    metrics = {"bleu": load("bleu"), "rouge1": load("rouge")}
    assert notes(metrics, english) == []
    assert load("squad").note([[text] for text in english]) is None
    assert notes(metrics, []) == []
    assert notes(metrics, ["Поезд отходит в девять часов утра"]) != []  # rouge of English drops it all
    assert notes({"rouge1": load("rouge", {"language": "ru"})}, ["Поезд отходит в девять"]) == []


def test_bleu_says_when_even_a_perfect_copy_scores_0():
    assert load("bleu").note(["yes", "no", "red car"]) == (
        "the references score 0 against themselves: none has 4 tokens"
    )


def test_a_text_is_unspaced_by_most_of_its_letters():
    assert is_unspaced("他在Google工作了三年")
    assert not is_unspaced("The word 猫 means cat")
    assert not is_unspaced("123 456")


@pytest.mark.parametrize("language", ["", "de", "deu", "ger", "German", "de-AT", "zho_Hans", "quz", "EN"])
def test_a_language_by_any_usual_code_or_name_is_known(language):
    assert unknown(language) is None


@pytest.mark.parametrize(
    ("language", "hint"),
    [("klingon", "codes are such as"), ("engish", "english"), ("germn", "german"), ("xx", ""), ("中文", "")],
)
def test_a_language_that_is_none_is_told_with_a_hint(language, hint):
    assert hint in (unknown(language) or "")
    texts = ["The train leaves at nine from platform four."]
    [note] = notes({"bleu": load("bleu", {"target_language": language})}, texts)
    assert f"{language!r} is no language that is known" in note
    assert note.endswith("the tokenizer is 13a")
    assert notes({"bleu": load("bleu", {"target_language": language, "tokenize": "char"})}, texts) == []
    [note] = notes({"rouge1": load("rouge", {"language": language})}, texts)
    assert note.endswith("words are runs of letters, without stems")


@pytest.mark.parametrize(
    "text",
    ["བཀྲ་ཤིས་བདེ་ལེགས་ཞུ།", "ꦱꦸꦒꦼꦁꦫꦮꦸꦃ", "ｺﾝﾆﾁﾊ", "ᦶᦎᧈᦎᦱ", "ꩣၢင်ꩣၢၼ်း", "မႂ်ႇသုင်ၶႃႈ"],
)
def test_a_script_without_blanks_is_told_by_its_letters(text):
    assert is_unspaced(text)
    assert not is_unspaced(f"{text[:2]} and many Latin letters")


@pytest.mark.parametrize(
    "codes", ["ger deu de German", "iw heb he", "fre fra fr", "fas per fa Persian", "rum ro", "dut nld nl"]
)
def test_a_language_by_an_older_or_another_code_is_no_unknown_one(codes):
    from pipelines.tasks.shared.languages import near_codes

    names = codes.split()
    assert [unknown(name) for name in names] == [None] * len(names)
    has = ["deu_Latn", "heb_Hebr", "fra_Latn", "pes_Arab", "ron_Latn", "nld_Latn"]
    assert len({tuple(near_codes(name, has)) for name in names}) == 1
