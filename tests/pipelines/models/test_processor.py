"""A checkpoint without the files of its tokenizer is refused; transformers makes one that knows no words."""

from __future__ import annotations

import pytest
import transformers

from pipelines.config.load import run_from_dict
from pipelines.errors import UserError
from pipelines.models.head_labels import head_labels
from pipelines.models.processor import load_processor
from pipelines.models.tokenizer import train_tokenizer
from pipelines.tasks.load import load_task
from tests.pipelines.tasks.writing import SIZES

CLASSES = {"encoder": "BertTokenizer", "decoder": "GPT2Tokenizer", "encoder_decoder": "T5Tokenizer"}
VOCABULARY = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt")


def run(name, family):
    model = {"name": str(name), "family": family}
    data = {"train": "none.jsonl"}
    return run_from_dict({"task": {"name": "text_classification"}, "data": data, "model": model})


@pytest.fixture(params=CLASSES)
def checkpoint(request, tmp_path):
    """A folder with a model and its tokenizer, and the family."""
    architecture, sizes = SIZES[request.param]
    config = transformers.AutoConfig.for_model(architecture, **{**sizes, "vocab_size": 300})
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "model")
    train_tokenizer(request.param, iter(["a dog sees the house"] * 3), 300).save_pretrained(
        tmp_path / "model"
    )
    return tmp_path / "model", request.param


def load(folder, family):
    config = run(folder, family)
    return load_processor(config, load_task(config))


def test_one_with_its_tokenizer_is_loaded(checkpoint):
    assert load(*checkpoint) is not None


def test_one_without_any_file_of_it_is_refused(checkpoint):
    folder, family = checkpoint
    for file in (*VOCABULARY, "tokenizer_config.json", "special_tokens_map.json"):
        (folder / file).unlink(missing_ok=True)
    with pytest.raises(UserError, match="the folder has no tokenizer"):
        load(folder, family)


def test_one_without_the_vocabulary_is_refused(checkpoint):
    folder, family = checkpoint
    for file in VOCABULARY:
        (folder / file).unlink(missing_ok=True)
    settings = f'{{"tokenizer_class": "{CLASSES[family]}"}}'
    (folder / "tokenizer_config.json").write_text(settings, encoding="utf-8")
    with pytest.raises(UserError, match=r"knows no words|cannot be loaded"):
        load(folder, family)


def test_a_folder_that_is_not_there_is_one_sentence():
    with pytest.raises(UserError) as raised:
        head_labels(run("no/such", "encoder"))
    assert "\n" not in raised.value.sentence()
    assert "give a folder that holds it" in raised.value.sentence()
