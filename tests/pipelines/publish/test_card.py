"""The card of a run: valid for the client and for the Hub, with all that a reader has to know."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from pipelines.config.load import run_from_dict
from pipelines.errors import UserError
from pipelines.metrics.load import load
from pipelines.publish import card, metadata, scores, variant_text
from pipelines.publish import run_repository as pushed_run
from pipelines.publish.card import CardData, Score
from pipelines.publish.loading_code import ways
from pipelines.publish.staging import PushRequest
from pipelines.registry import catalog
from pipelines.storage.run_folder import RunFolder
from tests.hostile import TEXTS, unseen
from tests.pipelines import stored_ablation
from tests.pipelines.hub.double import metadata_errors

REQUEST = PushRequest("lab/tagger", "gate", license="mit", data_license="cc-by-4.0")
SCORE = Score("f1", 81.25, "test", 60, (75.5, 87.0), "seqeval|mode:conlleval")


def config(**changes: Any) -> dict:
    return run_from_dict(stored_ablation.RUN | changes).to_dict()


def rendered(**changes: Any) -> str:
    known: dict[str, Any] = {**pushed_run.card_basis(REQUEST, config(attention=["gate"])), "scores": [SCORE]}
    return card.render(CardData(**known | changes))


def head(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


def test_its_metadata_is_what_the_hub_takes() -> None:
    found = head(rendered())
    assert metadata_errors(found) == []
    [result] = found["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "f1", "value": 81.25, "name": "test f1"}]
    assert result["dataset"]["split"] == "test"
    assert (found["license"], found["pipeline_tag"]) == ("mit", "token-classification")
    assert {"attnlab", "gate"} <= set(found["tags"])


def test_before_training_it_is_valid_too_and_claims_no_number() -> None:
    text = pushed_run.card_before(REQUEST, config())
    assert metadata_errors(head(text)) == []
    assert "model-index" not in text
    assert "## Results" not in text


@pytest.mark.parametrize("variant", catalog.names(catalog.VARIANT))
def test_it_describes_the_attention(variant: str) -> None:
    text = rendered(config=config(attention=[variant]))
    equation = variant_text.describe(variant).equation
    assert f"**{variant}**".replace("_", "\\_") in text
    assert f"```text\n{equation}\n```" in text
    assert any(sign in equation for sign in "()=")


def test_scores_come_with_their_interval_their_seed_and_the_comparisons_of_the_arm() -> None:
    sentence = "toy: gate against stock by f1: inconclusive"
    text = rendered(comparisons=[sentence], figures=[("curves.svg", "Training loss")])
    assert "| f1 | 81.25 | 75.50 to 87.00 | 60 | seqeval\\|mode:conlleval |" in text
    assert "seed 1: the interval does not cover the spread over seeds" in text
    assert f"- {sentence}" in text
    assert "![Training loss](curves.svg)" in text
    assert "One seed without a baseline" not in text
    assert "One seed without a baseline" in rendered()


def test_each_licence_is_stated_beside_its_subject() -> None:
    model = {"name": "org/base", "family": "encoder"}
    known = {"config": config(model=model), "base_model": "org/base", "base_license": "apache-2.0"}
    text = rendered(**known, base_revision="abc123")
    assert "Licence of this model: mit." in text
    assert "Base model: org/base, revision abc123. Its licence: apache-2.0." in text
    assert "Its licence: cc-by-4.0." in text
    inherited = rendered(**known, license=None)
    assert head(inherited)["license"] == "apache-2.0"
    assert head(inherited)["base_model"] == "org/base"
    assert "No licence is stated" in rendered(license=None)


def test_its_commands_name_the_branch_and_its_lines_the_tag() -> None:
    both = ways("custom", "AutoModelForTokenClassification", "lab/tagger", "attnlab-0123")
    text = rendered(ways=both)
    assert "attnlab predict hub:lab/tagger@gate " in text
    assert text.count('from_pretrained("lab/tagger", revision="attnlab-0123"') == 4
    assert text.count("trust_remote_code=True") == 1
    assert "attnlab predict hub:lab/tagger --input" in rendered(ways=both, branch="main")


def test_user_text_is_escaped_and_invalid_metadata_refused() -> None:
    text = rendered(data_license="<b>none</b> | *mine*")
    assert "<b>" not in text.replace("\\<b>", "").replace("&lt;b>", "")
    with pytest.raises(UserError, match=r"README\.md: has metadata that is not valid"):
        metadata.require_valid("---\nmodel-index: 3\n---\n", "lab/tagger")


# ---- what it is written from
@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_ablation.reported(tmp_path_factory.mktemp("runs"), seeds=(1, 2, 3))


def test_the_interval_is_the_jackknife_over_examples(ablation: Path) -> None:
    run = RunFolder(stored_ablation.run_folder(ablation, "gate", 2))
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(run.path / "statistics.test.parquet").to_pandas()
    right, predicted, gold = (table[column].to_numpy() for column in table.columns[2:5])

    def f1(keep: np.ndarray) -> float:
        return 200 * right[keep].sum() / (predicted[keep].sum() + gold[keep].sum())

    count = len(table)
    without = np.array([f1(np.arange(count) != left_out) for left_out in range(count)])
    error = np.sqrt((count - 1) * without.var())
    reach = stats.t(count - 1).ppf(0.975) * error
    [score] = scores.scores(run.path)
    assert score.value == pytest.approx(f1(np.arange(count) >= 0))
    assert score.interval == pytest.approx((score.value - reach, score.value + reach))


@pytest.mark.parametrize(
    ("name", "options", "rows", "ends"),
    [
        ("accuracy", {}, [[1, 1]] * 19 + [[0, 1]], (None, 100.0)),
        ("accuracy", {}, [[0, 1]] * 19 + [[1, 1]], (0.0, None)),
        ("mse", {}, [[0.0, 1.0]] * 19 + [[9.0, 1.0]], (0.0, None)),
        ("perplexity", {"unit": "byte"}, [[0.0, 4.0]] * 19 + [[90.0, 4.0]], (0.0, None)),
    ],
)
def test_an_interval_ends_where_the_score_does(name, options, rows, ends) -> None:
    metric, table = load(name, options), np.array(rows, dtype=float)
    run: Any = SimpleNamespace(
        statistics={"it": table},
        metrics={"it": metric},
        clusters=[str(number) for number in range(len(rows))],
        score=lambda _: float(metric.score(table.sum(axis=0))),
    )
    interval = scores._interval(run, "it")
    assert interval is not None
    assert interval[0] < run.score("it") < interval[1]
    assert all(end is None or end == found for end, found in zip(ends, interval))


def test_a_run_of_an_ablation_reports_the_comparisons_of_its_arm(ablation: Path) -> None:
    [row] = json.loads((ablation / "results.json").read_text())["comparisons"]
    [found] = scores.comparisons(stored_ablation.run_folder(ablation, "gate", 2))
    assert found.startswith("toy: gate against stock by f1 on test, seeds 1, 2, 3: " + row["verdict"])
    assert not list(scores.comparisons(stored_ablation.run_folder(ablation, "stock", 2)))


def test_the_commit_of_the_base_model_is_found_however_it_was_named() -> None:
    by_address = {"config": {"model": {"name": "hub:lab/base@abc", "revision": None}}}
    by_id = {"config": {"model": {"name": "lab/base", "revision": "v1"}}, "model_commit": "def"}
    assert [pushed_run.base_revision(one) for one in (by_address, by_id)] == ["abc", "def"]
    assert pushed_run.base_model(by_address["config"]) == "lab/base"


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_it_shows_any_text_and_hides_none(text: str) -> None:
    stated = config(attention=["gate"])
    stated["data"] |= {"generated": None, "train": text, "validation": text, "revision": text}
    stated["model"] |= {"name": text, "architecture": None}
    stated["where"] = dict.fromkeys(stated["where"], text)
    environment = {"device": text, "versions": {"torch": text}}
    manifest = {"num_variant_parameters": 3, "num_steps": 1, "num_parameters": 3, "train_seconds": 1.0}
    shown = rendered(
        **pushed_run.card_basis(PushRequest("lab/tagger", license=text, data_license=text), stated),
        scores=[Score(text, 81.0, "test", 60, None, text)],
        comparisons=[text],
        figures=[("curves.svg", text)],
        note=text,
        base_revision=text,
        manifest=manifest | {"environment": environment},
    )
    assert unseen(shown) == set()
    assert head(shown)["license"] == text
    outside_code = re.sub(r"(?ms)^(`{3,})[^\n]*\n.*?^\1$", "", shown.split("---\n", 2)[2])
    assert re.findall(r"(?<!\\)<(?!/?(?:details|summary)>)\S*", outside_code) == []
