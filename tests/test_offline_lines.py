"""Every line of README and docs that is marked offline works in a fresh clone, in order, with no network."""

from __future__ import annotations

import re

import pytest

from pipelines.cli.main import main
from tests import guide
from tests.conftest import REPOSITORY

PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md"))]
MARKED = [page for page in PAGES if guide.offline_steps(page)]
QUICKSTART = "attnlab ablate configs/quickstart.yaml --out runs/quickstart"


def test_readme_and_tutorial_have_such_lines():
    assert {"README.md", "docs/tutorial.md"} <= set(MARKED)


@pytest.mark.parametrize("page", MARKED)
def test_the_lines_of_a_page_work_one_after_the_other(page, tmp_path):
    clone = guide.checkout(f"../{page}", tmp_path / "clone")
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(guide.NO_NETWORK, encoding="utf-8")
    for step in guide.offline_steps(page):
        command = QUICKSTART if step.command == "scripts/quickstart" else step.command
        printed = guide.run(clone, guide.shortened(command), tmp_path / "guard")
        for line in step.printed:
            wanted = re.escape(line.strip()).replace(r"\.\.\.", ".*")
            assert re.search(wanted, printed), f"{step.command} did not print {line!r} but\n{printed}"


def test_the_readme_begins_with_the_quickstart_and_its_next_steps_are_lines_of_the_readme():
    script = (REPOSITORY / "scripts" / "quickstart").read_text(encoding="utf-8")
    commands = [step.command for step in guide.offline_steps("README.md")]
    assert commands[0] == "scripts/quickstart"
    assert f".venv/bin/{QUICKSTART}" in script
    suggested = re.findall(r"^  (\.venv/bin/attnlab .*?)(?:   .*)?$", script, re.MULTILINE)
    assert len(suggested) >= 3
    assert [line for line in suggested if line not in commands] == []


def test_the_lines_for_real_data_are_valid(monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\s*\\\n\s*", " ", text)
    online = re.findall(r"attnlab (?:train|ablate) (configs/\S*ner-wnut17\.yaml.*?) --out", text)
    assert len(online) >= 2
    for settings in online:
        assert main(["validate", *settings.split()]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("folder", ["README.md", "CONTRIBUTING.md", "docs", "configs", "scripts/quickstart"])
def test_nothing_that_a_reader_follows_leads_out_of_the_clone(folder):
    path = REPOSITORY / folder
    files = [path] if path.is_file() else [*path.rglob("*.md"), *path.rglob("*.yaml")]
    assert [str(file) for file in files if "../shared" in file.read_text(encoding="utf-8")] == []
