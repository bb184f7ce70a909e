"""The manifest of a run has the entries that its type declares."""

from __future__ import annotations

from pipelines.config.load import run_from_dict
from pipelines.runs.environment import Environment
from pipelines.runs.execute import execute
from pipelines.runs.manifest import DataRecord, Manifest, MetricRecord, ProofRecord, read_manifest
from pipelines.storage.run_folder import RunFolder
from pipelines.storage.sealed import DIGEST
from pipelines.train.progress import Reporter
from tests.pipelines.train.harness import REAL


def test_a_run_writes_every_entry_of_the_type_and_no_other(tmp_path):
    folder = RunFolder(tmp_path / "run")
    config = run_from_dict({**REAL, "max_steps": 2})
    returned = execute(config, folder, tmp_path / "cache", Reporter(enabled=False))
    manifest = read_manifest(folder)
    assert (
        manifest.keys() | {"registration"} == Manifest.__annotations__.keys()
    )  # which runs of an ablation have
    assert returned.keys() == manifest.keys() - {"schema_version", "files", DIGEST}
    assert manifest["environment"].keys() == Environment.__annotations__.keys()
    assert manifest["data"].keys() == DataRecord.__annotations__.keys()
    assert manifest["proof"].keys() == ProofRecord.__annotations__.keys()
    for record in manifest["metrics"].values():
        assert record.keys() | {"note"} == MetricRecord.__annotations__.keys()


def test_a_folder_without_a_run_has_none(tmp_path):
    assert read_manifest(RunFolder(tmp_path)) is None
