"""The page in a real browser: no errors, every section, and no wider than the window."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic
from browser import CHROMIUM, Browser

from pipelines import report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    long = "temperature-per-head-with-gate-and-a-name-that-does-not-end-soon"
    results = synthetic.build(
        root,
        cells=("ner-minilm", "question-answering-gpt2"),
        arms=("unscaled", "gate", long),
        seeds=(1, 2, 3, 4, 5),
    )
    report.write(results, root / "report")
    return root / "report" / "report.html"


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 390, 320])
def test_the_page_is_quiet_and_no_wider_than_the_window(page, browser, width, dark):
    browser.open(page, width, dark)
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.value("document.documentElement.scrollWidth") <= width


SEEN = "[...document.querySelectorAll('figure svg')].filter(s => s.clientHeight)"
OUTSIDE = """(box => [...s.querySelectorAll('text')].filter(t => {
  const r = t.getBoundingClientRect();
  return Math.min(r.left - box.left, box.right - r.right, r.top - box.top, box.bottom - r.bottom) < -1
}).map(t => t.textContent))(s.getBoundingClientRect())"""
OVERLAPS = """(all => all.flatMap(([a, p], i) => all.slice(i + 1).filter(([b, q]) =>
  Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1 &&
  Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 4
).map(([b]) => a + ' / ' + b)))(
  [...s.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]))"""


@pytest.mark.parametrize("width", [1280, 390])
def test_every_figure_is_drawn_and_no_word_leaves_its_picture(page, browser, width):
    browser.open(page, width)
    assert browser.value(f"{SEEN}.length") > 20
    assert browser.value(f"{SEEN}.filter(s => s.clientHeight < 10 || s.clientWidth < 10).length") == 0
    assert browser.value(f"{SEEN}.flatMap(s => {OUTSIDE})") == []


@pytest.mark.parametrize("width", [1280, 390])
def test_no_two_words_of_a_figure_overlap(page, browser, width):
    browser.open(page, width)
    assert browser.value(f"{SEEN}.flatMap(s => {OVERLAPS})") == []


@pytest.mark.parametrize("factor", [1e-4, 300.0], ids=["tiny", "large"])
def test_numbers_of_any_size_stay_in_their_pictures(factor, browser, tmp_path):
    results = synthetic.build(tmp_path, cells=("lm-gpt2",), arms=("unscaled-compensated", "gate"))
    for row in results["comparisons"]:
        for name in ("baseline_scores", "arm_scores", "seed_differences", "ci95", "ci90"):
            row[name] = [factor * value for value in row[name]]
        row |= {name: factor * row[name] for name in ("difference", "se", "mde80")}
        row["bootstrap"]["edges"] = [factor * edge for edge in row["bootstrap"]["edges"]]
    report.write(results, tmp_path / "report")
    for width in (1280, 390):
        browser.open(tmp_path / "report" / "report.html", width)
        assert browser.value(f"{SEEN}.flatMap(s => {OUTSIDE})") == []
        assert browser.value(f"{SEEN}.flatMap(s => {OVERLAPS})") == []


def test_a_phone_gets_the_stacked_plot_and_a_desk_the_wide_one(page, browser):
    shown = "[...document.querySelectorAll('.forest')].filter(s => s.clientHeight).map(s => s.classList[1])"
    for width, name in ((1280, "wide"), (390, "stacked")):
        browser.open(page, width)
        assert browser.value(shown) == [name]


def test_dark_and_light_differ_and_both_keep_contrast(page, browser):
    grounds = []
    for dark in (False, True):
        browser.open(page, 1280, dark)
        ground, ink = browser.value("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
        grounds.append(ground)
        assert _contrast(ground, ink) >= 7
    assert grounds[0] != grounds[1]


def test_the_page_prints(page, browser, tmp_path):
    browser.open(page, 1280)
    browser.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def _contrast(first: str, second: str) -> float:
    low, high = sorted(
        _luminance([int(part) / 255 for part in text[4:-1].split(",")]) for text in (first, second)
    )
    return (high + 0.05) / (low + 0.05)


def _luminance(rgb: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
