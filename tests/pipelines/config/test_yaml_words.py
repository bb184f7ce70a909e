"""A word that YAML reads as true or false is told as such where a text is meant."""

from __future__ import annotations

import pytest

from pipelines.cli.main import main


@pytest.mark.parametrize("word", ["no", "off", "true"])
def test_norwegian_is_no_false(word, capsys):
    sizes = ["model.architecture=t5", "model.family=encoder_decoder", "data.train=x.jsonl"]
    assert main(["train", "task=translation", f"task.target_language={word}", *sizes, "--out", "none"]) == 2
    assert "write them in quotes" in capsys.readouterr().err
