"""The process of `check_loading`: load a folder without attnlab, and measure the differences.

It runs in an interpreter of its own and imports nothing of attnlab. While it runs code that must work without
attnlab, importing attnlab is an error.
"""

import importlib.abc
import json
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypedDict

PACKAGES = ("custom_attention", "pipelines")


class Answer(TypedDict):
    """The differences to the stored outputs, and the largest of those outputs in absolute value."""

    differences: dict[str, float]  # name of a way -> largest absolute difference
    largest_output: float


class RefuseAttnlab(importlib.abc.MetaPathFinder):
    """An import hook that raises ImportError for every module of attnlab."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        if name.split(".")[0] in PACKAGES:
            raise ImportError(f"{name} must not be needed here")


def main() -> None:
    """Read one request from standard input and write one answer to standard output."""
    request = json.load(sys.stdin)
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is not part of the answer
    import torch
    import transformers
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    probe = load_file(request["probe"])
    batch = {name.removeprefix("input."): value for name, value in probe.items() if name.startswith("input.")}
    expected = {
        name.removeprefix("output."): value for name, value in probe.items() if name.startswith("output.")
    }
    differences = {}
    for way in request["ways"]:
        refuse = RefuseAttnlab()
        if way["standalone"]:
            sys.meta_path.insert(0, refuse)
        else:
            sys.path.append(request["sources"])
        namespace: dict[str, Any] = {}
        exec(way["code"], namespace)
        with torch.no_grad():
            output = namespace["model"](**batch)
        gaps = [(output[name].float() - value).abs().max().item() for name, value in expected.items()]
        differences[way["name"]] = max(gaps)
        if way["standalone"]:
            sys.meta_path.remove(refuse)
    largest = max(value.abs().max().item() for value in expected.values())
    answer_to.write(json.dumps(Answer(differences=differences, largest_output=largest)))
    answer_to.close()


if __name__ == "__main__":
    main()
