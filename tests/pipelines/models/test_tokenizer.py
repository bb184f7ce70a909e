"""A tokenizer trained on a run's own text is the same in every process, so arms and resumed runs agree."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.models.tokenizer import train_tokenizer

ROOT = Path(__file__).parents[3]
CODE = """
import json, sys
from pipelines.models.tokenizer import train_tokenizer
lines = open(sys.argv[1], encoding="utf-8").read().splitlines()
found = {family: train_tokenizer(family, iter(lines), 400) for family in json.loads(sys.argv[2])}
print(json.dumps({family: tokenizer.get_vocab() for family, tokenizer in found.items()}))
"""
FAMILIES = ("encoder", "decoder", "encoder_decoder")


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, dict[str, int]]:
    """The vocabularies that another process makes of the same text."""
    command = [sys.executable, "-c", CODE, str(ROOT / "README.md"), json.dumps(FAMILIES)]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_same_in_another_process(elsewhere, family):
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert train_tokenizer(family, iter(lines), 400).get_vocab() == elsewhere[family]


def test_a_letter_inside_a_word_is_no_special_token():
    tokenizer = train_tokenizer("encoder", iter(["Abba sang, and sang again"] * 3), 60)
    assert tokenizer.all_special_tokens == ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"]
    pieces = tokenizer.tokenize("ABBA ##a gangs")
    assert pieces[0] == "abba"
    assert pieces[1:4] == ["[UNK]", "[UNK]", "a"]
    assert tokenizer.decode(tokenizer("Abba sang")["input_ids"], skip_special_tokens=True) == "abba sang"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_word_without_end_is_learned_in_time(family):
    """Merges in a word take the square of its length: minutes of CPU for such words."""
    begun = time.process_time()
    tokenizer = train_tokenizer(family, iter(["one two " + "x" * 150_000, "三" * 150_000]), 320)
    assert time.process_time() - begun < 10
    assert tokenizer.tokenize("two one")
