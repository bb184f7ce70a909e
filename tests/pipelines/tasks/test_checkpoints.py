"""What a published checkpoint reads, learns and writes, against transformers' documented way."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from pipelines.config.load import run_from_dict
from pipelines.errors import UserError
from pipelines.models.build import build_model
from pipelines.models.processor import load_processor
from pipelines.tasks.load import load_task
from tests.pipelines.tasks import checkpoints

pytest.importorskip("sentencepiece")
MOST_NEW = 12
LANGUAGES = {  # source and target in the checkpoint's own codes
    "nllb": ("eng_Latn", "deu_Latn"),
    "mbart50": ("en_XX", "de_DE"),
    "mbart25": ("en_XX", "de_DE"),
    "m2m100": ("en", "de"),
    "marian": ("", ""),
    "marian_separate": ("", ""),
}


@cache
def folder_of(kind: str, root: Path) -> Path:
    if kind == "marian_separate":
        return checkpoints.marian(root / kind, separate=True)
    made: Path = getattr(checkpoints, kind)(root / kind)
    return made


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    return lambda kind: folder_of(kind, root)


def run(folder: Path, family: str = "encoder_decoder", task: str = "translation", **options: Any):
    lengths = {"max_source_len": 40, "max_target_len": 40, "max_new_tokens": MOST_NEW, "prefix": ""}
    return run_from_dict(
        {
            "task": {"name": task, **(lengths if task == "translation" else {}), **options},
            "data": {"train": "none.jsonl"},
            "model": {"name": str(folder), "family": family},
        }
    )


def prepared(config):
    """The task bound to the checkpoint, the batch of all rows, and the model."""
    task = load_task(config)
    task.bind(load_processor(config, task), config.model.family)
    model = build_model(config, task.head, task.processor, task.model_options()).eval()
    return task, task.collate(task.prepare(checkpoints.rows())), model


@torch.no_grad()
@pytest.mark.parametrize("kind", LANGUAGES)
def test_ids_labels_loss_and_greedy_text_are_those_of_transformers(kind, checkpoint):
    source, target = LANGUAGES[kind]
    task, batch, model = prepared(run(checkpoint(kind), source_language=source, target_language=target))
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(checkpoint(kind)).eval()
    codes = {"src_lang": source, "tgt_lang": target} if source else {}
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint(kind), **codes)
    inputs = tokenizer(
        checkpoints.SOURCES, text_target=checkpoints.TARGETS, padding=True, return_tensors="pt"
    )
    lengths = [len(tokenizer(text_target=text)["input_ids"]) for text in checkpoints.TARGETS]
    labels = inputs["labels"]
    for row, length in zip(labels, lengths):
        row[length:] = -100
    assert batch["input_ids"].equal(inputs["input_ids"])
    assert batch["labels"].equal(labels)

    forced = {}
    if source:
        code = tokenizer.convert_tokens_to_ids(f"__{target}__" if kind == "m2m100" else target)
        if kind == "mbart25":
            theirs.config.decoder_start_token_id = code
            forced = {"decoder_start_token_id": code}
        else:
            forced = {"forced_bos_token_id": code}
    loss = theirs(**inputs).loss * sum(lengths)
    torch.testing.assert_close(task.loss(model, batch), loss, rtol=1e-4, atol=1e-4)

    del inputs["labels"]
    written = theirs.generate(**inputs, **forced, num_beams=1, do_sample=False, max_new_tokens=MOST_NEW)
    raws = task.predict(model, batch)
    for raw, ids in zip(raws, written[:, 1:].tolist()):
        end = ids.index(theirs.config.eos_token_id) if theirs.config.eos_token_id in ids else len(ids)
        assert raw["tokens"] == ids[:end]
    if forced.get("forced_bos_token_id"):
        assert {raw["tokens"][0] for raw in raws} == {code}


@pytest.mark.parametrize(
    ("kind", "stated", "message"),
    [
        ("nllb", {}, r"source_language and task.target_language: .*marks every text.*ace_Arab"),
        ("mbart50", {"target_language": "de_DE"}, r"^task.source_language: .*marks every text"),
        (
            "nllb",
            {"source_language": "en", "target_language": "deu_Latn"},
            r"'?en'?\); did you mean eng_Latn",
        ),
        ("nllb", {"source_language": "eng_Latn", "target_language": "zh"}, "zho_Hans or zho_Hant"),
        ("mbart50", {"source_language": "en_XX", "target_language": "German"}, "did you mean de_DE"),
        ("m2m100", {"source_language": "eng", "target_language": "deu_Latn"}, "did you mean en"),
        ("nllb", {"source_language": "eng_Latin", "target_language": "deu_Latn"}, "did you mean eng_Latn"),
        ("marian", {"source_language": "en"}, "no language codes"),
    ],
)
def test_a_language_that_the_tokenizer_does_not_know_is_refused(kind, stated, message, checkpoint):
    config = run(checkpoint(kind), **stated)
    task = load_task(config)
    with pytest.raises(UserError, match=message):
        task.bind(load_processor(config, task), "encoder_decoder")
