"""Run in an environment without attnlab, with an empty cache: load what was pushed by its card's own lines.

Reads `{repo: staged folder}` and the path of our sources, which are there for the second pass only. Answers,
for every repository and way, the largest differences to the folder that was pushed and to the model that was
trained.
"""

import importlib.util
import json
import os
import re
import sys
from pathlib import Path

OURS = ("custom_attention", "pipelines")


def lines_of(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def run(code: str, batch: dict) -> dict:
    import torch

    names: dict = {}
    exec(code, names)
    names["tokenizer"]("some words")
    with torch.no_grad():
        return {k: v for k, v in names["model"](**batch).items() if torch.is_tensor(v)}


def main() -> None:
    import torch
    import transformers
    from huggingface_hub import hf_hub_download
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    request, found = json.load(sys.stdin), {}
    answer_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    assert not any(map(importlib.util.find_spec, OURS)), "attnlab is installed here"
    for ours in (False, True):
        sys.path += [request["ours"]] if ours else []
        for repo, folder in request["repos"].items():
            stored = load_file(Path(folder, "probe.safetensors"))
            batch = {n.removeprefix("input."): v for n, v in stored.items() if n.startswith("input.")}
            card = Path(hf_hub_download(repo, "README.md")).read_text()
            for code in lines_of(card):
                if ("import custom_attention" in code) != ours:
                    continue
                there = run(code, batch)
                here = run(re.sub(r'"[\w/-]+", revision="[\w-]+"', repr(folder), code), batch)
                found[f"{repo} {'registered' if ours else 'alone'}"] = {
                    "to_folder": max((there[n] - here[n]).abs().max().item() for n in here),
                    "to_trained": max(
                        (there[n.removeprefix("output.")] - v).abs().max().item()
                        for n, v in stored.items()
                        if n.startswith("output.")
                    ),
                }
    answer_to.write(json.dumps(found))
    answer_to.close()


if __name__ == "__main__":
    main()
