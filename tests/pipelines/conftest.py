"""A reported ablation of made-up runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.pipelines import stored_ablation as made


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return made.reported(tmp_path_factory.mktemp("built"))


@pytest.fixture
def folder(built, tmp_path) -> Path:
    """An ablation of its own for every test."""
    shutil.copytree(built.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path / built.name
