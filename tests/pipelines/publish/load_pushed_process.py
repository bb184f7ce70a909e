"""Load pushed models by the lines of their cards, in an environment without attnlab and with an empty cache.

The request has `repos`, {repository: staged folder}, and `sources`, the path of attnlab's sources, which are
importable in the second pass only. The answer has, for every repository and way to load it, the largest
difference to the staged folder and to the trained model.
"""

import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("custom_attention", "pipelines")


def lines_of(card: str) -> list[str]:
    """Return every block of Python in a card."""
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def outputs(code: str, batch: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors that the model of the lines `code` returns for a batch."""
    import torch

    names: dict[str, Any] = {}
    exec(code, names)
    names["tokenizer"]("some words")
    with torch.no_grad():
        return {key: value for key, value in names["model"](**batch).items() if torch.is_tensor(value)}


def largest_difference(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Return the largest absolute difference of two models' outputs, of the names of `second`."""
    return max((first[name] - value).abs().max().item() for name, value in second.items())


def main() -> None:
    """Read one request from standard input and write one answer to standard output."""
    import torch
    import transformers
    from huggingface_hub import hf_hub_download
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    request, differences = json.load(sys.stdin), {}
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    assert not any(map(importlib.util.find_spec, PACKAGES)), "attnlab is installed here"
    for with_attnlab in (False, True):
        sys.path += [request["sources"]] if with_attnlab else []
        for repo, folder in request["repos"].items():
            probe = load_file(Path(folder, "probe.safetensors"))
            batch = {n.removeprefix("input."): v for n, v in probe.items() if n.startswith("input.")}
            trained = {n.removeprefix("output."): v for n, v in probe.items() if n.startswith("output.")}
            card = Path(hf_hub_download(repo, "README.md")).read_text()
            for code in lines_of(card):
                if ("import custom_attention" in code) != with_attnlab:
                    continue
                pushed = outputs(code, batch)
                staged = outputs(re.sub(r'"[\w/-]+", revision="[\w-]+"', repr(folder), code), batch)
                differences[f"{repo} {'registered' if with_attnlab else 'alone'}"] = {
                    "to_folder": largest_difference(pushed, staged),
                    "to_trained": largest_difference(pushed, trained),
                }
    answer_to.write(json.dumps(differences))
    answer_to.close()


if __name__ == "__main__":
    main()
