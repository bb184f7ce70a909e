"""The options of a task, variant or corpus, checked against what its source declares: types and bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipelines.config.suggestions import one_of, perhaps, show
from pipelines.errors import UserError, raise_all
from pipelines.registry import option_types
from pipelines.registry.catalog import Entry
from pipelines.registry.source import Option


@dataclass(frozen=True)
class WrongOption:
    """What is wrong with one option; `name` is None where it is missing."""

    name: str | None
    what: str
    came: str | None
    accepted: str

    def as_error(self, where: str) -> UserError:
        """Return it as an error, below the key `where`."""
        where = f"{where}.{self.name}" if self.name else where
        return UserError(where, self.what, self.came, self.accepted)


def wrong_options(entry: Entry, given: Mapping[str, object]) -> Iterator[WrongOption]:
    """Yield what is wrong with options: unknown, missing, of a wrong type, out of bounds."""
    known = {option.name: option for option in entry.options}
    of = f"{entry.kind.word} {entry.name}"
    fitting = {name: option.default for name, option in known.items()}
    for name, value in given.items():
        if name not in known:
            listed = perhaps(name, known, f"options of {entry.name}")
            accepted = listed if known else f"{entry.name} takes no options"
            yield WrongOption(name, f"unknown option {name!r} of {of}", None, accepted)
        elif not option_types.fits(value, known[name].hint):
            what = f"{name} of {of} has a value of a wrong type"
            yield WrongOption(name, what, show(value), _accepted(known[name], value))
            del fitting[name]
        else:
            fitting[name] = value
    for option in entry.options:
        if option.is_required and option.name not in given:
            yield WrongOption(None, f"{of} needs the option {option.name}", None, f"add {option}")
        elif option.name in fitting:
            value = fitting[option.name]
            rule = option_types.broken(value, option.hint, fitting)
            if isinstance(rule, option_types.CheckedBy):
                yield _inside(option.name, rule, value, fitting)
            elif rule is not None:
                what = f"{option.name} of {of} cannot have this value"
                yield WrongOption(option.name, what, show(value), f"accepted: {rule}")


def check_options(entry: Entry, given: Mapping[str, object], where: str) -> None:
    """Refuse options that are wrong; `where` is the key that they stand below, such as "task".

    Raises:
        UserError: with all of them.
    """
    raise_all([wrong.as_error(where) for wrong in wrong_options(entry, given)])


def _inside(
    name: str, rule: option_types.CheckedBy, value: object, others: Mapping[str, object]
) -> WrongOption:
    mistake = rule.mistake(value, others)
    assert mistake is not None  # the rule is broken
    came = None if mistake.came is None else show(mistake.came)
    return WrongOption(f"{name}.{mistake.name}", mistake.what, came, mistake.accepted)


def _accepted(option: Option, came: object) -> str:
    choices = option_types.choices(option.hint)
    if isinstance(came, bool) and option_types.fits("", option.hint):
        return f"accepted: {option}; YAML reads no, off, yes and on as false and true: write them in quotes"
    return one_of(came, choices) if choices else f"accepted: {option}"
