"""Every published claim of configs/papers says what it asks, at two scales, and the page holds what came."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cli.main import main
from pipelines.config.load import load_ablation
from pipelines.errors import UserError
from scripts.paper_pages import page, results

REPOSITORY = Path(__file__).parents[1]
PAPERS = results.papers()


def _file(name):
    return str(REPOSITORY / "configs" / "papers" / f"{name}.yaml")


def test_there_are_at_least_ten_papers():
    assert len(PAPERS) >= 10


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_is_asked_small_and_near_its_own_size(name):
    small, large = load_ablation(_file(name)), load_ablation(_file(name), ["scale=paper"])
    assert small.arms == large.arms
    assert small.cells != large.cells
    assert all(cell.max_steps is not None for cell in small.cells.values())
    assert all(cell.precision == "bfloat16" for cell in large.cells.values())


@pytest.mark.parametrize("name", PAPERS)
def test_the_claims_of_the_page_are_those_of_the_files(name):
    paper, text = PAPERS[name]["paper"], page.PAGE.read_text(encoding="utf-8")
    assert all(paper[field] in text for field in ("claim", "number", "recipe", "differs", "source"))
    assert results.kept(name) is not None, "its ablation was not run"


def test_the_page_is_what_the_script_writes():
    assert page.PAGE.read_text(encoding="utf-8") == page.markdown(), "scripts/papers-page writes it again"


def test_the_papers_are_listed(capsys):
    assert main(["ls", "papers"]) == 0
    printed = capsys.readouterr().out
    assert all(f"papers/{name}" in printed for name in PAPERS)


def _ablation(tmp_path, text=""):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "cells:\n  one:\n    task: ner\n    max_steps: 3\n"
        "    data: {generated: {name: ner, train: 20, validation: 4, test: 4}}\n"
        "    model: {architecture: bert, family: encoder, vocab_size: 400, config: {hidden_size: 24}}\n"
        "arms: {stock: [], gate: [gate]}\nseeds: [1, 2]\nprimary: {ner: f1}\n" + text
    )
    return str(file)


def test_a_scale_replaces_its_sections_and_no_others(tmp_path):
    file = _ablation(tmp_path, "scales: {more: {seeds: [4, 5, 6], arms: {stock: [], softcap: [softcap]}}}\n")
    as_it_stands, more = load_ablation(file), load_ablation(file, ["scale=more"])
    assert (as_it_stands.seeds, more.seeds) == ((1, 2), (4, 5, 6))
    assert (list(as_it_stands.arms), list(more.arms)) == (["stock", "gate"], ["stock", "softcap"])
    assert as_it_stands.cells == more.cells


def test_an_override_wins_over_the_scale(tmp_path):
    file = _ablation(tmp_path, "scale: more\nscales: {more: {seeds: [4, 5, 6]}}\n")
    assert load_ablation(file).seeds == (4, 5, 6)
    assert load_ablation(file, ["seeds=[9]"]).seeds == (9,)


@pytest.mark.parametrize("chosen", ["scale=moer", "scale=7", "scale={a: 1}"])
def test_an_unknown_scale_is_one_sentence(tmp_path, chosen):
    with pytest.raises(UserError, match=r"has no scale .*more"):
        load_ablation(_ablation(tmp_path, "scales: {more: {seeds: [4, 5, 6]}}\n"), [chosen])


def test_a_mistake_in_a_scale_is_told_where_the_scale_is_used(tmp_path):
    file = _ablation(tmp_path, "scales:\n  more:\n    seeds: [4, four]\n")
    with pytest.raises(UserError, match=r"mine\.yaml:12.*seeds"):
        load_ablation(file, ["scale=more"])


def test_the_scale_is_no_part_of_what_is_compared(tmp_path):
    stated = load_ablation(_ablation(tmp_path, "scales: {same: {seeds: [1, 2]}}\n"), ["scale=same"])
    assert stated == load_ablation(_ablation(tmp_path))
