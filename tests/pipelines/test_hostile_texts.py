"""No text of a user or of data runs, breaks a page or controls a terminal: page, card, table, listing."""

from __future__ import annotations

import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from pipelines import report
from pipelines.actions import ls, predict, status
from pipelines.errors import UserError
from pipelines.executors.run_state import RunState
from pipelines.report import templating
from pipelines.shown import json_line
from pipelines.terminal import Terminal
from tests.hostile import TEXTS, unseen

sys.path.insert(0, str(Path(__file__).parent / "report"))
import synthetic
from browser import CHROMIUM, Browser

every_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


class Tags(HTMLParser):
    """The tags and the attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def hostile_results(root: Path, text: str) -> dict:
    """Results in which cell, arm, metric, reason and the texts of a run are `text`."""
    results = synthetic.build(root, cells=("a",), arms=("gate",), metrics=("f1",))
    for row in results["comparisons"]:
        row |= {"cell": text, "arm": text, "metric": text, "reason": text, "task": text, "model": text}
    results["arms"] = {text: {"stock": results["arms"]["a"]["stock"], text: results["arms"]["a"]["gate"]}}
    results["failures"] = [
        {"cell": text, "arm": text, "seed": 2, "run": "ab", "status": "failed", "reason": text}
    ]
    for path in root.rglob("predictions.*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        changed = [line | {"input": [text, *line["input"]]} for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in changed))
    return results


def rendered(root: Path, text: str) -> dict[str, str]:
    return report.render(hostile_results(root, text), root)


@every_text
def test_a_report_shows_any_text_and_runs_none(text, tmp_path):
    quiet = Tags(
        report.render(hostile_results(tmp_path / "quiet", "word"), tmp_path / "quiet")["report.html"]
    )
    texts = report.render(hostile_results(tmp_path / "now", text), tmp_path / "now")
    page = Tags(texts["report.html"])
    assert page.tags <= quiet.tags
    assert page.attributes <= quiet.attributes | {"title"}
    ElementTree.fromstring(texts["forest.svg"])
    assert {name: unseen(content) for name, content in texts.items() if unseen(content)} == {}
    tables = [line for line in texts["report.md"].splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} <= {4, 6, 9}
    assert not re.search(r"(?<!\\)<(?!/?(?:sub|sup|br)\b)", texts["report.md"])
    assert not re.search(r"(?<!\\)\\(?:input|end\{document)", texts["report.tex"])
    assert "\n\n" not in texts["report.tex"].split("\\toprule")[1]


@every_text
@pytest.mark.parametrize("width", [60, 130])
def test_the_tables_of_a_terminal_show_any_text_in_their_width(text, width, tmp_path):
    printed = io.StringIO()
    console = Terminal(file=printed, width=width, colours=True)
    report.print_table(hostile_results(tmp_path, text), console, tmp_path)
    cell = SimpleNamespace(cell=text, arm=text, seed=1, label=f"{text}/1")
    console.print(status.table([RunState(cell, "failed", reason=text)]))
    assert unseen(printed.getvalue()) == set()
    plain = re.sub(r"\x1b\[[\d;]*m", "", printed.getvalue())
    rows = [line for line in plain.splitlines() if "─" in line or "±" in line]
    assert max(map(cell_len, rows)) <= width


@every_text
def test_what_no_one_has_escaped_is_escaped_by_the_terminal(text):
    printed = io.StringIO()
    terminal = Terminal(file=printed, width=60, colours=True)
    table = Table(text, caption=text)
    table.add_row(text)
    table.add_row(Text(text))
    for one in (text, Text(text), Text.assemble((text, "bold"), text), table):
        terminal.print(one)
    terminal.say(text)
    assert unseen(printed.getvalue()) == set()


@every_text
def test_a_listing_shows_any_text(text, tmp_path, capsys):
    folder = tmp_path / text.replace("/", "_").replace("\0", "_").replace("\n", "_")[:60]
    folder.mkdir()
    scores = {
        "status": text,
        "task": text,
        "model_name": text,
        "primary": text,
        "scores": {text: {text: 1.0}},
    }
    config = {"config": {"attention": [text], "seed": text}}
    (folder / "manifest.json").write_text(json.dumps(scores | config))
    (folder / "a.yaml").write_text(f"# {text.splitlines()[0]}\nbatch_size: 3\n", encoding="utf-8")
    ls.ls_command("runs", str(tmp_path))
    ls.ls_command("configs", str(tmp_path))
    assert unseen(capsys.readouterr().out) == set()


@every_text
def test_an_error_about_any_text_is_one_that_a_terminal_shows(text):
    assert unseen(UserError(text, text, text, text).sentence()) == set()


@pytest.mark.parametrize("text", [*TEXTS.values(), "half \ud800 of a pair"], ids=[*TEXTS, "surrogate"])
def test_a_prediction_of_any_text_is_a_line_that_reads_back(text):
    line = json_line({"id": text, "label": [text]})
    assert unseen(line) == set()
    assert "\n" not in line
    line.encode()  # as a file is written
    assert json.loads(line) == {"id": text, "label": [text]}


def test_predict_writes_such_lines(monkeypatch):
    monkeypatch.setattr(predict, "answers", lambda *_: [{"id": "\x1b[2J\ud800"}])
    written = io.StringIO()
    predict._write(written, None, [])
    assert written.getvalue() == '{"id": "\\u001b[2J\\ud800"}\n'


@every_text
def test_a_block_of_code_ends_where_its_text_ends(text):
    block = str(templating.code_block(text, "yaml"))
    fence = re.match("`+", block).group()
    assert block.startswith(f"{fence}yaml\n")
    assert block.endswith(f"\n{fence}")
    inside = block.removeprefix(f"{fence}yaml\n").removesuffix(f"\n{fence}")
    assert fence not in inside
    assert unseen(inside) == set()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
def test_a_browser_runs_nothing_on_a_page_of_such_texts(tmp_path):
    with Browser() as browser:
        for name, text in TEXTS.items():
            folder = tmp_path / name.replace(" ", "-")
            report.write(hostile_results(folder, text), folder)
            browser.open(folder / "report.html", 800)
            browser.value(
                "document.querySelectorAll('*').forEach(e => e.dispatchEvent(new Event('mouseover')))"
            )
            assert browser.value("document.title") != "owned", name
            assert browser.value("document.querySelectorAll('script, img[onerror], iframe').length") == 0, (
                name
            )
            assert browser.complaints() == []
            assert browser.requests() == []
