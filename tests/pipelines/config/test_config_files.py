"""The YAML files that ship work as their headers say, and the published schemas accept them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from pipelines.cli.main import main
from pipelines.config import json_schema, yaml_source
from pipelines.config.describe import notes
from pipelines.config.load import is_ablation, load_ablation
from pipelines.config.run import RunConfig
from pipelines.config.schema_errors import user_errors
from pipelines.errors import UserError
from tests.pipelines.config.against_schema import fault

REPOSITORY = Path(__file__).parents[3]
CONFIGS = REPOSITORY / "configs"
FILES = sorted(
    file for file in CONFIGS.rglob("*.yaml") if file.parent.name != "launch"
)  # those are accelerate's
COMMAND = re.compile(r"^#\s+attnlab (train|ablate) (.*)$", re.MULTILINE)
CONTINUED = re.compile(r"\s*\\\n#\s+")


def _name(file: Path) -> str:
    return str(file.relative_to(CONFIGS))


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_a_shipped_file_begins_by_saying_what_it_is(file):
    first = file.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 30


@pytest.fixture
def filled(tmp_path, monkeypatch) -> Path:
    """Return a copy of the configurations, with nothing beside them, as the working directory."""
    root = tmp_path / "repository"
    shutil.copytree(CONFIGS, root / "configs")
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("file", [file for file in FILES if file.parent.name != "attention"], ids=_name)
def test_the_commands_in_the_header_are_valid(file, filled, capsys):
    """In order: a later one may take the model that an earlier one makes."""
    root = filled
    commands = COMMAND.findall(CONTINUED.sub(" ", file.read_text(encoding="utf-8")))
    assert commands, "the header names no attnlab command"
    assert _name(file) in commands[-1][1]
    for _verb, rest in commands:
        words = shlex.split(rest)
        assert main(["validate", *words[: words.index("--out")]]) == 0, capsys.readouterr().err
        (root / words[words.index("--out") + 1] / "model").mkdir(parents=True)


@pytest.mark.parametrize("file", sorted((CONFIGS / "attention").glob("*.yaml")), ids=_name)
def test_an_attention_file_goes_with_any_run(file, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    model = "configs/model/bert-small-scratch.yaml"
    data = "data.generated={name: ner, train: 7, validation: 3}"
    assert main(["validate", model, str(file), "task=ner", data]) == 0, capsys.readouterr().err


def test_the_wnut_ablation_is_the_one_it_says(filled):
    ablation = load_ablation(str(filled / "configs" / "ablation" / "ner-wnut17.yaml"))
    assert list(ablation.arms) == ["stock", "unscaled-naive", "unscaled-compensated", "temperature", "gate"]
    assert (ablation.seeds, ablation.baseline) == ((1, 2, 3), "stock")
    assert (dict(ablation.primary), dict(ablation.margin)) == ({"ner": "f1"}, {"f1": 0.5})
    run = ablation.run_config("ner-minilm", "gate", 2)
    assert (run.num_epochs, run.batch_size, run.learning_rate, run.seed) == (2, 8, 5e-5, 2)


def test_the_quickstart_needs_nothing_but_the_package(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ablation = load_ablation(str(CONFIGS / "quickstart.yaml"))
    [run] = ablation.cells.values()
    assert run.data.generated is not None
    assert run.model.architecture is not None
    assert (list(ablation.arms), len(ablation.seeds)) == (["stock", "flat", "softcap"], 4)
    assert list(notes(ablation)) == []


# ---- the published schemas


@pytest.mark.parametrize("name", json_schema.SCHEMAS)
def test_the_published_schema_is_that_of_the_code(name):
    file = json_schema.FOLDER / f"{name}.schema.json"
    assert file.read_text(encoding="utf-8") == json_schema.text(name), (
        "run python -m pipelines.config.json_schema"
    )


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_the_published_schemas_accept_the_shipped_files(file):
    schema = json_schema.SCHEMAS["ablation" if is_ablation(str(file)) else "run"]()
    assert fault(yaml_source.read(file).value, schema, schema) is None


@pytest.mark.parametrize(
    "text",
    ["learnig_rate: 1", "batch_size: 0", "schedule: cosin", "where: {layers: first}", "model: {family: x}",
     "attention: [{a: {}, b: {}}]", "seed: yes", "select_by: no", "data: {train: 3}", "warmup_ratio: 1.0"],
)  # fmt: skip
def test_the_published_schema_refuses_what_the_code_refuses(text, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    document = yaml_source.read(file)
    with pytest.raises(UserError):
        _validated(document)
    schema = json_schema.run_schema()
    assert fault(document.value, schema, schema) is not None


def _validated(document: yaml_source.Document) -> None:
    try:
        RunConfig.model_validate(document.value)
    except ValueError as error:
        own = [one for one in user_errors(error, document, RunConfig) if "is missing" not in one.what]
        if own:
            raise own[0] from None


def test_the_schema_of_a_run_knows_every_setting():
    schema = json.loads(json_schema.text("run"))
    assert schema["properties"].keys() == RunConfig.model_fields.keys()
    assert all("description" in setting for setting in schema["properties"].values())
