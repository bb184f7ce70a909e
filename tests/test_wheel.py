"""From a wheel in a fresh environment and an empty folder: start, train and predict, without a checkout."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from scripts.architecture_figure.imports import REPOSITORY

PARTS = ("attnlab", "configs", "custom_attention", "pipelines", "pyproject.toml", "README.md", "LICENSE")
TINY = ["hidden_size", "16", "num_hidden_layers", "1", "num_attention_heads", "2", "intermediate_size", "16"]
SMALL = [f"model.config.{name}={size}" for name, size in zip(TINY[::2], TINY[1::2])]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pip") is None or importlib.util.find_spec("setuptools") is None,
    reason="pip and setuptools build the wheel",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in PARTS:
        part = REPOSITORY / name
        if part.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(part, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(part, source)
    built = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "-w", str(built), str(source)], check=True, capture_output=True)
    [file] = built.glob("attnlab-*.whl")
    return file


@pytest.fixture(scope="module")
def attnlab(wheel, tmp_path_factory):
    """Return a function that runs the command of a fresh environment in a folder."""
    home = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    [packages] = home.glob("lib/python*/site-packages")
    places = {
        str(Path(importlib.util.find_spec(name).origin).parents[1]) for name in ("torch", "yaml", "numpy")
    }
    (packages / "dependencies.pth").write_text("\n".join(places))

    def run(folder, *arguments, program="attnlab", status=0, **environment):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [str(home / "bin" / program), *arguments],
            cwd=folder,
            env=kept | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_wheel_holds_every_config_and_nothing_of_the_tests(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    ours = {f"attnlab/{file.relative_to(REPOSITORY)}" for file in (REPOSITORY / "configs").rglob("*.yaml")}
    assert ours <= inside
    assert not [name for name in inside if name.startswith(("tests/", "scripts/", "configs/"))]


def test_from_an_empty_folder_to_a_prediction(attnlab, tmp_path):
    words = {"lovely": "up", "dreadful": "down", "fine": "up", "poor": "down"}
    things = ("film", "soup", "trip", "room", "song", "walk")
    rows = [f"the {thing} was {word},{label}" for thing in things for word, label in words.items()]
    (tmp_path / "my.csv").write_text("\n".join(["remark,verdict", *rows]))
    (tmp_path / "x.txt").write_text("the boat was lovely\n")
    (tmp_path / "my.yaml").write_text(attnlab(tmp_path, "init", "--data", "my.csv"))
    few = ["max_steps=2", "model.vocab_size=300", *SMALL]
    attnlab(tmp_path, "train", "my.yaml", *few, "--out", "r")
    [line] = attnlab(tmp_path, "predict", "r", "--input", "x.txt").splitlines()
    assert json.loads(line)["label"] in ("up", "down")


def test_configs_are_listed_and_printed(attnlab, tmp_path):
    assert "task/ner-generated" in attnlab(tmp_path, "ls", "configs")
    (tmp_path / "matrix.yaml").write_text(attnlab(tmp_path, "init", "--from", "matrix"))
    assert "matrix.yaml: valid" in attnlab(tmp_path, "validate", "matrix.yaml")


@pytest.mark.parametrize("name", ["pipelines", "custom_attention"])
def test_a_folder_of_the_user_with_the_name_of_a_package_is_not_taken_for_it(attnlab, tmp_path, name):
    (tmp_path / name / "tasks").mkdir(parents=True)
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    for program, before in (("attnlab", ()), ("python", ("-m", "attnlab"))):
        for shadow in ({}, {"PYTHONPATH": "."}):
            assert "ner" in attnlab(tmp_path, *before, "ls", "tasks", program=program, **shadow)
            assert "gate" in attnlab(tmp_path, *before, "ls", "variants", program=program, **shadow)


def test_the_public_package_loads_no_torch(attnlab, tmp_path):
    code = "import sys, attnlab; print(sorted(attnlab.__all__), 'torch' in sys.modules)"
    said = attnlab(tmp_path, "-c", code, program="python")
    assert "'ablate', 'compare', 'load_run', 'report', 'train'" in said
    assert said.strip().endswith("False")
