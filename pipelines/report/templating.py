"""Template environments: one for each kind of text, which escapes every value by the rules of that kind.

A template never escapes by hand. Text that is already in the output's language (a figure, a rendered
part) is passed as `Markup`, in every kind of output; so is what a macro returns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from pipelines.report import format as fmt
from pipelines.shown import printable

TEMPLATES = Path(__file__).with_name("templates")

_MARKDOWN_SPECIAL = "\\|*_`[]<>#~$"
_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "−": "$-$",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "·": r"$\cdot$",
    "–": "--",
    "…": r"\dots{}",
    "≥": r"$\ge$",
}


def escape_markdown(text: object) -> str:
    """Return `text` so that Markdown shows it as it is, on one line and without spaces around it.

    A separator with spaces is therefore written as template text, not as a value.
    """
    shown = printable(str(text))
    characters = (f"\\{character}" if character in _MARKDOWN_SPECIAL else character for character in shown)
    return " ".join("".join(characters).split())


def escape_latex(text: object) -> str:
    """Return `text` so that LaTeX shows it as it is, on one line: a blank line would end the argument."""
    shown = printable(str(text))
    one_line = re.sub(r"[^\S ]+", " ", shown)
    return "".join(_LATEX_SPECIAL.get(character, character) for character in one_line)


def code_block(text: str, language: str) -> Markup:
    """Return a text as a block of code in Markdown, whose fence is longer than any within the text."""
    shown = printable(text).removesuffix("\n")
    fence = "`" * max([3, *(1 + len(found) for found in re.findall("`+", shown))])
    return Markup(f"{fence}{language}\n{shown}\n{fence}")


def html(folder: Path = TEMPLATES) -> Environment:
    """Return the environment of the HTML templates in `folder`."""
    environment = _environment(folder)
    environment.finalize = _printable_text
    return environment


def _printable_text(value: object) -> object:
    """Return a text as a reader can see it; what is no text, or is HTML already, as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def markdown(folder: Path = TEMPLATES) -> Environment:
    """Return the environment of the Markdown templates in `folder`."""
    return _escaped_by(escape_markdown, _environment(folder))


def latex(folder: Path = TEMPLATES) -> Environment:
    """Return the environment of the LaTeX templates in `folder`, whose tags are `<< >>`, `<% %>` and `<# #>`.

    LaTeX itself is full of braces, so the usual tags would be hard to read.
    """
    environment = _environment(folder).overlay(
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    return _escaped_by(escape_latex, environment)


def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    formats = (fmt.number, fmt.signed, fmt.interval, fmt.p_value, fmt.count, fmt.plural, fmt.listing)
    environment.filters.update({function.__name__: function for function in formats}, code=code_block)
    return environment


def _escaped_by(escape: Callable[[object], str], environment: Environment) -> Environment:
    """Replace HTML escaping in `environment` by `escape`.

    Jinja always escapes for HTML, but leaves `Markup` alone: `finalize` sees every value first and returns
    it escaped and marked.
    """

    def escaped(value: object) -> Markup:
        return value if isinstance(value, Markup) else Markup(escape(value))

    @pass_context  # without the context, Jinja escapes constants for HTML before it calls `finalize`
    def finalize(context: Context, value: object) -> Markup:
        return escaped(value)

    def join(values: Iterable[object], separator: str = "") -> Markup:
        """Join values, each escaped; the separator is written as it is."""
        return Markup(separator).join(escaped(value) for value in values)

    environment.finalize = finalize
    environment.filters.update(join=join, escape=escaped, e=escaped)
    return environment
