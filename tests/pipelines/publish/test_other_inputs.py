"""Models of images, audio and series load as they were trained, with the classes that their cards name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines.cli import main
from tests.pipelines.hub.double import Hub

CONFIGS = Path(__file__).parents[3] / "configs"
MODELS = {  # model file -> task file, what makes it smaller, the lines of its card that load it
    "vit": ("image", "model.config.image_size=24", ("AutoModelForImageClassification", "AutoImageProcessor")),
    "ast": (
        "audio",
        "model.config.max_length=23",
        ("AutoModelForAudioClassification", "AutoFeatureExtractor"),
    ),
    "patchtst": ("forecasting", "num_epochs=1", ("AutoModel.from_pretrained",)),
}


@pytest.mark.parametrize("model", MODELS)
def test_it_loads_in_a_fresh_process_by_the_lines_of_its_card(
    model: str, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    task, smaller, names = MODELS[model]
    files = [CONFIGS / "task" / f"{task}-generated.yaml", CONFIGS / "model" / f"{model}-small-scratch.yaml"]
    run = str(tmp_path / "run")
    few = ["attention=[gate]", "max_steps=2", "device=cpu", "diagnostics_every_steps=null", smaller]
    assert main.main(["train", *map(str, files), *few, "--out", run]) == 0
    assert main.main(["push", run, f"lab/{model}", "--dry-run"]) == 0, capsys.readouterr().err
    assert "loaded in a fresh process, largest difference: trusted 0, registered 0" in capsys.readouterr().out
    [staged] = [path for path in (tmp_path / "run" / "hub").iterdir() if path.is_dir()]
    card = (staged / "README.md").read_text()
    assert all(name in card for name in names)
