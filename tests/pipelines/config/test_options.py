"""Options have declared bounds: `validate` and `train` refuse the same values, in Python and in YAML."""

from __future__ import annotations

import typing
from importlib import import_module
from types import SimpleNamespace

import pytest

from custom_attention import VariantError
from custom_attention import registry as variants
from pipelines.config.load import TaskSpec
from pipelines.config.options import wrong_options
from pipelines.errors import UserError
from pipelines.registry import catalog, option_types
from pipelines.registry.option_types import Items, OnlyWith, Range
from pipelines.tasks.load import load_task

CHANNELS = {"channels": ["load", "heat"]}
# kind, name, good options, and options that break one bound each
BOUNDS = [
    ("task", "forecasting", CHANNELS | {"horizon": 1}, CHANNELS | {"horizon": 0}),
    ("task", "forecasting", CHANNELS | {"stride": 7}, CHANNELS | {"stride": -1}),
    ("task", "forecasting", {"channels": ["a"]}, {"channels": ["a", "a"]}),
    ("task", "forecasting", {"channels": ["a"]}, {"channels": ["a", "time"]}),
    ("task", "forecasting", {"channels": ["a"]}, {"channels": []}),
    ("task", "ner", {"overlap": 0}, {"overlap": -1}),
    ("task", "ner", {"overlap": 63, "max_len": 64}, {"overlap": 64, "max_len": 64}),
    ("task", "ner", {"max_len": 17}, {"max_len": 16}),  # the default of overlap is 16
    ("task", "ner", {"labels": ["O", "B-X"]}, {"labels": ["B-X", "I-X"]}),
    ("task", "ner", {"labels": ["O", "I-\n"]}, {"labels": ["O", "X"]}),
    ("task", "language_modelling", {"hidden_share": 0.999}, {"hidden_share": 1}),
    ("task", "language_modelling", {"mean_span_len": 1}, {"mean_span_len": 0.999}),
    ("task", "question_answering", {"n_best": 1}, {"n_best": 0}),
    ("task", "question_answering", {"max_answer_len": 1}, {"max_answer_len": -3}),
    ("task", "question_answering", {"unanswerable": True, "null_threshold": 0.0}, {"null_threshold": 0.0}),
    ("task", "text_classification", {"labels": ["a", "b"]}, {"labels": ["a"]}),
    ("task", "text_classification", {"labels": ["a", "b"]}, {"labels": ["a", ""]}),
    ("task", "image_classification", {"kind": "regression"}, {"kind": "regression", "labels": ["a", "b"]}),
    ("task", "image_classification", {"kind": "multi_label"}, {"kind": "several"}),
    ("task", "audio_classification", {"seconds": 0.1}, {"seconds": 0.09}),
    ("task", "audio_classification", {"seconds": 1}, {"seconds": float("inf")}),
    ("task", "summarization", {"num_beams": 4}, {"num_beams": 0}),
    ("task", "generative_question_answering", {"max_new_tokens": None}, {"max_new_tokens": 0}),
    ("task", "translation", {"tokenize": "char"}, {"tokenize": "chars"}),
    ("task", "translation", {"num_references": None}, {"num_references": 0}),
    ("variant", "softcap", {"cap": 1e-9}, {"cap": 0}),
    ("variant", "constant_scale", {"factor": 2}, {"factor": -2}),
    ("variant", "log_length", {"reference_len": 2}, {"reference_len": 1}),
    ("variant", "relative_bias", {"num_buckets": 6}, {"num_buckets": 7}),
    ("variant", "relative_bias", {"max_distance": 9}, {"max_distance": 8}),  # 32 buckets / 4
    ("corpus", "ner", {"noise": 1}, {"noise": 1.01}),
    ("corpus", "question_answering", {"num_facts": 5}, {"num_facts": 6}),
    ("corpus", "summarization", {"shortest": 6}, {"shortest": 7}),  # the default of longest is 6
    ("corpus", "audio_classification", {"seconds": 0.5}, {"seconds": 1e12}),
]
KINDS = {kind.word: kind for kind in (catalog.TASK, catalog.VARIANT, catalog.CORPUS, catalog.METRIC)}
ENTRIES = [(word, name) for word, kind in KINDS.items() for name in catalog.names(kind)]


@pytest.mark.parametrize(("word", "name", "good", "bad"), BOUNDS)
def test_a_value_out_of_the_declared_bounds_is_refused(word, name, good, bad):
    entry = catalog.find(KINDS[word], name)
    assert list(wrong_options(entry, good)) == []
    [wrong] = wrong_options(entry, bad)
    assert wrong.name in {option.name for option in entry.options}
    if word == "task":
        load_task(SimpleNamespace(task=TaskSpec(name=name, options=good), label_smoothing=0.0))
        with pytest.raises(UserError, match=rf"task\.{wrong.name}: {wrong.name} of task {name}"):
            load_task(SimpleNamespace(task=TaskSpec(name=name, options=bad), label_smoothing=0.0))
    if word == "variant":
        variants.check_options(variants.find(name), name, good)
        with pytest.raises(VariantError, match=rf"{name}\.{wrong.name}: not accepted"):
            variants.check_options(variants.find(name), name, bad)


def same(rule: object) -> tuple[str, dict]:
    """A rule by its content: the registry and `custom_attention` each have the file that defines it."""
    return type(rule).__name__, vars(rule)


@pytest.mark.parametrize(("word", "name"), ENTRIES)
def test_the_rules_read_from_source_are_those_of_the_annotations(word, name):
    """The oracle is `typing.get_type_hints` on the imported constructors."""
    kind = KINDS[word]
    entry = catalog.find(kind, name)
    module = import_module(f"{kind.package}.{kind.folder}.{name}")
    functions = (
        [module.generate]
        if word == "corpus"
        else [
            vars(base)["__init__"]
            for value in vars(module).values()
            if isinstance(value, type)
            and value.__module__ == module.__name__
            and not value.__name__.startswith("_")
            for base in value.__mro__
            if "__init__" in vars(base) and base is not object
        ]
    )
    hints: dict[str, object] = {}
    for function in functions:
        hints = typing.get_type_hints(function, include_extras=True) | hints
    for option in entry.options:
        declared = [
            part for part in typing.get_args(hints[option.name]) if type(part).__name__ in option_types.RULES
        ]
        assert list(map(same, option_types.rules(option.hint))) == list(map(same, declared)), option.name


def test_a_range_says_what_it_accepts():
    assert str(Range(at_least=1)) == "1 or more"
    assert str(Range(at_least=0.1, at_most=86400)) == "0.1 to 86,400"
    assert str(Range(above=0, below=1)) == "above 0 and below 1"
    assert str(Range(at_least=0, below="max_len")) == "at least 0 and below max_len"
    assert str(Range(at_least=4, multiple_of=2)) == "a multiple of 2, 4 or more"
    assert str(OnlyWith(option="kind", values=("a", True))) == "null, unless kind is a or true"
    assert str(Items(called="such texts")) == "such texts"


def test_a_bound_that_is_no_number_does_not_bind():
    assert Range(below="max_len").holds(7, {"max_len": None})
    assert Range(below="max_len").holds(7, {})
    assert Range(at_least=1).holds(None, {})


def test_the_listing_shows_the_bounds():
    shown = {str(option) for option in catalog.find(catalog.TASK, "forecasting").options}
    assert "horizon: int = 24 (1 or more)" in shown
    shown = {str(option) for option in catalog.find(catalog.VARIANT, "softcap").options}
    assert shown == {"cap: float = 50.0 (above 0)"}


def test_language_codes_are_refused_where_no_tokenizer_has_them():
    from pipelines.config.names import unknown_names
    from pipelines.config.yaml_source import merge, override

    stated = ["task.name=summarization", "task.source_language=deu_Latn", "model.architecture=t5"]
    [error] = unknown_names(merge([override(one) for one in stated]))
    assert "source_language: a tokenizer trained on the data has no language codes" in error.sentence()
    assert unknown_names(merge([override(one) for one in [*stated, "model.tokenizer=a/b"]])) == []
