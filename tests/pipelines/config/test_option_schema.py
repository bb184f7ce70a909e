"""The published schema refuses the options that the code refuses, by the same bounds."""

from __future__ import annotations

import pytest

from pipelines.config import json_schema, option_schema
from pipelines.registry import catalog
from pipelines.registry.option_types import CheckedBy, Items, OnlyWith, broken, fits, rules
from tests.pipelines.config.against_schema import fault

KINDS = (catalog.TASK, catalog.VARIANT, catalog.CORPUS)
OPTIONS = {
    f"{kind.word} {name}.{option.name}": option
    for kind in KINDS
    for name in catalog.names(kind)
    for option in catalog.find(kind, name).options
}
VALUES = (
    -(10**9),
    -11,
    -1,
    0,
    0.05,
    0.5,
    1,
    1.0,
    1.5,
    2,
    3,
    7,
    10,
    11,
    1000,
    1001,
    10**9,
    True,
    None,
    "",
    "x",
)
LISTS = ([], ["x"], ["x", "x"], [1], {}, {"x": 1})


@pytest.mark.parametrize("name", OPTIONS)
def test_a_value_is_accepted_where_its_option_takes_it(name):
    hint = OPTIONS[name].hint
    schema = option_schema.of_hint(hint)
    for value in (*VALUES, *LISTS):
        rule = broken(value, hint, {})  # a rule about another option is not in a schema
        is_taken = fits(value, hint) and (rule is None or isinstance(rule, OnlyWith))
        is_accepted = fault(value, schema, {}) is None
        if value in LISTS and any(isinstance(one, Items | CheckedBy) for one in rules(hint)):
            assert is_accepted or not is_taken, value  # what items and entries are, a schema does not say
        else:
            assert is_accepted == is_taken, value


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"task": {"name": "ner", "max_len": 0}}, {"task": {"name": "ner", "max_len": 64}}),
        ({"task": {"name": "ner", "max_length": 64}}, {"task": {"name": "ner"}}),
        ({"attention": {"softcap": {"cap": 0}}}, {"attention": [{"softcap": {"cap": 0.5}}, "gate"]}),
        (
            {"attention": [{"gate": {"per_head": True}}]},
            {"attention": [{"my.module:Own": {"per_head": True}}]},
        ),
        (
            {
                "data": {
                    "generated": {
                        "name": "question_answering",
                        "train": 9,
                        "validation": 9,
                        "options": {"num_facts": 6},
                    }
                }
            },
            {
                "data": {
                    "generated": {
                        "name": "question_answering",
                        "train": 9,
                        "validation": 9,
                        "options": {"num_facts": 5},
                    }
                }
            },
        ),
    ],
)
def test_the_schema_of_a_file_knows_the_options_of_what_it_names(wrong, right):
    schema = json_schema.run_schema()
    assert fault(wrong, schema, schema) is not None
    assert fault(right, schema, schema) is None
