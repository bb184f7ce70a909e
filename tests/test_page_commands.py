"""Every command of README and docs that names a shipped configuration is one that attnlab accepts.

Lines that are marked offline run in `test_offline_lines.py`; those for real data run here, on a mirror.
"""

from __future__ import annotations

import re
import shlex
import shutil

import pytest

from pipelines.actions.fetch import _needs
from pipelines.cli.command import files_and_overrides
from pipelines.cli.main import main
from tests.conftest import REPOSITORY

PAGES = sorted(
    str(path.relative_to(REPOSITORY))
    for path in (*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"))
    if path.name != "CHANGELOG.md"
)
COMMAND = re.compile(r"^(?:\s{4}|\.venv/bin/|# +)?attnlab (\w[\w-]*) +(configs/.*)$", re.MULTILINE)
OF_SETTINGS = ("train", "ablate", "inspect", "evaluate", "validate")
WRITTEN_IN_A_GUIDE = ("channel_gate", "text-regression-generated")  # by the reader, see tests/guide.py


def commands(page: str) -> list[tuple[str, list[str]]]:
    """Return (command, its words) of each line with a shipped configuration, without comment and options."""
    text = re.sub(r"\s*\\\n\s*", " ", (REPOSITORY / page).read_text(encoding="utf-8"))
    found = []
    for verb, rest in COMMAND.findall(text):
        words = shlex.split(re.split(r"\s{2,}(?=[#A-Za-z(])", rest)[0], comments=True)
        if not any(name in rest for name in WRITTEN_IN_A_GUIDE):
            found.append((verb, words))
    return found


WITH_COMMANDS = [page for page in PAGES if commands(page)]


def test_there_are_such_lines():
    assert {"README.md", "docs/results.md", "docs/results/founding.md", "docs/data.md"} <= set(WITH_COMMANDS)
    assert sum(len(commands(page)) for page in WITH_COMMANDS) > 25


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_are_valid(page, tmp_path, monkeypatch, capsys):
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    for family in ("gpt2", "t5"):  # what the first commands of docs/results/founding.md make
        (tmp_path / "runs" / f"pretrained-{family}" / "model").mkdir(parents=True)
    for verb, words in commands(page):
        settings = words[: next((n for n, word in enumerate(words) if word.startswith("--")), len(words))]
        if verb in OF_SETTINGS:
            assert main(["validate", *settings]) == 0, (words, capsys.readouterr().err)
        elif verb == "fetch":
            files, overrides = files_and_overrides(settings)
            assert all(list(_needs(file, overrides)) for file in files)


FEW = ["data.max_train_examples=16", "data.max_validation_examples=8", "data.max_test_examples=8"]


def test_the_lines_of_the_readme_for_real_data_work_on_a_mirror(real_mirror, tmp_path, monkeypatch, capsys):
    """In two steps and on a few sentences: a run with a variant, an ablation of two arms, texts, a report."""
    text = re.sub(r"\s*\\\n\s*", " ", (REPOSITORY / "README.md").read_text(encoding="utf-8"))
    block = next(part for part in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "runs/real" in part)
    lines = [line.partition("  #")[0].strip().replace(".venv/bin/", "") for line in block.splitlines()]
    assert [line.split()[1] for line in lines if line.startswith("attnlab")] == [
        "train", "ablate", "report", "push"
    ]  # fmt: skip
    monkeypatch.setenv("ATTNLAB_MIRROR", str(real_mirror))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    for line in lines:
        piped, _, command = line.rpartition(" | ")
        words = shlex.split(command)[1:]
        if words[0] == "train":
            words += [*FEW, "max_steps=2"]
        if words[0] == "ablate":
            few = [f"set.{setting}" for setting in FEW]
            words += [
                "seeds=[1]",
                "arms={stock: [], gate: [gate]}",
                "baseline=stock",
                "set.max_steps=2",
                *few,
            ]
        if words[0] == "push":
            continue  # the lines that are marked offline try it with --dry-run
        if piped:
            (tmp_path / "lines.txt").write_text(shlex.split(piped)[1] + "\n")
            words[words.index("-")] = "lines.txt"
        assert main(words) == 0, (words, capsys.readouterr().err)
    assert (tmp_path / "runs" / "wnut" / "report.html").is_file()
    assert '"text": "Anna moved from Paris to Apple"' in capsys.readouterr().out
