"""Reports hold all primary numbers in every format, fetch nothing, and escape every name."""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
import synthetic
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipelines import report
from pipelines.errors import UserError
from pipelines.report import data, sentences
from pipelines.report import format as fmt
from pipelines.report.templating import escape_latex
from pipelines.shown import printable
from pipelines.terminal import Terminal

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}


class Page(HTMLParser):
    """Tags must close in order; addresses, ids and text are kept."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.hrefs, self.ids, self.words, self.tags = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attributes):
        self._seen(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self._seen(tag, attributes)

    def _seen(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        for name, value in attributes:
            if name in ("href", "src", "xlink:href", "data", "action", "poster", "srcset"):
                self.hrefs.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def write(results: dict, root: Path) -> dict[str, str]:
    paths = report.write(results, root / "report")
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


def terminal(results: dict, folder: Path, width: int = 160) -> str:
    out = StringIO()
    report.print_table(results, Terminal(file=out, width=width), folder)
    return out.getvalue()


def accidents(results: dict) -> dict:
    """Everything that goes wrong in real ablations, in one results file."""
    rows = results["comparisons"]
    rows[0] |= {
        "verdict": "unstable",
        "reason": "1 of 3 seeds diverged (unscaled seed 1)",
        "difference": -41.7,
        "ci95": [-90.0, 6.6],
        "se": 18.3,
    }
    rows[0]["arm_scores"][0], rows[0]["runs"]["arm"][0] = None, None
    nothing = dict.fromkeys(("difference", "se", "ci95", "p", "p_holm", "mde80", "df"))
    rows[1] |= {"verdict": "no-verdict", "arm_scores": [None] * len(rows[1]["seeds"]), **nothing}
    rows[2] |= {
        "verdict": "identical",
        "difference": 0.0,
        "se": 0.0,
        "ci95": [0.0, 0.0],
        "mde80": 0.0,
        "p_holm": 1.0,
    }
    rows[3] |= {
        "difference": float("nan"),
        "se": float("nan"),
        "ci95": [float("nan")] * 2,
        "verdict": "no-verdict",
    }
    results["failures"] = [
        {
            "cell": "qa",
            "arm": "gate",
            "seed": 2,
            "run": "ab12",
            "status": "diverged",
            "step": 41,
            "reason": "nan",
        }
    ]
    return results


def numbers(row: dict) -> list[str]:
    """What a reader must find of a primary row, formatted here from the results alone."""
    exact = row["se"] is not None and math.isfinite(row["se"]) and row["se"] > 0
    places = max(0, 1 - math.floor(math.log10(row["se"]))) if exact else 2
    values = [(row["difference"], "+"), *((end, "+") for end in row["ci95"] or ()), (row["mde80"], "-")]
    shown = [f"{x:{sign}.{places}f}" for x, sign in values if x is not None and math.isfinite(x)]
    shown = [text.lstrip("+-") if float(text) == 0 else text.replace("-", "−") for text in shown]
    scores = [[x for x in row[side] if x is not None] for side in ("baseline_scores", "arm_scores")]
    for one in (one for one in scores if len(one) > 1):
        digits = max(0, 1 - math.floor(math.log10(statistics.stdev(one))))
        shown.append(f"{statistics.fmean(one):.{digits}f} ± {statistics.stdev(one):.{digits}f}")
    return shown + ([] if row["p_holm"] is None else [f"{row['p_holm']:.3f}"])


@pytest.fixture
def grid(tmp_path: Path) -> tuple[dict, Path]:
    results = synthetic.build(
        tmp_path, cells=("ner-bert", "qa-gpt2"), arms=("unscaled", "gate", "temperature"), seeds=(1, 2, 5)
    )
    return accidents(results), tmp_path


def test_every_primary_number_is_in_every_format(grid):
    results, root = grid
    written = write(results, root)
    tex = written["report.tex"]
    page, svg = (
        Page(written["report.html"]).text,
        "".join(ElementTree.fromstring(written["forest.svg"]).itertext()),
    )
    markdown = written["report.md"].replace("&lt;", "<")
    shown = terminal(results, root / "report")
    for row in filter(lambda row: row["primary"], results["comparisons"]):
        for number in numbers(row):
            assert number in page
            assert number in markdown
            assert number in shown
            assert escape_latex(number) in tex
        if row["difference"] is not None and math.isfinite(row["difference"]):
            assert numbers(row)[0] in svg
        for text in (page, markdown, shown):
            assert row["verdict"] in text


def test_the_terminal_ends_with_the_answer_in_one_sentence(tmp_path):
    results = synthetic.build(tmp_path, arms=("gate", "gain"), with_runs=False)
    last = terminal(results, tmp_path / "report", 1000).splitlines()[-1]
    assert last.startswith("In short: ")
    assert "gate" in last
    assert "gain" in last


def test_the_page_fetches_nothing_and_every_link_is_relative(grid):
    results, root = grid
    text = write(results, root)["report.html"]
    page = Page(text)
    assert "<script" not in text
    assert "@import" not in text
    assert not re.findall(r"url\(\s*['\"]?(?!#|data:)", text)
    for href in page.hrefs:
        assert not re.match(r"[a-z][a-z0-9+.-]*:|//|/", href) or href == "data:,", href
        if href.startswith("#"):
            assert href[1:] in page.ids, href
    assert len(set(page.ids)) == len(page.ids)


def test_every_run_is_linked_and_every_link_leads_to_a_run(grid):
    results, root = grid
    written = write(results, root)
    known = data.load(results, root / "report")
    linked = {href for href in Page(written["report.html"]).hrefs if href.startswith("../cells/")}
    assert linked == {run.href for run in known.runs.values()}
    for href in linked:
        assert (root / "report" / unquote(href) / "manifest.json").exists()
    for run in known.runs.values():
        assert f"]({run.href})" in written["report.md"]


def test_pictures_are_named_described_and_well_formed(grid):
    results, root = grid
    written = write(results, root)
    ElementTree.fromstring(written["forest.svg"])
    pictures = re.findall(r"<svg.*?</svg>", written["report.html"], re.S)
    assert len(pictures) > 10
    for picture in pictures:
        tree = ElementTree.fromstring(picture)
        if tree.get("aria-hidden") == "true":
            continue
        names = [child.tag.split("}")[-1] for child in tree][:2]
        assert names == ["title", "desc"]
        assert tree.get("role") == "img"
        assert "nan" not in picture


def test_every_table_header_has_a_scope(grid):
    results, root = grid
    for tag, attributes in Page(write(results, root)["report.html"]).tags:
        if tag == "th":
            assert attributes.get("scope") in ("col", "row", "rowgroup")


def test_accidents_are_reported_in_words(grid):
    results, root = grid
    written = write(results, root)
    for text in (Page(written["report.html"]).text, written["report.md"], terminal(results, root / "report")):
        text = " ".join(text.split())
        assert "qa, gate, seed 2 diverged at step 41 (nan)" in text
        assert "1 of 3 seeds diverged (unscaled seed 1)" in text
        assert "exploratory" in text


HOSTILE = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp", "Co", "Cn")),
    min_size=1,
    max_size=60,
).filter(str.strip)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=HOSTILE, cell=HOSTILE, metric=HOSTILE)
@example(name="\u0600", cell="0", metric="0")  # a mark that no page shows, so its escape is shown
def test_any_name_is_shown_and_none_is_executed(tmp_path, name, cell, metric):
    results = synthetic.build(tmp_path, seeds=(1, 2, 3), metrics=("f1",), with_runs=False)
    for row in results["comparisons"]:
        row |= {"cell": cell, "metric": metric, "arm": name if row["arm"] == "gate" else row["arm"]}
    written = write(results, tmp_path)
    page = Page(written["report.html"])
    assert " ".join(printable(name).split()) in page.text
    ElementTree.fromstring(written["forest.svg"])
    terminal(results, tmp_path / "report", 80)


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", 'a" onload="x', "a|b", "50%_$&#{}~^\\", "[x](y)"]
)
def test_names_that_are_code_stay_text(tmp_path, name):
    results = synthetic.build(tmp_path, arms=(name,), with_runs=False)
    written = write(results, tmp_path)
    page = Page(written["report.html"])
    assert name in page.text
    assert not [tag for tag, attributes in page.tags if tag == "script" or "onload" in attributes]
    tables = [line for line in written["report.md"].splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {4, 9}
    assert not re.search(r"(?<!\\)[%_#&](?!\w*\{)", _table_names(written["report.tex"]))


def _table_names(tex: str) -> str:
    """First columns of the LaTeX rows, without the alignment marks."""
    body = tex.split("\\toprule")[1].split("\\bottomrule")[0]
    return "\n".join(re.split(r"(?<!\\)&", line)[0] for line in body.splitlines() if line.endswith("\\\\"))


def test_a_report_that_travelled_without_its_runs_keeps_its_numbers(tmp_path):
    results = synthetic.build(tmp_path, with_runs=False)
    text = Page(write(results, tmp_path)["report.html"]).text
    for row in filter(lambda row: row["primary"], results["comparisons"]):
        assert all(number in text for number in numbers(row))


def test_nothing_finished_is_still_a_report(tmp_path):
    failure = {"cell": "qa", "arm": "gate", "seed": 2, "run": "ab", "status": "failed", "reason": "x"}
    empty = {"hash": "", "registration": None, "environment": {}, "comparisons": [], "arms": {}}
    results = {"schema_version": 1, **empty, "failures": [failure]}
    written = write(results, tmp_path)
    assert "qa, gate, seed 2 failed (x)" in Page(written["report.html"]).text
    terminal(results, tmp_path)


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_terminal_table_fits_its_terminal(grid, width):
    results, root = grid
    results["comparisons"][0]["arm"] = "a-very-long-arm-name-" * 5
    lines = terminal(results, root / "report", width).splitlines()
    assert max(map(len, lines)) <= width
    assert any("Δ time" in line for line in lines)
    known = data.load(results, root)
    times = [fmt.percent_change(known.time_ratio(row)) for row in known.rows]
    ends = [line.split()[-2:] for line in lines if line.rstrip().endswith(" %")]
    ends = [end for end in ends if end[0] != "95"]  # a sentence above the table, broken in "95 % interval"
    assert [" ".join(end) for end in ends] == [told for told in times if told != fmt.MISSING]


def test_writing_twice_gives_the_same_bytes(grid):
    results, root = grid
    assert write(results, root) == write(json.loads(json.dumps(results)), root)


def test_reports_need_neither_torch_nor_transformers(tmp_path):
    results = synthetic.build(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps(results))
    code = (
        "import json, sys, pathlib; from pipelines import report; "
        f"root = pathlib.Path({str(tmp_path)!r}); "
        "report.write(json.loads((root / 'results.json').read_text()), root / 'report'); "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})


def test_a_thousand_runs_take_seconds_and_few_bytes(tmp_path):
    cells = [f"{task}-{model}" for task in ("ner", "qa") for model in ("bert", "gpt2", "t5", "mini")]
    results = synthetic.build(
        tmp_path, cells=cells, arms=[f"arm{i}" for i in range(11)], seeds=range(1, 11), steps=100
    )
    begun = time.process_time()
    report.write(results, tmp_path / "report")
    assert time.process_time() - begun < 8
    assert (tmp_path / "report" / "report.html").stat().st_size < 5_000_000


def test_the_time_of_an_arm_is_reported_per_step_against_the_baseline(tmp_path):
    results = synthetic.build(tmp_path, arms=("gate",), with_runs=False, steps=100)
    about = results["arms"]["ner-minilm"]
    about["stock"] |= {"train_seconds": 20.0, "num_steps": [100, 100, 100]}
    about["gate"] |= {"train_seconds": 12.4, "num_steps": [50, 50, 50]}  # stopped early
    known = data.load(results, tmp_path)
    assert known.time_ratio(known.primary[0]) == pytest.approx(1.24)
    assert "+24 %" in terminal(results, tmp_path)


def test_on_a_cpu_the_time_of_an_arm_does_not_depend_on_what_else_the_machine_did(tmp_path):
    results = synthetic.build(tmp_path, arms=("gate",), with_runs=False, steps=100)
    about = results["arms"]["ner-minilm"]
    about["stock"] |= {"train_seconds": 90.0, "train_cpu_seconds": 10.0}  # it ran beside others
    about["gate"] |= {"train_seconds": 12.0, "train_cpu_seconds": 11.0}
    for device, ratio in (("cpu", 1.1), ("cuda:0", 12 / 90)):
        results["environment"]["device"] = device
        known = data.load(results, tmp_path)
        assert known.time_ratio(known.primary[0]) == pytest.approx(ratio)


def test_a_report_names_what_was_cut_from_the_data():
    counts = {"train": {"examples": 9}, "test": {"examples": 7, "sources_cut": 2}}
    record = data.RunRecord(data=data.RunData(counts))
    facts = SimpleNamespace(cells=["news"], arms=["stock"], records_of=lambda cell, arm: [record])
    assert list(sentences.data_losses(facts)) == ["news, test: 2 sources cut."]


def test_a_report_shows_the_notes_on_its_data(tmp_path):
    note = "validation: the shares of labels differ from those of train"
    results = synthetic.build(tmp_path, arms=("gate",), seeds=(1, 2, 3), metrics=("f1",))
    for path in tmp_path.rglob("manifest.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"data": {"notes": [note]}}))
    written = write(results, tmp_path)
    assert all(note in written[name] for name in ("report.md", "report.html", "report.tex"))


def test_the_arms_table_shows_parameters_and_work_against_the_baseline(tmp_path):
    results = synthetic.build(tmp_path, arms=("gate", "unscaled"), with_runs=False)
    page = Page(write(results, tmp_path)["report.html"]).text
    assert "2000.0 M" in page
    assert "+0.25 %" in page


def test_a_damaged_field_is_named(tmp_path):
    results = synthetic.build(tmp_path, with_runs=False)
    results["comparisons"][0]["ci95"] = "wide"
    with pytest.raises(UserError, match=r"results\.json: the field comparisons\.0\.ci95 is not valid"):
        data.load(results, tmp_path)


def test_a_misspelled_field_of_a_row_is_an_error(tmp_path):
    row = data.load(synthetic.build(tmp_path, with_runs=False), tmp_path).rows[0]
    with pytest.raises(AttributeError):
        _ = row.diffrence
