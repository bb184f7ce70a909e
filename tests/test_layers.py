"""Which module may import which, and the picture of it: read from the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.architecture_figure import draw
from scripts.architecture_figure.imports import REPOSITORY, imported_names, levels, module_graph, package_of
from tests import guide


def files(folder: str) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.py"))


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


# The packages of `pipelines`, top to bottom: a file imports only from its own package and from later ones.
LAYERS = (
    "cli",  # the flags of each command
    "actions",  # what each command does
    "publish",  # what is pushed
    "executors",  # where the runs of an ablation run
    "ablation",  # grid, folder, results
    "predictions",  # what other programs predicted or scored
    "runs",  # one run, from configuration to finished folder
    "report",  # pages from stored results
    "train",  # the loop
    "models",  # build, load and save
    "data",  # rows, splits, features
    "tasks",  # one file a task
    "distributed",  # processes and devices
    "comparison",  # statistics and verdicts
    "hub",  # talking to the Hub
    "config",  # schemas and YAML
    "metrics",  # one file a metric
    "storage",  # files
    "corpora",  # generators
    "registry",  # what exists, read from source
    "errors",
    "seeds",
    "terminal",
    "shown",
)
MOST_FILES = 30  # of a folder
# Its files know nothing of each other: they are looked up by name, not read in a row.
CATALOGUE = REPOSITORY / "custom_attention" / "variants"


def test_a_file_imports_only_from_its_own_package_and_those_below():
    upward = [
        f"{name} -> {found}"
        for name, imported in module_graph().items()
        for found in sorted(imported)
        if name.startswith("pipelines.") and name != "pipelines.__main__" and found.startswith("pipelines.")
        if LAYERS.index(package_of(found)) < LAYERS.index(package_of(name))
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle():
    # A package's own __init__ imports its public parts; a part that imports the package is not a circle.
    parts = {
        name: {found for found in imported if not name.startswith(f"{found}.")}
        for name, imported in module_graph().items()
    }
    levels(parts)  # raises where there is a circle


def test_a_circle_would_be_found():
    with pytest.raises(ValueError, match="import each other: a, b, c, d"):
        levels({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()})


def test_the_picture_of_the_packages_shows_their_imports():
    committed = (REPOSITORY / "docs" / "architecture.svg").read_text(encoding="utf-8")
    assert committed == draw.picture(), "draw it again: .venv/bin/python scripts/architecture-figure"


def test_the_architecture_page_describes_every_package():
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = [line.split("`")[1].rstrip("/") for line in page.splitlines() if line.startswith("| `")]
    assert [name for name in listed if name.removesuffix(".py") in LAYERS] == [
        f"{name}.py" if name in ("errors", "seeds", "terminal", "shown") else name for name in LAYERS
    ]


PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "AGENTS.md",
    *(f"docs/{name}.md" for name in ("architecture", "write-a-task")),
]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    named = re.findall(
        r"`((?:attnlab|pipelines|custom_attention|configs|scripts|tests|docs)/[\w./-]*)`", text
    )
    named += re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", text)
    homes = (REPOSITORY, (REPOSITORY / page).parent)
    written = [block.file for block in guide.blocks(Path(page).name)] if page.startswith("docs/") else []
    lost = [name for name in named if not any((home / name).exists() for home in homes)]
    assert [name for name in lost if name not in written] == []


def test_every_function_on_the_paths_of_the_architecture_page_is_where_it_says():
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    steps = re.findall(r"`(\w+)` \(`([\w/.]+\.py)`\)", page)
    assert len(steps) > 40
    for name, file in steps:
        text = (REPOSITORY / file).read_text(encoding="utf-8")
        assert re.search(rf"^ *(?:def|class) {name}\b", text, re.MULTILINE), f"{name} is not in {file}"


def test_no_folder_is_too_large_to_read():
    folders = {path.parent for path in files("pipelines") + files("custom_attention")} - {CATALOGUE}
    crowded = {str(folder): len(list(folder.glob("*.py"))) for folder in folders}
    assert {folder: count for folder, count in crowded.items() if count > MOST_FILES} == {}


def test_no_two_classes_have_one_name():
    found: dict[str, list[str]] = {}
    for path in files("pipelines") + files("custom_attention"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(str(path.relative_to(REPOSITORY)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("path", files("custom_attention"), ids=str)
def test_custom_attention_never_imports_pipelines(path):
    assert "pipelines" not in roots(imported_names(path))


def test_the_rule_of_option_types_needs_the_standard_library_only():
    path = REPOSITORY / "custom_attention" / "option_types.py"
    assert roots(imported_names(path)) <= sys.stdlib_module_names


@pytest.mark.parametrize("path", files("custom_attention/variants"), ids=str)
def test_a_variant_imports_torch_and_the_contract_only(path):
    names = {name for name in imported_names(path) if name}
    ours = {name for name in names if name.startswith("custom_attention")}
    assert roots(names) <= {"torch", "math", "typing", "__future__", "custom_attention"}
    assert all(name.startswith("custom_attention.variant") for name in ours)
    assert not any(name.startswith("custom_attention.variants") for name in ours)


@pytest.mark.parametrize("path", files("pipelines/tasks"), ids=str)
def test_a_task_knows_neither_accelerate_nor_attention(path):
    assert not roots(imported_names(path)) & {"accelerate", "custom_attention"}


def test_the_seam_is_named_in_one_file_only():
    allowed = {"dispatch.py", "export.py"}
    for path in files("custom_attention") + files("pipelines"):
        if path.name not in allowed:
            assert "AttentionInterface" not in path.read_text(encoding="utf-8"), path


def test_an_accelerator_is_built_in_one_place():
    for path in files("pipelines"):
        if path.parent.name != "distributed":
            assert "Accelerator(" not in path.read_text(encoding="utf-8"), path


OF_FILES = {
    "pipelines/actions/presets.py",
    "pipelines/actions/init.py",
}  # prints the text of a file that is saved by a redirection


def test_what_is_printed_can_be_shown_by_a_terminal():
    bare = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}"
        for path in files("pipelines")
        if str(path.relative_to(REPOSITORY)) not in OF_FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if node.args and not _is_shown(node.args[0])
    ]
    assert bare == [], "print(printable(...))"


def test_a_terminal_is_drawn_on_in_one_place():
    # What `Terminal` prints is shown with its escapes; rich's own console, or a write, is not.
    other = [
        str(path.relative_to(REPOSITORY))
        for path in files("pipelines") + files("attnlab")
        if "rich.console.Console" in imported_names(path)
        or "rich.print" in imported_names(path)
        or re.search(r"std(?:out|err)(?:\.buffer)?\.write", path.read_text(encoding="utf-8"))
    ]
    assert other == ["pipelines/terminal.py"]


def _is_shown(printed: ast.expr) -> bool:
    """Return whether what is printed is a constant or goes through `printable`."""
    names = {node.id for node in ast.walk(printed) if isinstance(node, ast.Name)}
    return "printable" in names or isinstance(printed, ast.Constant)


def test_nothing_imports_the_scripts():
    for path in files("custom_attention") + files("pipelines"):
        assert "scripts" not in roots(imported_names(path)), path


def test_the_command_line_and_the_configuration_import_neither_torch_nor_transformers():
    code = (
        "import sys, pipelines.cli.main, pipelines.config.load; "
        "print([n for n in ('torch', 'transformers', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
