"""Tiny runs of every task, and changes of their settings drawn at random, to test what starts a run."""

from __future__ import annotations

import json
import random
import re

from pipelines.config.model_entries import class_entries
from pipelines.config.run import RunConfig
from pipelines.registry import catalog, option_types

BERT = (
    "model.architecture=bert model.family=encoder model.vocab_size=300 model.config.hidden_size=16 "
    "model.config.num_hidden_layers=1 model.config.num_attention_heads=2 model.config.intermediate_size=24"
)
GPT2 = (
    "model.architecture=gpt2 model.family=decoder model.vocab_size=300 model.config.n_embd=16 "
    "model.config.n_layer=1 model.config.n_head=2"
)
T5 = (
    "model.architecture=t5 model.family=encoder_decoder model.vocab_size=300 model.config.d_model=16 "
    "model.config.d_kv=8 model.config.num_layers=1 model.config.num_heads=2 model.config.d_ff=24"
)
SIZES = (
    "model.config.hidden_size=16 model.config.num_hidden_layers=1 model.config.num_attention_heads=2 "
    "model.config.intermediate_size=24"
)
TASKS = {
    "ner": BERT,
    "text_classification": GPT2,
    "question_answering": f"{BERT} task.max_len=64 task.overlap=16",
    "language_modelling": f"{GPT2} task.max_len=32 task.overlap=8",
    "summarization": f"{T5} task.max_source_len=32 task.max_target_len=8",
    "translation": f"{GPT2} task.max_source_len=24 task.max_target_len=12 task.target_language=de",
    "generative_question_answering": f"{T5} task.max_source_len=48 task.max_target_len=8",
    "image_classification": (
        f"model.architecture=vit model.family=encoder {SIZES} model.config.image_size=24 "
        "model.config.patch_size=8"
    ),
    "audio_classification": (
        "model.architecture=audio-spectrogram-transformer model.family=encoder "
        f"{SIZES} model.config.max_length=23 task.seconds=0.25"
    ),
    "forecasting": (
        "model.architecture=patchtst model.family=encoder model.config.d_model=16 "
        "model.config.num_hidden_layers=1 model.config.num_attention_heads=2 model.config.ffn_dim=24 "
        "model.config.patch_length=8 model.config.patch_stride=8 "
        "task.channels=[load,heat] task.context_len=32 task.horizon=4 "
        "data.generated.train=80 data.generated.validation=60"
    ),
}
CORPORA = {"generative_question_answering": "question_answering"}  # else by the name of the task

# Values of every kind; nothing so large that a machine of the size of a laptop ends in it.
VALUES = (
    *(0, 1, -1, 2, 3, 7, 64, 300, 511, 4096, 0.0, 0.5, 1.0, -0.5, 1e-300, 1e300, True, False, None),
    *("", "x", "auto", "none", "stock", "0", " ", "\u202e", "é", "nan", "inf", "../x", "en", "de"),
    *([], [1], ["x"], ["gate"], [None], [[]], {}, {"a": 1}, {"name": "gate"}),
)
NOT_HERE = {"hub", "processes", "threads", "trackers", "data", "model", "task", "where", "lora", "sharding"}
NESTED = {
    "data": ("max_train_examples", "max_validation_examples", "encoding", "streaming", "on_bad_row", "split"),
    "data.columns": ("text", "words", "id", "label", "x"),
    "data.generated": ("seed", "test", "options"),
    "model": ("vocab_size", "family", "tokenizer", "architecture"),
    "model.config": (
        *("hidden_act", "num_attention_heads", "hidden_size", "max_position_embeddings", "pad_token_id"),
        *("vocab_size", "n_head", "n_positions", "num_heads", "d_kv", "tie_word_embeddings", "is_decoder"),
        *("layer_norm_eps", "hidden_dropout_prob", "patch_size", "image_size", "type_vocab_size", "x"),
    ),
    "where": ("kind", "stack", "layers"),
    "lora": ("rank", "alpha", "dropout", "targets"),
}

# What `validate` says that it does not read, and the first words of what train says of it.
NOT_READ = {
    "refused for the data": ("data.", "row ", "example ", "task.channels", "task.labels", "generated corpus"),
    "refused for the model": ("model", "attention", "freeze: no parameter"),
    "refused for the machine": ("device: no CUDA", "metric bleu, tokenizer "),  # what is not installed
    "refused for lengths": ("task.max_", "task.overlap", "task.context_len", "task.seconds"),
    "refused for the tokenizer": ("task.source_language", "task.target_language"),
}


def why_refused(said: str) -> str | None:
    """Return what validate does not read, by the sentence of train; None for what it could have told."""
    return next((why for why, begins in NOT_READ.items() if said.startswith(begins)), None)


def settings(task: str) -> list[str]:
    """Return the settings of one step of a tiny run of a task."""
    corpus = CORPORA.get(task, task)
    data = f"data.generated.name={corpus} data.generated.train=12 data.generated.validation=4"
    own = f"task.name={task} {data} {TASKS[task]} batch_size=4 max_steps=1 device=cpu attention=[gate]"
    return own.split()


def options(task: str) -> dict[str, object]:
    """Return the keys of a task's options with their types."""
    entry = catalog.find(catalog.TASK, task)
    assert entry is not None
    return {f"task.{option.name}": option.hint for option in entry.options}


def entries(task: str) -> dict[str, object]:
    """Return the keys of every entry of its model's config with their types."""
    [architecture] = (one.split("=")[1] for one in TASKS[task].split() if one.startswith("model.arch"))
    known = class_entries(architecture) or {}
    return {f"model.config.{name}": known[name].hint for name in sorted(known)}


def corpus_options(task: str) -> dict[str, object]:
    """Return the keys of the options of its corpus with their types."""
    corpus = catalog.find(catalog.CORPUS, CORPORA.get(task, task))
    assert corpus is not None
    return {f"data.generated.options.{option.name}": option.hint for option in corpus.options}


def run_keys() -> dict[str, object]:
    """Return the keys of a run that stand at the top, with their types."""
    fields = RunConfig.model_fields
    return {key: fields[key].annotation for key in sorted(set(fields) - NOT_HERE)}


def value_for(hint: object, draw: random.Random) -> object:
    """Return any value, more often one of the type."""
    fitting = [value for value in VALUES if option_types.fits(value, hint)]
    fitting += option_types.choices(hint)
    return draw.choice(fitting) if fitting and draw.random() < 0.8 else draw.choice(VALUES)


def variant_change(draw: random.Random) -> str:
    """Return an attention of one variant, with any value for one of its options."""
    variant = catalog.find(catalog.VARIANT, draw.choice(catalog.names(catalog.VARIANT)))
    assert variant is not None
    given = {one.name: value_for(one.hint, draw) for one in variant.options if draw.random() < 0.6}
    return f"attention={json.dumps([{variant.name: given}])}"


def mutated(task: str, draw: random.Random) -> list[str]:
    """Return such settings with one or two of them changed to any value."""
    nested = {f"{group}.{name}": object for group, names in NESTED.items() for name in names}
    groups = [options(task), options(task), run_keys(), nested, entries(task), corpus_options(task)]
    changes = []
    for _ in range(draw.randint(1, 2)):
        if draw.random() < 0.15:
            changes.append(variant_change(draw))
            continue
        group = draw.choice([group for group in groups if group])
        key = draw.choice(list(group))
        changes.append(f"{key}={json.dumps(value_for(group[key], draw))}")
    return [*settings(task), *changes]


ODD = [
    *("x" * 300, "/" + "b/" * 3000, "~nobody-of-this-name/x", "9" * 30, "-" + "9" * 25, "7" * 5000, "1e999"),
    *('"a\\0b"', '"\\ud800"', '"\\e[31m"', "[" * 70 + "]" * 70, "{a: " * 70 + "1" + "}" * 70, "&a [*a]"),
    *("!!set {a}", "~", ".nan", "2001-01-01", "hub:a/b", '"x[99999999999999999999:]"', "", "[]", "{}", "-1"),
    *("file.csv[::]", ".", "..", "/", "'", "? [a]", "<<", "\t", "\x1b", "true", "1.5", "[1, [2]]", "|", "> "),
]


def mutated_text(text: str, draw: random.Random) -> str:
    """Return a YAML text with one or two of its values, or any place, replaced."""
    for _ in range(draw.randint(1, 2)):
        odd = draw.choice([*ODD, *map(json.dumps, VALUES)])
        values = [match.span(1) for match in re.finditer(r"(?:: |- )(.+)", text)]
        start, end = draw.choice(values) if values and draw.random() < 0.7 else (0, 0)
        if end == 0:
            start = draw.randrange(len(text) + 1)
            end = min(len(text), start + draw.randint(0, 8))
        text = text[:start] + odd + text[end:]
    return text
