"""Run by `prove` in an interpreter of its own: load a folder as a stranger would, and measure the difference.

It imports nothing of ours. Where a way has to work without us, importing us is an error.
"""

import importlib.abc
import json
import os
import sys

OURS = ("custom_attention", "pipelines")


class Refusing(importlib.abc.MetaPathFinder):
    """An import system in which attnlab does not exist."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in OURS:
            raise ImportError(f"{name} must not be needed here")


def main() -> None:
    request = json.load(sys.stdin)
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    import torch
    import transformers
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    stored = load_file(request["probe"])
    batch = {
        name.removeprefix("input."): value for name, value in stored.items() if name.startswith("input.")
    }
    expected = {name[7:]: value for name, value in stored.items() if name.startswith("output.")}
    found = {}
    for way in request["ways"]:
        if not way["without_us"]:
            sys.path.append(request["ours"])
        refusing = Refusing()
        if way["without_us"]:
            sys.meta_path.insert(0, refusing)
        names = {}
        exec(way["code"], names)
        with torch.no_grad():
            output = names["model"](**batch)
        gaps = [(output[name].float() - value).abs().max().item() for name, value in expected.items()]
        found[way["name"]] = max(gaps)
        if way["without_us"]:
            sys.meta_path.remove(refusing)
    largest = max(value.abs().max().item() for value in expected.values())
    answer_to.write(json.dumps({"differences": found, "largest": largest}))
    answer_to.close()


if __name__ == "__main__":
    main()
