"""Which module imports which, and which package needs which: read from the source, nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
Graph = Mapping[str, set[str]]  # name -> names that it imports


def imported_names(path: Path) -> set[str]:
    """Return the full names of what a file imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


def modules(folder: str) -> dict[str, Path]:
    """Return every module below a folder of the repository, by its dotted name."""
    return {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
    }


def module_graph() -> dict[str, set[str]]:
    """Return which modules of the repository each module of `pipelines` and `custom_attention` imports."""
    own = modules("pipelines") | modules("custom_attention")
    return {name: (imported_names(path) & own.keys()) - {name} for name, path in own.items()}


def package_of(module: str) -> str:
    """Return the package of a module: a package of `pipelines`, or `custom_attention` as a whole."""
    root, _, rest = module.partition(".")
    return rest.partition(".")[0] if root == "pipelines" else root


def package_graph() -> dict[str, set[str]]:
    """Return which packages the modules of each package import."""
    graph: dict[str, set[str]] = {}
    for name, imported in module_graph().items():
        graph.setdefault(package_of(name), set()).update(map(package_of, imported))
    for name in ("", "__main__"):  # the package itself and `python -m pipelines` are no part of the picture
        graph.pop(name, None)
    return {name: found - {name, ""} for name, found in graph.items()}


def direct(graph: Graph) -> dict[str, set[str]]:
    """Return the graph without the imports that follow from others (its transitive reduction)."""
    return {
        name: found - {far for near in found for far in reachable(graph, near)}
        for name, found in graph.items()
    }


def reachable(graph: Graph, name: str) -> set[str]:
    """Return what a name imports, directly or through others."""
    found: set[str] = set()
    todo = list(graph[name])
    while todo:
        found.add(one := todo.pop())
        todo += graph[one] - found
    return found


def levels(graph: Graph) -> dict[str, int]:
    """Return the level of each name: 0 without imports, else one above the highest that it imports."""
    found: dict[str, int] = {}
    while len(found) < len(graph):
        ready = [name for name in graph if name not in found and graph[name] <= found.keys()]
        if not ready:
            raise ValueError(f"these import each other: {', '.join(sorted(graph.keys() - found.keys()))}")
        found |= {name: 1 + max((found[one] for one in graph[name]), default=-1) for name in ready}
    return found
