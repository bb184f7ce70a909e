"""Pictures and sounds: what a model reads of a file, what is refused, and the whole way to a scored run."""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
import transformers
import yaml
from PIL import Image

from pipelines.cli.main import main
from pipelines.corpora import audio_classification as tones
from pipelines.corpora import image_classification as stripes
from pipelines.errors import UserError
from pipelines.tasks.audio_classification import AudioClassification
from pipelines.tasks.image_classification import ImageClassification
from pipelines.tasks.load import load_task

PICTURES = [row | {"id": str(n)} for n, row in enumerate(stripes.generate(20, 0, "train"))]
SOUNDS = [row | {"id": str(n)} for n, row in enumerate(tones.generate(20, 0, "train"))]
VIT = {
    "image_size": 24,
    "patch_size": 8,
    "num_channels": 1,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 29,
}
WAV2VEC2 = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 29,
    "conv_dim": [16, 16, 24],
    "conv_kernel": [10, 8, 8],
    "conv_stride": [5, 8, 8],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def wav(samples: np.ndarray, rate: int) -> bytes:
    """16-bit samples (count, channels)."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(samples.shape[1])
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def pictures(processor=None, rows=PICTURES) -> ImageClassification:
    task = ImageClassification()
    task.fit({"train": rows})
    size = {"height": 24, "width": 24}
    task.bind(
        processor or transformers.ViTImageProcessorPil(size=size, image_mean=[0.5], image_std=[0.5]),
        "encoder",
    )
    return task


def sounds(processor=None, seconds: float = 0.25) -> AudioClassification:
    task = AudioClassification(seconds=seconds)
    task.fit({"train": SOUNDS})
    task.bind(processor or transformers.Wav2Vec2FeatureExtractor(), "encoder")
    return task


# ---- what a model reads
@pytest.mark.parametrize("mode", ["colour", "grey", "palette"])
def test_a_picture_is_what_the_models_own_processor_makes_of_it_in_one_go(mode):
    processor = transformers.ViTImageProcessorPil(size={"height": 17, "width": 23})
    drawn = np.random.default_rng(1).integers(0, 256, (31, 40, 3), dtype=np.uint8)
    image = Image.fromarray(drawn).convert({"colour": "RGB", "grey": "L", "palette": "P"}[mode])
    file = io.BytesIO()
    image.save(file, "PNG")
    task = pictures(processor)
    [feature] = task.prepare([{"id": "a", "image": {"bytes": file.getvalue()}, "label": "rising"}])
    batch = task.collate([feature, feature])
    theirs = processor(images=[image.convert("RGB")], return_tensors="pt")["pixel_values"]
    assert torch.equal(batch["pixel_values"], theirs.expand(2, -1, -1, -1))
    assert batch["labels"].tolist() == [2, 2]  # falling, horizontal, rising, vertical


def test_channels_are_averaged_and_the_rate_is_the_models():
    task = sounds(transformers.Wav2Vec2FeatureExtractor(do_normalize=False))
    time = np.arange(4000) / 8000
    left, right = 9000 * np.sin(2 * np.pi * 440 * time), 3000 * np.sin(2 * np.pi * 440 * time)
    content = wav(np.stack([left, right], axis=1), 8000)
    [feature] = task.prepare([{"id": "a", "audio": {"bytes": content}}])
    heard = task.collate([feature])["input_values"][0].numpy()
    wanted = 6000 / 32768 * np.sin(2 * np.pi * 440 * np.arange(4000) / 16000)
    assert heard.shape == (4000,)
    assert np.abs(heard - wanted)[100:].max() < 2e-3  # the first samples ring
    assert task.counts == {"examples": 1, "examples_cut": 1}  # half a second, of which a quarter is heard


def test_a_short_sound_is_normalised_by_itself_and_filled_with_silence():
    task = sounds(transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True))
    content = wav(np.random.default_rng(0).integers(-9999, 9999, (2000, 1)), 16000)
    [feature] = task.prepare([{"id": "a", "audio": {"bytes": content}}])
    heard = task.collate([feature])["input_values"][0]
    assert abs(heard[:2000].std(correction=0).item() - 1) < 1e-3
    assert not heard[2000:].any()
    assert task.counts["examples_cut"] == 0


def test_a_mask_of_the_feature_extractor_reaches_the_model():
    task = sounds(transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True))
    batch = task.collate(task.prepare(SOUNDS[:3]))
    samples = [len(row["audio"]["bytes"]) - 44 for row in SOUNDS[:3]]  # 2 bytes each, 8 to 16 kHz
    assert batch["attention_mask"].sum(dim=1).tolist() == samples


def test_more_seconds_than_the_model_reads_are_refused():
    short = transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=23)
    assert sounds(short, 0.25).prepare(SOUNDS[:1])[0]["arrays"][0]["shape"] == [23, 32]
    with pytest.raises(UserError, match="longer than what the model's feature extractor reads"):
        sounds(short, 0.5)


@pytest.mark.parametrize("rows", [PICTURES, SOUNDS], ids=["image", "audio"])
def test_batches_change_no_prediction(rows):
    if rows is PICTURES:
        task, kind = pictures(), transformers.ViTForImageClassification
        config = transformers.ViTConfig(**VIT, **task.model_options())
    else:
        extractor = transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=23)
        task, kind = sounds(extractor), transformers.ASTForAudioClassification
        sizes = {name: VIT[name] for name in list(VIT)[3:]}
        config = transformers.ASTConfig(**sizes, max_length=23, num_mel_bins=32, **task.model_options())
    torch.manual_seed(0)
    model = kind(config).eval()
    features = task.prepare(rows[:7])
    with torch.no_grad():
        alone = [task.predict(model, task.collate([feature]))[0] for feature in features]
        together = task.predict(model, task.collate(features))
        summed = task.loss(model, task.collate(features)).item()
    for one, other in zip(alone, together):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
    assert summed == pytest.approx(sum(one["loss"] for one in alone), rel=1e-5)


# ---- what is refused
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"bytes": b"hello", "path": None}, "holds no image: it is in no format that Pillow knows"),
        (
            {"bytes": None, "path": "nowhere.png"},
            "names the image 'nowhere.png', which cannot be read: No such",
        ),
        ({"bytes": None, "path": None}, "holds no image: neither bytes nor a path"),
        ("cat.png", "has an image that is text, not the content of a file"),
        (b"P5", "has an image that is bytes, not the content of a file"),
    ],
)
def test_a_row_without_a_picture_is_refused_with_its_reason(value, reason):
    assert reason in pictures().check({"id": "a", "image": value})


def test_a_row_without_a_sound_is_refused_with_its_reason():
    empty = wav(np.zeros((0, 1)), 8000)
    assert "holds no audio: it has no samples" in sounds().check({"id": "a", "audio": {"bytes": empty}})
    reason = sounds().check({"id": "a", "audio": {"bytes": b"hello"}})
    assert "holds no audio: it is in no format that soundfile knows" in reason


def test_a_picture_that_is_cut_off_is_named_before_training():
    content = png(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8))[:900]
    row = {"id": "seven", "image": {"bytes": content}}
    assert pictures().check(row) is None  # its header is whole
    with pytest.raises(UserError, match=r"example seven: the image is damaged: .*truncated"):
        pictures().prepare([row])


def test_a_processor_that_leaves_sizes_as_they_are_is_refused():
    task = pictures(transformers.ViTImageProcessorPil(do_resize=False))
    with pytest.raises(UserError, match="makes inputs of several sizes"):
        task.prepare([{"id": str(n), "image": {"bytes": png(np.zeros((n, 9), np.uint8))}} for n in (8, 9)])


# ---- the whole way
def write_pictures(folder: Path, split: str, count: int) -> None:
    for number, row in enumerate(stripes.generate(count, 0, split)):
        grey = np.frombuffer(row["image"]["bytes"][-576:], np.uint8).reshape(24, 24)
        place(folder / split / row["label"] / f"{number}.png", png(grey))


def write_sounds(folder: Path, split: str, count: int) -> None:
    for number, row in enumerate(tones.generate(count, 0, split)):
        place(folder / split / row["label"] / f"{number}.wav", row["audio"]["bytes"])


def place(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("task", "model", "write"),
    [
        ("image_classification", {"architecture": "vit", "config": VIT}, write_pictures),
        (
            {"name": "audio_classification", "seconds": 0.25},
            {"architecture": "wav2vec2", "config": WAV2VEC2},
            write_sounds,
        ),
    ],
    ids=["image", "audio"],
)
def test_a_folder_of_files_is_trained_on_evaluated_and_predicted(task, model, write, tmp_path, capsys):
    for split, count in (("train", 24), ("validation", 8)):
        write(tmp_path / "data", split, count)
    settings = {
        "task": task,
        "data": {"name": str(tmp_path / "data")},
        "model": {"family": "encoder", **model},
        "attention": ["gate"],
        "batch_size": 8,
        "num_epochs": 1,
        "device": "cpu",
        "diagnostics_every_steps": None,
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    run = str(tmp_path / "run")
    assert main(["train", str(tmp_path / "run.yaml"), "--out", run]) == 0, capsys.readouterr().err
    assert main(["evaluate", run]) == 0
    assert "as the run reported" in capsys.readouterr().out
    files = sorted((tmp_path / "data" / "validation").rglob("*.*"))
    (tmp_path / "list.txt").write_text("".join(f"{file}\n" for file in files))
    assert main(["predict", run, "--input", str(tmp_path / "list.txt")]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    predictions = (tmp_path / "run" / "predictions.validation.jsonl").read_text().splitlines()
    assert len(answers) == 8
    assert sorted(a["label"] for a in answers) == sorted(json.loads(p)["prediction"] for p in predictions)
    files[0].write_bytes(files[-1].read_bytes())  # other data, so another run
    assert main(["train", str(tmp_path / "run.yaml"), "--out", run]) == 2
    assert "this folder holds another run: config.data.name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "package"), [("image_classification", "pillow"), ("audio_classification", "soundfile")]
)
def test_without_its_decoder_a_task_says_what_to_install(task, package, monkeypatch):
    monkeypatch.setattr("pipelines.tasks.load.find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"{package} is not installed; pip install {package}"):
        load_task(SimpleNamespace(task=SimpleNamespace(name=task, options={})))


def test_a_parquet_file_with_a_broken_picture_stops_with_file_and_row(tmp_path, capsys):
    rows = [{key: row[key] for key in ("image", "label")} for row in PICTURES[:6]]
    rows[4]["image"] = {"bytes": b"no picture", "path": "4.png"}
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    settings = {
        "task": "image_classification",
        "data": {split: str(tmp_path / "train.parquet") for split in ("train", "validation")},
        "model": {"architecture": "vit", "family": "encoder", "config": VIT},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    assert main(["train", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run")]) == 2
    assert "train.parquet, row 5: holds no image at '4.png'" in capsys.readouterr().err
