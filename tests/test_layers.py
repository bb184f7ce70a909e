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


@pytest.mark.parametrize("path", files("custom_attention"), ids=str)
def test_custom_attention_never_imports_pipelines(path):
    assert "pipelines" not in roots(imports(path))


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
        if path.name != "machine.py":
            assert "Accelerator(" not in path.read_text(encoding="utf-8"), path


def test_nothing_imports_the_scripts():
    for path in files("custom_attention") + files("pipelines"):
        assert "scripts" not in roots(imports(path)), path


def test_the_command_line_and_the_configuration_import_neither_torch_nor_transformers():
    code = (
        "import sys, pipelines.cli, pipelines.config; "
        "print([n for n in ('torch', 'transformers', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
