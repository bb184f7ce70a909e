"""The loop of AGENTS.md, as it stands there, for two proposals on a tiny generated corpus."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.pipelines.cli.test_json import SCHEMA, fits

PAGE = Path(__file__).parents[3] / "AGENTS.md"
SIZES = {"train": 16, "validation": 8, "test": 20}
BASE = {
    "cells": {
        "toy": [
            {
                "task": {"name": "text_classification", "max_len": 32},
                "data": {"generated": {"name": "text_classification"} | SIZES},
                "model": {
                    "architecture": "bert",
                    "family": "encoder",
                    "vocab_size": 300,
                    "config": {
                        "hidden_size": 16,
                        "num_hidden_layers": 1,
                        "num_attention_heads": 2,
                        "intermediate_size": 16,
                    },
                },
                "max_steps": 2,
            }
        ]
    },
    "seeds": [1, 2, 3],
    "margin": {"accuracy": 90},  # settled at the first look
    "stopping": {"rule": "sequential", "most_seeds": 4},
    "keep": "none",
    "jobs": 2,
}


def test_the_loop_looks_through_commands_and_keeps_only_what_is_claimed(tmp_path):
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE))
    kept_for_the_test = '    Path(f"answer-{number}.json").write_text(json.dumps(answer))'
    shown = f"{code}\n{kept_for_the_test}\nprint(json.dumps(best))\n"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-c", shown],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = [json.loads((tmp_path / f"answer-{number}.json").read_text()) for number in (1, 2)]
    assert all(fits(answer, SCHEMA) for answer in answers)
    assert all(answer["status"] in (0, 10, 11) for answer in answers)
    looks = [answer["result"]["comparisons"][0]["ledger"] for answer in answers]
    kept = [answer["status"] == 0 and look["claimed"] for answer, look in zip(answers, looks)]
    arms = [yaml.safe_load((tmp_path / f"loop-{number}.yaml").read_text())["arms"] for number in (1, 2)]
    assert arms[1]["best"] == (arms[0]["new"] if kept[0] else [])
    assert json.loads(done.stdout) == (arms[1]["new"] if kept[1] else arms[1]["best"])
    lines = [json.loads(line) for line in (tmp_path / "runs" / "ledger.jsonl").read_text().splitlines()]
    assert len({line["ablation"] for line in lines}) == 2  # both looked at one test set
    assert len({line["test"] for line in lines}) == 1
    assert looks[1] is None or looks[1]["looks"] == len(lines)
