"""Names of transformers' TrainingArguments and example scripts answer with the setting and value here."""

from __future__ import annotations

import dataclasses

import pytest
import transformers
import yaml

from pipelines.cli.main import main
from pipelines.config import known_names
from pipelines.config.load import load_run
from pipelines.config.run import RunConfig
from pipelines.errors import UserError

TASKS = {
    "ner": "{name: ner}",
    "qa": "{name: question_answering}",
    "mt": "{name: translation}",
    "text": "{name: text_classification}",
    "lm": "{name: language_modelling}",
}
REST = (
    "data: {train: rows.jsonl, validation: rows.jsonl}\nmodel: {architecture: t5, family: encoder_decoder}\n"
)

# task, what is written, what is the answer: a setting with its value, which must be valid, or words.
SETTINGS = [
    ("ner", "fp16: true", "precision: bfloat16"),
    ("mt", "bf16: true", "precision: bfloat16"),
    ("mt", "bf16: false", "precision: float32"),
    ("ner", "report_to: wandb", "trackers: [wandb]"),
    ("ner", "report_to: [tensorboard, wandb]", "trackers: [tensorboard, wandb]"),
    ("ner", "report_to: none", "trackers: []"),
    ("ner", "hub_model_id: ada/reader", "hub: {repo: ada/reader}"),
    ("ner", "push_to_hub: true", "hub: {repo: ORG/NAME}"),
    ("ner", "metric_for_best_model: eval_f1", "select_by: f1"),
    ("mt", "metric_for_best_model: chrf", "select_by: chrf"),
    ("ner", "save_steps: 250", "checkpoint_every_steps: 250"),
    ("ner", "save_strategy: epoch", "checkpoint_every_steps: null"),
    ("ner", "evaluation_strategy: epoch", "eval_every_steps: null"),
    ("ner", "eval_steps: 40", "eval_every_steps: 40"),
    ("ner", "logging_steps: 5", "log_every_steps: 5"),
    ("ner", "per_device_train_batch_size: 12", "batch_size: 12"),
    (
        "ner",
        "per_device_train_batch_size: 12\ngradient_accumulation_steps: 4\nprocesses: 2",
        "batch_size: 96",
    ),
    ("ner", "per_device_eval_batch_size: 64", "eval_max_tokens: 16384"),
    ("ner", "num_train_epochs: 5.0", "num_epochs: 5"),
    ("ner", "lr_scheduler_type: cosine", "schedule: cosine"),
    ("ner", "lr_scheduler_type: constant_with_warmup", "schedule: constant"),
    ("mt", "label_smoothing_factor: 0.1", "label_smoothing: 0.1"),
    ("ner", "optim: adamw_torch_fused", "optimizer: adamw"),
    ("ner", "optim: adafactor", "optimizer: adafactor"),
    ("ner", "optim: sgd", "optimizer: sgd"),
    ("ner", "attn_implementation: flex_attention", "kernel: flex"),
    ("ner", "use_cpu: true", "device: cpu"),
    ("ner", "no_cuda: true", "device: cpu"),
    ("ner", "data_seed: 9", "seed: 9"),
    ("ner", "full_determinism: true", "deterministic: true"),
    ("ner", "fsdp: full_shard auto_wrap", "sharding: fsdp2"),
    ("ner", "deepspeed: zero3.json", "sharding: fsdp2"),
    ("ner", "max_train_samples: 100", "data: {max_train_examples: 100}"),
    ("ner", "max_eval_samples: 30", "data: {max_validation_examples: 30}"),
    ("ner", "max_predict_samples: 20", "data: {max_test_examples: 20}"),
    ("ner", "model_name_or_path: org/small", "model: {name: org/small}"),
    ("ner", "tokenizer_name: org/words", "model: {tokenizer: org/words}"),
    ("ner", "model_revision: v2", "model: {revision: v2}"),
    ("ner", "dataset_name: org/rows", "data: {name: org/rows}"),
    ("ner", "dataset_config_name: de", "data: {config: de}"),
    ("ner", "train_file: a.csv", "data: {train: a.csv}"),
    ("ner", "validation_file: b.csv", "data: {validation: b.csv}"),
    ("ner", "text_column_name: words", "data: {columns: {tokens: words}}"),
    ("text", "text_column_name: review", "data: {columns: {text: review}}"),
    ("mt", "text_column: article", "data: {columns: {source: article}}"),
    ("ner", "label_column_name: tags_de", "data: {columns: {tags: tags_de}}"),
    ("ner", "max_seq_length: 96", "task: {max_len: 96}"),
    ("mt", "max_seq_length: 96", "task: {max_source_len: 96}"),
    ("lm", "block_size: 96", "task: {max_len: 96}"),
    ("lm", "mlm_probability: 0.3", "task: {hidden_share: 0.3}"),
    ("qa", "doc_stride: 60", "task: {overlap: 60}"),
    ("qa", "max_answer_length: 12", "task: {max_answer_len: 12}"),
    ("qa", "n_best_size: 3", "task: {n_best: 3}"),
    ("qa", "version_2_with_negative: true", "task: {unanswerable: true}"),
    ("mt", "max_source_length: 64", "task: {max_source_len: 64}"),
    ("mt", "max_target_length: 64", "task: {max_target_len: 64}"),
    ("mt", "val_max_target_length: 70", "task: {max_new_tokens: 70}"),
    ("mt", "source_prefix: 'to German: '", "task: {prefix: 'to German: '}"),
    ("mt", "source_lang: eng_Latn", "task: {source_language: eng_Latn}"),
    ("mt", "target_lang: deu_Latn", "task: {target_language: deu_Latn}"),
    ("mt", "num_beams: 4", "task: {num_beams: 4}"),
    ("mt", "generation_num_beams: 4", "task: {num_beams: 4}"),
    ("ner", "lora_r: 4", "lora: {rank: 4}"),
]
WORDS = [
    ("ner", "fp16: false", "leave it out"),
    ("ner", "gradient_accumulation_steps: 4", "batch_size counts the examples of a whole step"),
    ("ner", "resume_from_checkpoint: runs/one/checkpoint-50", "the same command with the same --out resumes"),
    ("ner", "dataloader_num_workers: 4", "prepared once"),
    ("ner", "load_best_model_at_end: true", "select_by names the metric"),
    ("ner", "save_total_limit: 2", "two newest checkpoints and the best are kept"),
    ("ner", "save_strategy: 'no'", "a stopped run resumes from its checkpoints"),
    ("ner", "evaluation_strategy: no", "validation chooses the checkpoint"),
    ("ner", "evaluation_strategy: steps", "write eval_every_steps (steps between two evaluations"),
    ("ner", "group_by_length: true", "inputs of similar length"),
    ("ner", "torch_compile: true", "compiled models were slower"),
    ("ner", "output_dir: out/one", "write --out out/one"),
    ("ner", "overwrite_output_dir: true", "write --fresh"),
    ("ner", "do_train: true", "attnlab train does it"),
    ("mt", "predict_with_generate: true", "scored on what the model generates"),
    ("ner", "num_beams: 4", "this task has none (task.num_beams)"),
    ("ner", "metric_for_best_model: eval_loss", "write select_by (a metric of the task: f1, f1_strict)"),
    ("ner", "report_to: mlflow", "tensorboard, trackio, wandb"),
    ("ner", "optim: lion", "adamw, adafactor, sgd, muon"),
    ("ner", "num_train_epochs: 2.5", "write num_epochs (passes over the train split)"),
    ("ner", "max_steps: -1", "write max_steps: null"),
    ("ner", "warmup_steps: 0.1", "warmup_ratio"),
]


def refusal(tmp_path, task: str, written: str, overrides=()) -> str:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "run.yaml").write_text(f"{written}\ntask: {TASKS[task]}\n{REST}")
    with pytest.raises(UserError) as refused:
        load_run([str(tmp_path / "run.yaml")], overrides)
    errors = getattr(refused.value, "errors", [refused.value])
    assert len(errors) == 1 + ("gradient_accumulation_steps" in written and "batch" in written), errors
    return errors[0].sentence()


@pytest.mark.parametrize(("task", "written", "right"), SETTINGS)
def test_a_known_name_answers_with_the_setting_and_the_value_here(task, written, right, tmp_path):
    said = refusal(tmp_path, task, written)
    assert "run.yaml:1: " in said
    assert f"write {right}" in said, said
    after = said.split(f"write {right}")[1]
    assert after[0] in ". (", f"the value goes on: {said}"
    yaml.safe_load(right)


@pytest.mark.parametrize(("task", "written", "right"), WORDS)
def test_what_has_no_setting_or_value_here_says_why(task, written, right, tmp_path):
    assert right in refusal(tmp_path, task, written)


def test_there_are_sixty_names():
    assert len({written.split(":")[0] for _, written, _ in SETTINGS + WORDS}) >= 60


@pytest.mark.parametrize(("task", "written", "right"), SETTINGS)
def test_what_the_answer_says_is_accepted(task, written, right, tmp_path):
    """Written as it says, no mistake is left (but those of a source beside another, or of no such files)."""
    (tmp_path / "rows.jsonl").write_text("{}\n")
    first, value = next(iter(yaml.safe_load(right).items()))
    text = yaml.safe_load(f"task: {TASKS[task]}\n{REST}")
    section = text.get(first)
    text[first] = {**section, **value} if isinstance(section, dict) else value
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(text))
    try:
        load_run([str(tmp_path / "run.yaml")])
    except UserError as refused:
        for error in getattr(refused, "errors", [refused]):
            allowed = ("exclude each other", "there is no file", "lora adapts", "no model of family")
            allowed += ("a tokenizer trained on the data has no language codes",)
            assert any(words in error.sentence() for words in (*allowed, "fsdp2 shares")), error.sentence()


def test_every_training_argument_of_the_installed_transformers_is_known():
    names = {field.name for field in dataclasses.fields(transformers.Seq2SeqTrainingArguments)}
    unknown = {name for name in names if known_names.row_of(name) is None}
    assert unknown - set(RunConfig.model_fields) == set()


def test_every_row_leads_to_a_setting_or_gives_a_reason():
    for rows in known_names.table().values():
        for name, row in rows.items():
            assert row.write or row.flag or row.note, name
            for path in row.write:
                if path[0] == "task" or path[:2] == ("data", "columns"):
                    continue
                found = known_names.field_at(RunConfig, path)
                assert found is not None, (name, path)
            assert "there is none" not in row.note or not row.write, name


def test_the_page_is_that_of_the_table():
    written = known_names.PAGE.read_text(encoding="utf-8")
    assert written == known_names.page(), "run python -m pipelines.config.known_names"


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        (["bf16=true"], "bf16=true: unknown key 'bf16'; write precision=bfloat16."),
        (["report_to=wandb"], "write 'trackers=[wandb]'"),
        (["data.max_train_samples=9"], "unknown key 'max_train_samples' in data; write data.max_train_ex"),
        (["task.max_seq_length=33"], "unknown option 'max_seq_length' of task ner; write task.max_len=33"),
        (["--bf16"], "--bf16: is a setting, and settings have no dashes; write precision=bfloat16."),
        (["--seed", "3"], "--seed: is a setting, and settings have no dashes; write seed=3."),
        (["--learning-rate=3e-4"], "write learning_rate=3e-4."),
        (["--task.max_len", "31"], "write task.max_len=31."),
        (["--model.config.hidden_size", "48"], "write model.config.hidden_size=48."),
        (["--train_file", "rows.csv"], "write data.train=rows.csv."),
        (["--output_dir", "out"], "write --out out on the command line."),
    ],
)
def test_the_command_line_answers_as_the_file_does(arguments, right, capsys):
    settings = ["task=ner", "data.generated={name: ner, train: 9, validation: 9}"]
    assert main(["validate", *settings, "model={architecture: bert, family: encoder}", *arguments]) == 2
    assert right in capsys.readouterr().err


ABLATION = """\
cells: {small: [{task: ner, data: {generated: {name: ner, train: 9, validation: 9}},
                 model: {architecture: bert, family: encoder}}]}
arms: {stock: [], gate: [gate]}
seeds: [1, 2, 3]
margin: {f1: 0.5}
"""


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        (["fp16=true"], "fp16=true: unknown key 'fp16'; write set.precision=bfloat16"),
        (["set.fp16=true"], "set.fp16=true: unknown key 'fp16'; write set.precision=bfloat16"),
        (["--num_train_epochs", "2"], "write set.num_epochs=2."),
        (["--num_epochs", "2"], "write set.num_epochs=2."),
        (["--margin.f1", "2"], "write margin.f1=2."),
        (["--seed", "3"], "write 'seeds=[1, 2, 3]'."),
    ],
)
def test_in_an_ablation_the_answer_is_a_setting_of_its_cells(arguments, right, tmp_path, capsys):
    (tmp_path / "two.yaml").write_text(ABLATION)
    assert main(["ablate", str(tmp_path / "two.yaml"), *arguments, "--dry-run"]) == 2
    assert right in capsys.readouterr().err


def test_a_run_of_overrides_alone_needs_a_folder(capsys):
    assert main(["train", "task=ner"]) == 2
    assert capsys.readouterr().err == "--out: no file gives the folder its name; write --out DIR.\n"


def test_an_option_that_nobody_knows_is_refused_as_before(capsys):
    with pytest.raises(SystemExit):
        main(["train", "run.yaml", "--zzz", "3"])
    assert "unknown arguments: --zzz" in capsys.readouterr().err
