"""Every value is escaped by the rules of its output, once, and a misspelled name is an error."""

from __future__ import annotations

import pytest
from jinja2 import Environment, UndefinedError
from markupsafe import Markup

from pipelines.report import templating

VALUE = "<b> & a_b | 50 %"
ESCAPED = {
    "html": "&lt;b&gt; &amp; a_b | 50 %",
    "markdown": r"\<b\> & a\_b \| 50 %",
    "latex": r"$<$b$>$ \& a\_b | 50 \%",
}


def render(kind: str, template: str, **values: object) -> str:
    environment: Environment = getattr(templating, kind)()
    if kind == "latex":
        for usual, ours in (("{{", "<<"), ("}}", ">>"), ("{%", "<%"), ("%}", "%>")):
            template = template.replace(usual, ours)
    return environment.from_string(template).render(**values)


@pytest.mark.parametrize("kind", ESCAPED)
def test_a_value_is_escaped_once(kind):
    assert render(kind, "{{ value }}", value=VALUE) == ESCAPED[kind]
    macro = "{% macro bold(text) %}({{ text }}){% endmacro %}{{ bold(value) }}"
    assert render(kind, macro, value=VALUE) == f"({ESCAPED[kind]})"
    assert render(kind, "{% set part %}{{ value }}{% endset %}{{ part }}", value=VALUE) == ESCAPED[kind]
    assert render(kind, "{{ [value, value] | join(' / ') }}", value=VALUE) == " / ".join([ESCAPED[kind]] * 2)
    assert render(kind, "{{ value | escape }}", value=VALUE) == ESCAPED[kind]


@pytest.mark.parametrize("kind", ESCAPED)
def test_a_constant_is_escaped_as_a_value(kind):
    assert render(kind, f"{{{{ '{VALUE}' }}}}") == ESCAPED[kind]


@pytest.mark.parametrize("kind", ESCAPED)
def test_marked_values_and_template_text_are_not_escaped(kind):
    assert render(kind, "| {{ value }}", value=Markup(VALUE)) == f"| {VALUE}"


@pytest.mark.parametrize("kind", ESCAPED)
def test_an_unknown_name_is_an_error(kind):
    with pytest.raises(UndefinedError, match="'valeu' is undefined"):
        render(kind, "{{ valeu }}", value=VALUE)


@pytest.mark.parametrize("kind", ESCAPED)
def test_numbers_are_written_by_the_filters_of_reports(kind):
    assert render(kind, "{{ 0.5 | signed(3) }} {{ 3 | plural('seed') }}") == "+0.500 3 seeds"
