"""Attention diagnostics along a run: what is written, when, and that they change no bit of training."""

from __future__ import annotations

import pytest
import torch

import custom_attention
from pipelines.config.load import RUN_EXECUTION_KEYS
from pipelines.storage.run_folder import RunFolder, read_log
from pipelines.train.attention_log import MOST_FEATURES, MOST_TOKENS, AttentionLog
from tests.pipelines.train.harness import ARCHITECTURES, ToyTagging, fit, prepared, rows, weights


def lines(folder):
    return read_log(folder / "diagnostics.jsonl")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def both(request, tmp_path_factory):
    """The same run looked at after every step, and never."""
    options = {"architecture": request.param, "attention": ["gate"], "max_steps": 7}
    folders = [tmp_path_factory.mktemp(name) for name in ("watched", "unwatched")]
    watched = fit(folders[0], **options, diagnostics_every_steps=1)
    return watched, fit(folders[1], **options, diagnostics_every_steps=None), folders


def test_training_goes_on_bit_for_bit_as_without_it(both):
    watched, unwatched, folders = both
    first, second = weights(watched), weights(unwatched)
    assert all(torch.equal(first[name], second[name]) for name in first)
    logs = [[e | {"seconds": 0} for e in read_log(folder / "metrics.jsonl")] for folder in folders]
    assert logs[0] == logs[1]
    assert not (folders[1] / "diagnostics.jsonl").exists()


def test_there_is_a_record_before_the_first_step_after_each_and_in_the_end(both):
    watched, _, [folder, _] = both
    assert [line["step"] for line in lines(folder)] == [*range(8), watched.state.best_step]
    assert [line["final"] for line in lines(folder)] == [False] * 8 + [True]


def test_the_last_record_is_of_the_chosen_weights(both):
    watched, _, [folder, _] = both
    model = watched.model
    with torch.no_grad():
        again = custom_attention.diagnose(model, watched.attention_log.batch)
    stored = RunFolder(folder).diagnostics()
    assert [site["name"] for site in stored] == [record.site.name for record in again]
    for site, record in zip(stored, again):
        assert site["entropy"] == pytest.approx(record.entropy, rel=1e-5)
        assert site["learned"]["gate.offset"] == pytest.approx(record.learned["gate.offset"], rel=1e-5)
    by_step = {line["step"]: line["sites"] for line in lines(folder) if not line["final"]}
    assert by_step[watched.state.best_step] == stored
    assert by_step[0] != by_step[7]


def test_every_n_steps_means_those_steps(tmp_path):
    fit(tmp_path, max_steps=7, diagnostics_every_steps=3)
    assert [line["step"] for line in lines(tmp_path) if not line["final"]] == [0, 3, 6]


def test_a_run_that_resumes_repeats_no_record_and_leaves_none_out(tmp_path):
    def stop_at_six(training):
        step = training.engine.take_step

        def take_step(plan):
            if training.state.step == 5:
                training.stop.signal_name = "SIGTERM"
            return step(plan)

        training.engine.take_step = take_step

    options = {"diagnostics_every_steps": 2, "checkpoint_every_steps": 4, "eval_every_steps": 100}
    fit(tmp_path / "whole", **options)
    with pytest.raises(BaseException, match="stopped at step 6"):
        fit(tmp_path / "cut", **options, hook=stop_at_six)
    log = tmp_path / "cut" / "diagnostics.jsonl"
    log.write_text(log.read_text() + '{"step": 8, "final": false, "sites": []}\n{"step": 9, "fin')
    fit(tmp_path / "cut", **options)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    assert [line["step"] for line in lines(tmp_path / "cut")] == [0, 2, 4, 6, 8, 10, 12, 12]


def test_it_is_no_part_of_what_a_run_is():
    assert "diagnostics_every_steps" in RUN_EXECUTION_KEYS


def test_the_probe_is_the_first_examples_and_bounded():
    task = ToyTagging()
    examples = rows(20, 2)
    probe = AttentionLog(task, prepared(task, examples), print)
    assert probe.batch["input_ids"].shape[0] == MOST_FEATURES
    assert probe.batch["input_ids"][0, : len(examples[0]["tokens"])].tolist() == examples[0]["tokens"]
    long = [{"id": str(n), "tokens": [1] * 1500, "labels": [1] * 1500} for n in range(5)]
    assert AttentionLog(task, prepared(task, long), print).batch["input_ids"].numel() <= MOST_TOKENS
    longer = [{"id": "0", "tokens": [1] * 5000, "labels": [1] * 5000}]
    assert len(AttentionLog(task, prepared(task, longer), print).batch["input_ids"]) == 1


def test_a_model_whose_weights_cannot_be_known_is_said_once_and_trains_on(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise custom_attention.VariantError("layer.0", "this model has its own `softcap` inside the softmax")

    monkeypatch.setattr(custom_attention, "diagnose", refuse)
    said = []
    training = fit(
        tmp_path,
        max_steps=3,
        diagnostics_every_steps=1,
        hook=lambda t: setattr(t.attention_log, "say", said.append),
    )
    assert training.state.step == 3
    assert len(said) == 1
    assert "softcap" in said[0]
    assert not (tmp_path / "diagnostics.jsonl").exists()
