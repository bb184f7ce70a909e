"""What a terminal is shown: no secret, and no character that moves its cursor."""

from __future__ import annotations

import pytest

from pipelines.errors import Interrupted, RunFailed, UserError
from pipelines.hub.secrets import FORMS
from pipelines.shown import cut, plural, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hub.repo=hf_aB3dE6gH9", "hub.repo=hf_***"),
        ("hf_" + "q" * 34, "hf_***"),
        ("https://me:hunter2@example.org/x", "https://***@example.org/x"),
        ("s3://key@bucket/a?token=abcdef12&b=1", "s3://***@bucket/a?token=***&b=1"),
        ("model.name=me:hunter2@host", "model.name=***@host"),
        ("token=abcdef: unknown key", "token=***: unknown key"),
        ("ghp_" + "a1" * 18, "***"),
    ],
)
def test_a_secret_is_masked(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "hf_datasets/train.csv",
        "hub:me/it@main",
        "hub:gpt2@0123abcd",
        "my.yaml:12: max_tokens=4096 is small; tokens: 7",
        "https://example.org:8080/a",
        "mail me@example.org",
        "a\tb\nc",
        "naïve 日本 👩‍👩‍👧 نمی‌خواهم",
    ],
)
def test_all_else_stays(text):
    assert printable(text) == text


def test_control_characters_are_their_escapes():
    assert printable("a\x1b[2Jb\rc\x07\x9b\u202e\ud800") == r"a\x1b[2Jb\rc\x07\x9b\u202e\ud800"


@pytest.mark.parametrize(
    "error", [UserError("--x", "is \x1b[31mhf_aB3dE6gH9"), RunFailed("\x1b[31mhf_aB3dE6gH9")]
)
def test_no_error_says_one(error):
    assert r"\x1b[31mhf_***" in str(error)
    assert r"\x1b" in str(Interrupted("\x1b"))


def test_a_long_value_is_cut():
    assert cut("abcdef", 4) == "abc…"
    assert len(UserError("x" * 9000, "y" * 9000, "z" * 9000).sentence()) < 3000


def test_what_is_masked_is_refused_on_the_hub_too():
    for token in ("hf_" + "q" * 34, "ghp_" + "a1" * 18, "AKIA" + "B" * 16, "xoxb-" + "1" * 20):
        assert FORMS.search(token.encode())
        assert token not in printable(token)


def test_counts_have_a_noun_of_their_number():
    assert [plural(n, "row") for n in (0, 1, 2, 1500)] == ["0 rows", "1 row", "2 rows", "1,500 rows"]
    assert plural(2, "batch") == "2 batches"
