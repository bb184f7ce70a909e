"""What exists and what options it takes is read from source, and agrees with what importing would say."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from importlib import import_module

import pytest

from pipelines.errors import UserError
from pipelines.registry import catalog, source
from pipelines.registry.catalog import CORPUS, METRIC, TASK, VARIANT, find, names
from pipelines.registry.option_types import choices, fits
from pipelines.registry.source import Module, hint_of

ALL = [(kind, name) for kind in (VARIANT, TASK, METRIC, CORPUS) for name in names(kind)]


def _ids(case):
    return f"{case[0].word}-{case[1]}"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write modules of a package `plugin` that can be found, not yet imported."""
    (tmp_path / "plugin").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> str:
        (tmp_path / "plugin" / f"{name}.py").write_text(textwrap.dedent(text))
        return f"plugin.{name}"

    write("__init__", "raise AssertionError('this package was imported')")
    yield write
    assert "plugin" not in sys.modules


def test_there_is_something_of_every_kind():
    assert {kind.word for kind, _ in ALL} == {"variant", "task", "metric", "corpus"}
    assert {"stock", "gate", "temperature", "unscaled", "softcap"} <= set(names(VARIANT))
    assert "ner" in names(TASK)
    assert "ner" in names(CORPUS)


def passed_on(functions, leave_out) -> dict[str, inspect.Parameter]:
    """The parameters of the first function, and of the next one as long as `**options` is passed on to it."""
    found: dict[str, inspect.Parameter] = {}
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        named = [one for one in parameters if one.kind is not one.VAR_KEYWORD and one.name not in leave_out]
        for one in named:
            found.setdefault(one.name, one)
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    return found


@pytest.mark.parametrize("case", ALL, ids=_ids)
def test_options_are_those_of_the_constructor(case):
    """The oracle is `inspect` on the imported class."""
    kind, name = case
    entry = find(kind, name)
    module = import_module(f"{kind.package}.{kind.folder}.{name}")
    if kind is CORPUS:
        functions = [module.generate]
    else:
        [cls] = [
            value
            for key, value in vars(module).items()
            if inspect.isclass(value)
            and value.__module__ == module.__name__
            and not key.startswith("_")
            and any(base.__module__ == kind.root for base in value.__mro__[1:])
        ]
        functions = [base.__init__ for base in cls.__mro__ if "__init__" in vars(base)]
    if kind is CORPUS or "__init__" in vars(cls):
        parameters = passed_on(functions, kind.not_options)
        assert [(option.name, option.default) for option in entry.options] == [
            (name, source.REQUIRED if one.default is one.empty else one.default)
            for name, one in parameters.items()
        ]
    assert entry.meaning.endswith((".", "?"))


@pytest.mark.parametrize("name", names(VARIANT))
def test_what_is_said_of_a_variant_is_what_it_says_of_itself(name):
    from custom_attention.variant import KERNEL_HOOKS, SCORE_HOOKS, Site, overridden_hooks

    entry = find(VARIANT, name)
    module = import_module(f"custom_attention.variants.{name}")
    cls = getattr(module, next(iter(entry.module.classes)))
    site = Site("layer", 0, 3, 5, 5, 7, 7**-0.5, is_cross=False, is_causal=False, has_position_bias=True)
    variant = cls(site)
    assert entry.hooks == overridden_hooks(cls) >= variant.hooks  # an option may leave out some
    assert entry.is_foldable == variant.foldable
    assert (entry.path == "explicit") == bool(variant.hooks & set(SCORE_HOOKS))
    assert variant.hooks <= {*KERNEL_HOOKS, *SCORE_HOOKS}
    if not entry.starts_as_stock.startswith("by "):
        assert (entry.starts_as_stock == "yes") == variant.neutral_at_start


@pytest.mark.parametrize("name", names(TASK))
def test_what_is_said_of_a_task_is_what_it_says_of_itself(name):
    entry = find(TASK, name)
    module = import_module(f"pipelines.tasks.{name}")
    [cls] = [
        value
        for key, value in vars(module).items()
        if key in entry.module.classes and hasattr(value, "primary")
    ]
    assert entry.attributes["primary"] == cls.primary
    assert entry.attributes["head"] == cls.head
    assert list(entry.attributes["columns"]) == list(cls.columns)
    assert cls.primary in entry.attributes["metric_names"]


def test_naive_and_compensated_start_differently():
    assert find(VARIANT, "unscaled").starts_as_stock == "by mode"


VARIANT_SOURCE = """
    from typing import Literal, Optional
    from custom_attention.variant import Variant
    from plugin.base import Base as Imported

    Per = Literal["head", "layer"]

    class Sharp(Imported):
        '''Sharper than stock.

        Args:
            per: what shares one,
                or not.
        '''
        starts_as_stock = False
        def __init__(self, site, *, per: Per = "head", power: "float | None" = None, must: int, **options):
            super().__init__(site, **options)
        def scores(self, scores, call): return scores

    class Plain(Variant):
        '''Nothing.'''
"""


def test_a_class_of_a_package_is_found_with_what_it_inherits(package):
    package("base", """
        from custom_attention.variant import Variant
        class Base(Variant):
            def __init__(self, site, *, size: int = 3, per=1): ...
            def query(self, query, call): return query
    """)  # fmt: skip
    name = package("sharp", VARIANT_SOURCE)
    entry = find(VARIANT, f"{name}:Sharp")
    assert {option.name: option.default for option in entry.options} == {
        "per": "head", "power": None, "must": source.REQUIRED, "size": 3,
    }  # fmt: skip
    assert entry.hooks == {"scores", "query"}
    assert (entry.meaning, entry.path, entry.starts_as_stock) == ("Sharper than stock.", "explicit", "no")
    assert entry.options[0].meaning == "what shares one, or not."
    assert find(VARIANT, f"{name}:Plain").options == ()
    assert find(VARIANT, f"{name}:Nobody") is None
    assert find(VARIANT, "plugin.nothing:Sharp") is None
    assert find(TASK, f"{name}:Sharp") is None


def test_what_a_file_must_define_is_said(package):
    name = package("odd", "class NoVariant: ...")
    with pytest.raises(UserError, match="must define exactly one variant class"):
        find(VARIANT, f"{name}:NoVariant")
    name = package("broken", "class Broken(\n  pass")
    with pytest.raises(UserError, match=r"broken.py:\d+: is not valid Python"):
        find(VARIANT, f"{name}:Broken")


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        ("int", [3, -1], [3.5, "3", True, None, [3]]),
        ("float", [3, 2.5], ["2.5", True, None]),
        ("str", ["x"], [3, None, True]),
        ("bool", [True], [1, "true", None]),
        ("int | None", [3, None], ["x", 2.5]),
        ("Optional[int]", [3, None], ["x"]),
        ("typing.Optional[int]", [3, None], ["x"]),
        ("'int | None'", [3, None], ["x"]),
        ("Literal['head', 'layer']", ["head"], ["heads", 3, None]),
        ("Literal[1, 2]", [1], [True, 3, "1"]),
        ("Literal['a'] | int", ["a", 5], ["b", None]),
        ("list[int]", [[1, 2], []], [[1, "x"], 3, "x"]),
        ("tuple[str, ...]", [["a"]], ["a", [1]]),
        ("Sequence[float]", [[1, 2.5]], [["x"]]),
        ("tuple[str, int]", [["a", 1]], [["a"], [1, "a"], ["a", 1, 2]]),
        ("list[int] | None", [[1], None], [3, ["x"]]),
        ("list", [[1, "x"], []], [3, "x"]),
        ("dict[str, int]", [{"a": 1}], [[1], "x", {"a": "b"}]),
        ("SomeClass", [1, "x", None], []),
        ("Alias", ["u"], ["w", 3]),
    ],
)
def test_option_values_are_checked_against_annotations(annotation, good, bad, tmp_path):
    tree = ast.parse("from typing import Literal\nAlias = Literal['u', 'v']")
    module = Module("m", tmp_path / "m.py", tree)
    hint = hint_of(ast.parse(annotation, mode="eval").body, module)
    assert [value for value in good if not fits(value, hint)] == []
    assert [value for value in bad if fits(value, hint)] == []
    if "Literal[" in annotation:
        assert choices(hint)


def test_a_module_is_found_without_importing_its_packages(package):
    name = package("deep", "x = 1")
    assert source.find_module(name).name == "deep.py"
    assert source.find_module("plugin.nobody") is None
    assert source.find_module("nobody.at.all") is None
    assert source.find_module("plugin.no-name") is None
    assert source.find_module("") is None


def test_one_broken_file_does_not_hide_the_others(tmp_path, monkeypatch, capsys):
    from pipelines.cli.main import main

    for folder in ("fake", "fake/variants"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("")
    (tmp_path / "fake" / "variants" / "bad.py").write_text("class (")
    (tmp_path / "fake" / "variants" / "helper.py").write_text("x = 1")
    (tmp_path / "fake" / "variants" / "good.py").write_text(
        "'''A good one.'''\nfrom custom_attention.variant import Variant\nclass Good(Variant): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    kind = catalog.EntryKind("variant", "fake", "variants", VARIANT.root, VARIANT.not_options)
    monkeypatch.setattr("pipelines.actions.ls.VARIANT", kind)
    assert main(["ls", "variants"]) == 0
    said = capsys.readouterr().out
    assert "A good one." in said
    assert "is not valid Python" in said
    assert "helper" not in said


def test_a_task_that_no_model_of_a_family_can_learn_is_refused(monkeypatch):
    """The table of model.py decides, read from its source."""
    from pipelines.config.names import unknown_names
    from pipelines.config.yaml_source import merge, override

    document = merge([override("model.family=decoder"), override("task={name: ner}")])
    assert unknown_names(document) == []
    one_row = {("token_classification", "encoder"): "AutoModel"}
    monkeypatch.setattr(Module, "constant", lambda self, name: one_row)
    [error] = unknown_names(document)
    assert error.sentence() == (
        "model.family=decoder: task ner has no model of family decoder; accepted: encoder."
    )
