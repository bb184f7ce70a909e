"""scripts/check-gpu measures every part in its rehearsal on the CPU; a part that fails stops no other."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

from scripts.gpu_check import page, parts  # noqa: E402 - as the script itself finds them
from scripts.gpu_check.claims import CLAIMS, judge  # noqa: E402
from scripts.gpu_check.scale import TINY  # noqa: E402

EQUAL = "equality with the CPU"


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    file = tmp_path_factory.mktemp("gpu") / "check.json"
    command = [sys.executable, "scripts/check-gpu", "--tiny", "--minutes", "60", "--json", str(file)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return file, done


def test_the_rehearsal_measures_every_part(rehearsed):
    file, _ = rehearsed
    measured = json.loads(file.read_text())["parts"]
    assert list(measured) == [part.name for part in parts.PARTS]
    assert {name: found["failed"] for name, found in measured.items() if "failed" in found} == {}
    assert measured["stop and resume"]["was_stopped"]
    assert measured["stop and resume"]["bits_equal"]
    assert measured["deterministic kernels"]["deterministic_bits_equal"]


def test_the_rehearsal_says_nothing_of_speed(rehearsed):
    _, done = rehearsed
    for claim in CLAIMS:
        [row] = [line for line in done.stdout.splitlines() if line.startswith(f"| {claim.sentence} |")]
        assert row.endswith(("| rehearsed |", "| not measured |") if claim.of_speed else ("|",))


def test_what_is_measured_is_not_measured_again(rehearsed):
    file, _ = rehearsed
    command = [sys.executable, "scripts/check-gpu", "--tiny", "--json", str(file)]
    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "..." not in again.stderr


def test_the_page_gets_the_figures_and_keeps_the_rest(rehearsed, tmp_path):
    file, _ = rehearsed
    copy = tmp_path / "benchmarks.md"
    before = page.PAGE.read_text(encoding="utf-8")
    copy.write_text(before, encoding="utf-8")
    page.write(json.loads(file.read_text()), copy)
    after = copy.read_text(encoding="utf-8")
    assert "| BERT-base, 128 |" in after
    assert after.split(page.BEGIN)[0] == before.split(page.BEGIN)[0]
    assert after.split(page.END)[1] == before.split(page.END)[1]


def test_a_part_that_raises_is_told():
    def broken(scale):
        raise RuntimeError("out of memory\nwith details")

    assert parts.run(parts.Part("broken", 60, broken), TINY, 60)["failed"] == "RuntimeError: out of memory"


def test_a_part_that_takes_too_long_is_stopped():
    def endless(scale):
        while True:
            time.sleep(60)

    assert "not finished" in parts.run(parts.Part("endless", 60, endless), TINY, 1)["failed"]


def test_a_part_that_kills_its_process_is_told():
    def fatal(scale):
        import os

        os._exit(7)

    assert parts.run(parts.Part("fatal", 60, fatal), TINY, 60)["failed"] == "its process ended with status 7"


def test_a_claim_is_judged_by_its_bound():
    def word(largest):
        verdicts = judge({EQUAL: {"largest": largest}}, is_tiny=False)
        [one] = [one for one in verdicts if one.sentence.startswith("float32")]
        return one.word

    assert word(1e-5) == "holds"
    assert word(1e-3) == "does NOT hold"
    assert all(one.word == "not measured" for one in judge({}, is_tiny=False))


def test_a_missing_gpu_is_one_sentence():
    if __import__("torch").cuda.is_available():
        pytest.skip("this machine has a GPU")
    command = [sys.executable, "scripts/check-gpu"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip() == "no GPU was found; --tiny rehearses the check on the CPU"
