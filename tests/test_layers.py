"""Who may import whom: read from the source, so that a shortcut is seen the day it is taken."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Full names of the modules a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


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
    "registry",  # what exists, read from source
    "corpora",  # generators
    "errors",
    "seeds",
)
MOST_FILES = 30  # of a folder


def modules(folder: str) -> dict[str, Path]:
    """Every module below a folder by its dotted name."""
    return {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
        for path in files(folder)
    }


def import_graph() -> dict[str, set[str]]:
    """Which modules of ours each module imports, at its top or inside a function."""
    ours = modules("pipelines") | modules("custom_attention")
    return {name: (imports(path) & ours.keys()) - {name} for name, path in ours.items()}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The modules that import each other: what remains when those that import none of it are taken off."""
    left = {name: set(found) for name, found in graph.items()}
    while ends := {name for name, found in left.items() if not found}:
        left = {name: found - ends for name, found in left.items() if name not in ends}
    return [left.keys() | set()] if left else []


def layer(name: str) -> str:
    return name.split(".")[1]


def test_a_file_imports_only_from_its_own_package_and_those_below():
    upward = [
        f"{name} -> {found}"
        for name, imported in import_graph().items()
        for found in sorted(imported)
        if name.startswith("pipelines.") and name != "pipelines.__main__" and found.startswith("pipelines.")
        if LAYERS.index(layer(found)) < LAYERS.index(layer(name))
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle():
    graph = import_graph()
    # A package's own __init__ names its public parts; that is no dependency of a part on the whole.
    parts = {
        name: {found for found in imported if not name.startswith(f"{found}.")}
        for name, imported in graph.items()
    }
    assert circles(parts) == []


def test_a_circle_would_be_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()})


def test_no_folder_is_too_large_to_read():
    folders = {path.parent for path in files("pipelines") + files("custom_attention")}
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
    assert "pipelines" not in roots(imports(path))


def test_the_rule_of_option_types_needs_the_standard_library_only():
    path = REPOSITORY / "custom_attention" / "option_types.py"
    assert roots(imports(path)) <= sys.stdlib_module_names


@pytest.mark.parametrize("path", files("custom_attention/variants"), ids=str)
def test_a_variant_imports_torch_and_the_contract_only(path):
    names = {name for name in imports(path) if name}
    ours = {name for name in names if name.startswith("custom_attention")}
    assert roots(names) <= {"torch", "math", "typing", "__future__", "custom_attention"}
    assert all(name.startswith("custom_attention.variant") for name in ours)
    assert not any(name.startswith("custom_attention.variants") for name in ours)


@pytest.mark.parametrize("path", files("pipelines/tasks"), ids=str)
def test_a_task_knows_neither_accelerate_nor_attention(path):
    assert not roots(imports(path)) & {"accelerate", "custom_attention"}


def test_the_seam_is_named_in_one_file_only():
    allowed = {"dispatch.py", "export.py"}
    for path in files("custom_attention") + files("pipelines"):
        if path.name not in allowed:
            assert "AttentionInterface" not in path.read_text(encoding="utf-8"), path


def test_an_accelerator_is_built_in_one_place():
    for path in files("pipelines"):
        if path.parent.name != "distributed":
            assert "Accelerator(" not in path.read_text(encoding="utf-8"), path


def test_nothing_imports_the_scripts():
    for path in files("custom_attention") + files("pipelines"):
        assert "scripts" not in roots(imports(path)), path


def test_the_command_line_and_the_configuration_import_neither_torch_nor_transformers():
    code = (
        "import sys, pipelines.cli.main, pipelines.config.load; "
        "print([n for n in ('torch', 'transformers', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
