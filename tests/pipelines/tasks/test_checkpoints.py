"""What a published checkpoint reads, learns and writes, against transformers' documented way."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from pipelines.config.load import run_from_dict
from pipelines.config.options import check_options
from pipelines.data import features
from pipelines.errors import UserError
from pipelines.models import saving
from pipelines.models.build import build_model
from pipelines.models.decoding import set_aside
from pipelines.models.processor import load_processor
from pipelines.registry import catalog
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


@torch.no_grad()
@pytest.mark.parametrize("kind", [kind for kind, codes in LANGUAGES.items() if all(codes)])
def test_a_saved_model_writes_the_language_of_the_run_without_being_told(kind, checkpoint, tmp_path):
    source, target = LANGUAGES[kind]
    task, batch, model = prepared(run(checkpoint(kind), source_language=source, target_language=target))
    saving.save(model, task.processor, tmp_path / "model", writes=True)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model").eval()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    written = theirs.generate(**inputs, max_new_tokens=MOST_NEW)[:, 1:].tolist()
    end = task.processor.eos_token_id
    raws = [raw["tokens"] for raw in task.predict(model, batch)]
    assert [ids[: ids.index(end)] if end in ids else ids for ids in written] == raws


@pytest.mark.parametrize(
    ("kind", "stated", "message"),
    [
        ("nllb", {}, r"source_language and task.target_language: .*marks every text.*ace_Arab"),
        ("mbart50", {"target_language": "de_DE"}, r"^task.source_language: .*marks every text"),
        (
            "nllb",
            {"source_language": "en", "target_language": "deu_Latn"},
            "did you mean eng_Latn",
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


# ---- how a text is searched
OWN_SEARCH = {"num_beams": 4, "min_length": 9, "no_repeat_ngram_size": 2, "length_penalty": 2.0}


@torch.no_grad()
def test_the_search_is_the_run_s_and_not_the_checkpoint_s(tmp_path):
    plain = prepared(run(checkpoints.bart(tmp_path / "plain")))
    own = prepared(run(checkpoints.bart(tmp_path / "own", **OWN_SEARCH, bad_words_ids=[[7]])))
    texts = [[raw["tokens"] for raw in task.predict(model, batch)] for task, batch, model in (plain, own)]
    assert set_aside(own[2]) == OWN_SEARCH
    assert own[2].generation_config.bad_words_ids == [[7]]
    assert own[2].generation_config.forced_eos_token_id == own[0].processor.eos_token_id
    own[2].generation_config.bad_words_ids = None
    task, batch, model = own
    assert [raw["tokens"] for raw in task.predict(model, batch)] == texts[0]
    assert not any(7 in tokens for tokens in texts[1])


@torch.no_grad()
def test_a_search_that_a_config_of_old_form_states_is_set_aside(tmp_path):
    folder = checkpoints.bart(tmp_path / "old")
    stated = json.loads((folder / "config.json").read_text()) | OWN_SEARCH
    (folder / "config.json").write_text(json.dumps(stated))
    (folder / "generation_config.json").unlink()
    task, batch, model = prepared(run(folder))
    assert set_aside(model) == OWN_SEARCH
    task.predict(model, batch)


@torch.no_grad()
def test_a_preference_that_the_run_states_is_that_of_transformers(tmp_path):
    folder = checkpoints.bart(tmp_path / "bart")
    stated = {"min_length": 9, "no_repeat_ngram_size": 2}
    task, batch, model = prepared(run(folder, generation=stated))
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    written = theirs.generate(**inputs, **stated, num_beams=1, do_sample=False, max_new_tokens=MOST_NEW)
    end = task.processor.eos_token_id
    expected = [ids[: ids.index(end)] if end in ids else ids for ids in written[:, 1:].tolist()]
    assert [raw["tokens"] for raw in task.predict(model, batch)] == expected


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"min_lenght": 3}, "did you mean min_length"),
        ({"min_length": -1}, "whole number, 0 or more"),
        ({"min_length": True}, "whole number"),
        ({"min_length": 99}, "at most 13"),
        ({"min_new_tokens": 13}, "at most 12"),
        ({"num_beams": 4}, "set task.num_beams"),
        ({"max_length": 4}, "set task.max_new_tokens"),
        ({"do_sample": True}, "does not sample"),
        ({"early_stopping": True}, "several beams"),
        ({"repetition_penalty": 0}, "a number above 0"),
    ],
)
def test_a_preference_of_another_name_or_value_is_refused(generation, message):
    """When the task is made, and before: by `validate`, which needs no torch."""
    config = run(Path("none"), generation=generation)
    with pytest.raises(UserError, match=message):
        load_task(config)
    with pytest.raises(UserError, match=message):
        check_options(catalog.find(catalog.TASK, config.task.name), config.task.options, "task")


# ---- decoders
@torch.no_grad()
def test_a_decoder_reads_source_separator_and_target_as_one_text(tmp_path):
    folder = checkpoints.gpt2(tmp_path / "gpt2")
    task, batch, model = prepared(run(folder, "decoder", separator="=>"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert task.processor.pad_token_id == tokenizer.eos_token_id
    for row, (source, target) in enumerate(zip(checkpoints.SOURCES, checkpoints.TARGETS)):
        whole = tokenizer(f"{source} => {target}")["input_ids"] + [tokenizer.eos_token_id]
        assert batch["input_ids"][row, : len(whole)].tolist() == whole
    labels = batch["labels"]
    assert torch.isfinite(task.loss(model, batch))
    alone = tokenizer(" " + checkpoints.TARGETS[0])["input_ids"] + [tokenizer.eos_token_id]
    assert labels[0][labels[0] != -100].tolist() == alone


def test_a_start_token_that_is_missing_is_named_by_its_key(tmp_path):
    folder = checkpoints.bart(tmp_path / "bart")
    stated = json.loads((folder / "config.json").read_text()) | {"decoder_start_token_id": None}
    (folder / "config.json").write_text(json.dumps(stated))
    (folder / "generation_config.json").unlink()
    with pytest.raises(UserError, match=r"set model\.config\.decoder_start_token_id"):
        prepared(run(folder))
    named = run_from_dict(
        {
            **run(folder).to_dict(),
            "model": {
                "name": str(folder),
                "family": "encoder_decoder",
                "config": {"decoder_start_token_id": 1},
            },
        }
    )
    assert prepared(named)[2].config.decoder_start_token_id == 1


def test_features_of_two_tokenizers_without_fast_form_have_two_keys(checkpoint):
    def key(kind: str) -> str:
        source, target = LANGUAGES[kind]
        config = run(checkpoint(kind), source_language=source, target_language=target)
        task = load_task(config)
        task.bind(load_processor(config, task), "encoder_decoder")
        return features.key(task, "translation", {}, "rows")

    assert key("marian") == key("marian")
    assert key("marian") != key("marian_separate")


def test_a_task_that_needs_offsets_refuses_a_tokenizer_without_them(checkpoint):
    config = run(checkpoint("marian"), task="language_modelling")
    task = load_task(config)
    with pytest.raises(UserError, match="no fast form"):
        task.bind(load_processor(config, task), "encoder_decoder")
