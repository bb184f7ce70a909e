"""YAML values are what they look like, remember their line, and merge left to right."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config.yaml_source import merge, merge_values, override, read
from pipelines.errors import UserError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("abcyn01-. :#\"'é\n", max_size=7),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcnoy1", min_size=1, max_size=4), inner)
    ),
    max_leaves=12,
)
TREES = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=9
)


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "my.yaml") -> Path:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5),
        ("1e3", 1000.0),
        ("-1.5E+2", -150.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("7", 7),
        ("010", 10),
        ("-3", -3),
        ("12:30", "12:30"),
        ("2024-01-31", "2024-01-31"),
        ("1_000", "1_000"),
        ("0x1f", "0x1f"),
        ("1e", "1e"),
        ("no", False),
        ("On", True),
        ("true", True),
        ('"no"', "no"),
        ("~", None),
        ("null", None),
        ("'2e-5'", "2e-5"),
        ("[0-3, 5]", ["0-3", 5]),
    ],
)
def test_a_plain_value_is_what_it_looks_like(write, text, value):
    got = read(write(f"key: {text}")).value["key"]
    assert got == value
    assert type(got) is type(value)


@given(value=st.dictionaries(st.text("abcnoy1", min_size=1, max_size=4), PLAIN))
def test_what_another_writer_wrote_is_read_back(tmp_path_factory, value):
    file = tmp_path_factory.mktemp("yaml") / "my.yaml"
    file.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    assert read(file).value == value


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_survives_as_python_writes_it(number):
    assert override(f"key={number!r}").value == {"key": number}


def test_every_part_knows_its_line(write):
    document = read(write("# head\na: 1\nb:\n  - x\n  - {c: 2}\nd: >\n  folded\n  text\ne: 3\n"))
    lines = {path: place.line for path, place in document.places.items()}
    assert lines == {
        (): 1,
        ("a",): 2,
        ("b",): 3,
        ("b", 0): 4,
        ("b", 1): 5,
        ("b", 1, "c"): 5,
        ("d",): 6,
        ("e",): 9,
    }


def test_a_part_that_is_not_there_has_the_place_of_its_parent(write):
    assert read(write("a:\n  b: 1\n")).place(("a", "c", "d")).line == 1


def test_aliases_are_followed(write):
    assert read(write("a: &x [1, 2]\nb: *x\n")).value == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\na: 2\n", 2, "'a' is set twice; the first is at"),
        ("a:\n\tb: 1\n", 2, "a tab is used for indentation; use spaces"),
        ("a: 1\nb: [1, 2\n", 3, "not valid YAML"),
        ("a: 1\n b: 2\n", 2, "not valid YAML"),
        ("a: b: c\n", 1, "not valid YAML"),
        ("a: 'x\n", 2, "not valid YAML"),
        ("# nothing\n", 1, "the file is empty"),
        ("a: .inf\n", 1, "a number must be finite"),
        ("a: 1\nb: !!python/name:os.system\n", 2, "python/name:os.system' is not supported"),
        ("a: 1\n? [x]\n: 2\n", 2, "a key must be a word"),
        ("a: {b: 1}\nc:\n  <<: 1\n", 3, "merge keys"),
        ("a: &x [*x]\n", 1, "endless"),
        ("a: *nobody\n", 1, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
    ],
)
def test_a_broken_file_is_told_with_its_line(write, text, line, says):
    file = write(text)
    with pytest.raises(UserError) as caught:
        read(file)
    assert caught.value.where == f"{file}:{line}"
    assert says in caught.value.sentence()


def test_aliases_cannot_blow_up_a_small_file(write):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(UserError, match="endless"):
        read(write("\n".join(lines)))


def test_all_repeated_keys_are_told_at_once(write):
    with pytest.raises(UserError) as caught:
        read(write("a: 1\na: 2\nb: {c: 1, c: 2}\n"))
    assert len(caught.value.errors) == 2


def test_what_cannot_be_read_as_text_is_told(tmp_path, write):
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff\n")
    for file, says in (("bytes.yaml", "not UTF-8"), ("nowhere.yaml", "no such file"), (".", "is a folder")):
        with pytest.raises(UserError, match=says):
            read(tmp_path / file)


def test_an_override_reaches_into_the_tree_and_names_itself():
    document = override("model.config.hidden_size=64")
    assert document.value == {"model": {"config": {"hidden_size": 64}}}
    assert document.place(("model", "config", "hidden_size")).where == "model.config.hidden_size=64"
    assert override("attention=[{temperature: {per: head}}]").value["attention"] == [
        {"temperature": {"per": "head"}}
    ]
    assert override("data.train=a=b").value == {"data": {"train": "a=b"}}


@pytest.mark.parametrize(
    "text", ["seed", "=3", "a..b=1", ".a=1", "a b=1", "seed=", "attention=[gate", "a={b: 1, b: 2}"]
)
def test_a_bad_override_is_told_by_its_text(text):
    with pytest.raises(UserError) as caught:
        override(text)
    assert caught.value.where == text


def test_later_files_win_key_by_key_and_lists_are_replaced(write):
    first = read(write("a: {x: 1, y: 2}\nlist: [1, 2, 3]\nb: 5\n", "first.yaml"))
    second = read(write("a:\n  y: 3\nlist: [9]\n", "second.yaml"))
    merged = merge([first, second, override("a.z=4")])
    assert merged.value == {"a": {"x": 1, "y": 3, "z": 4}, "list": [9], "b": 5}
    where = {path: Path(place.name).name for path, place in merged.places.items() if path}
    assert where == {
        ("a",): "a.z=4",
        ("a", "x"): "first.yaml",
        ("a", "y"): "second.yaml",
        ("a", "z"): "a.z=4",
        ("list",): "second.yaml",
        ("list", 0): "second.yaml",
        ("b",): "first.yaml",
    }


@given(first=TREES, second=TREES, third=TREES)
def test_merging_is_associative_and_the_last_word_counts(first, second, third):
    assert merge_values(first, first) == first
    if all(isinstance(tree, dict) for tree in (first, second, third)):
        left = merge_values(merge_values(first, second), third)
        assert left == merge_values(first, merge_values(second, third)) or _kinds_differ(first, second, third)
        assert merge_values({}, first) == first == merge_values(first, {})


def _kinds_differ(*trees) -> bool:
    """A leaf between two mappings merges differently by order: the one exception to associativity."""
    keys = {key for tree in trees if isinstance(tree, dict) for key in tree}
    for key in keys:
        values = [tree[key] for tree in trees if isinstance(tree, dict) and key in tree]
        if len({isinstance(value, dict) for value in values}) > 1 or _kinds_differ(*values):
            return True
    return False


def test_merging_leaves_its_inputs_alone():
    first, second = {"a": {"b": 1}}, {"a": {"c": 2}}
    merged = merge_values(first, second)
    merged["a"]["b"] = 7
    assert first == {"a": {"b": 1}}
    assert second == {"a": {"c": 2}}
