"""The tokenizer of a pushed model is whole, whatever its files are called."""

from __future__ import annotations

import pytest
import transformers
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from pipelines.models import saving
from pipelines.publish import model_files
from pipelines.storage.names import PROCESSOR_FILES
from tests.pipelines.tasks import checkpoints

TEXTS = ["a dog sees the old house", "Häuser sehen Regen"]


def test_the_files_of_every_tokenizer_of_transformers_are_known():
    classes = [getattr(transformers, name, None) for name in TOKENIZER_MAPPING_NAMES.values() if name]
    files = {name for kind in classes for name in getattr(kind, "vocab_files_names", {}).values()}
    assert len(files) > 20
    assert files <= set(PROCESSOR_FILES)


def test_a_tokenizer_of_several_files_is_pushed_whole(tmp_path):
    pytest.importorskip("sentencepiece")
    checkpoint = checkpoints.marian(tmp_path / "checkpoint")
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(checkpoint)
    saving.save(model, tokenizer, tmp_path / "model", writes=True)
    (tmp_path / "pushed").mkdir()
    model_files.write(tmp_path / "model", tmp_path / "pushed")
    pushed = transformers.AutoTokenizer.from_pretrained(tmp_path / "pushed")
    assert pushed(TEXTS, text_target=TEXTS).data == tokenizer(TEXTS, text_target=TEXTS).data
