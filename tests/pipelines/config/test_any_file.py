"""Any text is a valid configuration or a list of sentences, and never another error."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from pipelines.config.load import is_ablation, load_ablation, load_run
from pipelines.config.yaml_source import MAX_DEPTH, override, read
from pipelines.data.readers import SUFFIXES, TEXT
from pipelines.errors import UserError
from tests.pipelines.mutated_runs import ODD

RUN = """\
task: {name: ner}
data: {generated: {name: ner, train: 70, validation: 30}}
model: {architecture: bert, family: encoder, config: {hidden_size: 24}}
attention: [gate, {temperature: {}}]
seed: 3
learning_rate: 1e-3
"""
CELL = "".join(line for line in RUN.splitlines(True) if not line.startswith(("attention", "seed")))
FILES = """\
task: {name: text_classification}
data: {train: train.csv, validation: "dev.csv[:80%]"}
model: {name: ./model, family: encoder, tokenizer: ~/mine}
"""
ABLATION = """\
cells: {a: [cell.yaml, {num_epochs: 4}]}
arms: {stock: [], gate: [gate]}
seeds: [1, 2]
primary: {ner: f1}
"""


@st.composite
def mutated(draw) -> str:
    """A good file with one or two of its values, or any place, replaced."""
    text = draw(st.sampled_from([RUN, FILES, ABLATION]))
    for _ in range(draw(st.integers(1, 2))):
        odd = draw(st.sampled_from(ODD) | st.text(max_size=8))
        values = [match.span(1) for match in re.finditer(r"[:\[,] ([^,:}\n{\[\]]+)", text)]
        start, end = draw(st.sampled_from(values)) if values and draw(st.booleans()) else (0, 0)
        if end == 0:
            start = draw(st.integers(0, len(text)))
            end = min(len(text), start + draw(st.integers(0, 8)))
        text = text[:start] + odd + text[end:]
    return text


@seed(20)
@settings(max_examples=150, database=None)
@given(text=mutated())
def test_a_mutated_file_is_read_or_refused_in_sentences(tmp_path_factory, text):
    folder = tmp_path_factory.getbasetemp()
    (folder / "cell.yaml").write_text(CELL)
    file = folder / "mutated.yaml"
    file.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    try:
        load_ablation(str(file)) if is_ablation(str(file)) else load_run([str(file)])
    except UserError as error:
        said = error.sentence()
    else:
        said = ""
    assert all(len(sentence) < 4000 for sentence in said.split("\n"))


def refused(tmp_path, text: str) -> str:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        read(str(file))
    return error.value.sentence()


def test_the_unmutated_files_are_good(tmp_path):
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "cell.yaml").write_text(CELL)
    (tmp_path / "ablation.yaml").write_text(ABLATION)
    assert load_run([str(tmp_path / "run.yaml")]).seed == 3
    assert load_ablation(str(tmp_path / "ablation.yaml")).seeds == (1, 2)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_a_file_that_is_nested_without_end_is_refused_by_its_line(tmp_path, opening):
    sentence = refused(tmp_path, "first: 1\nsecond:\n  " + opening * 20_000)
    assert "odd.yaml:3" in sentence
    assert "nested deeper than 64" in sentence


def test_aliases_that_nest_without_end_are_refused(tmp_path):
    lines = ["a0: &a0 [1]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 3000))]
    assert "nested deeper than 64" in refused(tmp_path, "\n".join(lines))


def test_as_deep_as_allowed_is_read(tmp_path):
    inner = MAX_DEPTH - 2  # besides the mapping and the value
    (tmp_path / "deep.yaml").write_text("a: " + "[" * inner + "1" + "]" * inner)
    assert read(str(tmp_path / "deep.yaml")).value["a"]


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, "9" * 5000])
def test_a_whole_number_beyond_64_bits_is_refused(tmp_path, number):
    sentence = refused(tmp_path, f"seed: {number}")
    assert "odd.yaml:1: a whole number must fit 64 bits" in sentence
    assert len(sentence) < 1000


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63) + 1, "00000000000000000000000000017"])
def test_one_of_64_bits_is_read(tmp_path, number):
    (tmp_path / "good.yaml").write_text(f"seed: {number}")
    assert read(str(tmp_path / "good.yaml")).value == {"seed": int(number)}


def test_an_override_of_endless_parts_is_refused():
    with pytest.raises(UserError, match="its key has 5000 parts"):
        override(".".join("a" * 5000) + "=1")


@pytest.mark.parametrize("suffix", sorted({*SUFFIXES, TEXT} - {".json"}))  # JSON is YAML too
def test_data_in_the_place_of_settings_is_refused_with_the_command_that_writes_them(tmp_path, suffix):
    path = tmp_path / f"rows{suffix.upper()}"
    path.write_bytes(b"PAR1\xff\x00 text,label\nsome,good\n")
    with pytest.raises(UserError) as refused:
        load_run([str(path)])
    assert f"{path}: is data, not settings; attnlab init --data {path} > my.yaml" in str(refused.value)
