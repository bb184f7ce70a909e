"""The page of published ideas names files, options and tests that exist, and the lines of each file."""

from __future__ import annotations

import pytest
import yaml

from custom_attention import registry
from scripts.published_page import IDEAS, PAGE, REPOSITORY, page
from tests.custom_attention.conftest import own_names


def test_the_page_is_the_one_that_the_files_give():
    assert PAGE.read_text(encoding="utf-8") == page(), "write it again: python -m scripts.published_page"


@pytest.mark.parametrize("idea", IDEAS, ids=lambda idea: idea.variant)
def test_an_idea_has_one_file_of_its_own_a_yaml_and_its_test(idea):
    assert idea.variant in own_names()  # so the battery tests it
    registry.check_options(registry.find(idea.variant), idea.variant, yaml.safe_load(f"{{{idea.options}}}"))
    file, _, name = idea.oracle.partition("::")
    source = (REPOSITORY / "tests" / "custom_attention" / file).read_text(encoding="utf-8")
    assert f"\ndef {name}(" in source
    assert list((REPOSITORY / "configs" / "attention").glob(f"{idea.variant}*.yaml"))
    others = [path for path in (REPOSITORY / "custom_attention").rglob("*.py") if path != idea.file]
    assert [path.name for path in others if f'"{idea.variant}"' in path.read_text(encoding="utf-8")] == []
