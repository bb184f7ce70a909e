"""The run folder: what a run leaves behind, written so that a kill at any instant loses nothing."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.storage import atomic
from pipelines.storage.names import (
    CHECKPOINTS,
    DIAGNOSTICS_LOG,
    IDENTITY,
    MANIFEST,
    METRICS_LOG,
    MODEL,
    PREDICTIONS,
    RUN,
    STATISTICS,
)

SEAL = "seal.json"  # the last file of a checkpoint
SCHEMA_VERSION = 1
# What every reader of a record relies on.
IDENTITY_KINDS = {"numerics": int, "config": dict, "sources": dict}
MANIFEST_KINDS = {
    "status": str,
    "run_hash": str,
    "config": dict,
    "task_state": dict,
    "scores": dict,
    "metrics": dict,
    "primary": str,
    "data": dict,
    "environment": dict,
    "files": dict,
}
WRITTEN_BY_A_RUN = "the file as a run wrote it; without one, train again with --fresh"


class RunFolder:
    """Paths and files of one run. `manifest.json` is written last: where it stands, the run is over."""

    def __init__(self, path: Path, model: Path | None = None) -> None:
        self.path = Path(path)
        self._model = model  # elsewhere than in the folder, for a run from the Hub

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    def newest_step(self) -> int:
        """The step of the newest sealed checkpoint, not verified; 0 without one."""
        names = (seal.parent.name[5:] for seal in self.checkpoints.glob(f"step-*/{SEAL}"))
        return max((int(name) for name in names if name.isdigit()), default=0)

    @property
    def model(self) -> Path:
        return self._model or self.path / MODEL

    @property
    def metrics_log(self) -> Path:
        return self.path / METRICS_LOG

    @property
    def diagnostics_log(self) -> Path:
        return self.path / DIAGNOSTICS_LOG

    # ---- identity
    def identity(self) -> dict[str, Any] | None:
        """What the run in this folder is made of, as `identity.describe` gave it; None in a new folder.

        Raises:
            UserError: something else wrote it, or damaged it.
        """
        return _read_json(self.path / IDENTITY, IDENTITY_KINDS)

    def write_identity(self, identity: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Say what this run is, before anything else is done."""
        self.path.mkdir(parents=True, exist_ok=True)
        atomic.write_yaml(self.path / RUN, dict(config))
        atomic.write_json(self.path / IDENTITY, identity)

    # ---- the logs
    def log(self, event: Mapping[str, Any]) -> None:
        """Append one event to `metrics.jsonl`; a number that is not finite becomes text, as JSON has none."""
        clean = {
            key: (str(value) if isinstance(value, float) and not math.isfinite(value) else value)
            for key, value in event.items()
        }
        _append(self.metrics_log, clean)

    def log_diagnostics(self, step: int, sites: Sequence[Mapping[str, Any]], *, final: bool = False) -> None:
        """Append what attention did after `step` to `diagnostics.jsonl`; `final`: with the chosen weights."""
        _append(self.diagnostics_log, {"step": step, "final": final, "sites": list(sites)})

    def diagnostics(self) -> list[dict[str, Any]]:
        """What attention did in the end, site by site; empty where it was not looked at."""
        if not self.diagnostics_log.exists():
            return []
        text = self.diagnostics_log.read_text(encoding="utf-8")
        try:  # the last line alone: a report reads those of a thousand runs
            last = json.loads(text.rstrip("\n").rpartition("\n")[2])
        except ValueError:  # cut off by a kill
            return []
        return last["sites"] if last["final"] else []

    def rewind_logs(self, step: int | None) -> None:
        """Drop what was logged after `step`, or all of it: the resumed run will make it again."""
        for path in (self.metrics_log, self.diagnostics_log):
            if path.exists():
                lines = [] if step is None else read_log(path)
                kept = [line for line in lines if line["step"] <= step and not line.get("final")]
                atomic.write_bytes(path, "".join(json.dumps(e) + "\n" for e in kept).encode())

    # ---- what the run found
    def write_evaluation(self, split: str, evaluation: Any, inputs: Sequence[Any] = ()) -> None:
        """Predictions as JSON lines and sufficient statistics as parquet, one row per example each.

        `inputs` are what the examples were predicted from, for readers of a report; none where they may not
        be published.
        """
        columns = {"id": evaluation.ids, **({"input": inputs} if inputs else {})}
        columns |= {"prediction": evaluation.predictions, "reference": evaluation.references}
        lines = (
            json.dumps(dict(zip(columns, row)), ensure_ascii=False)
            for row in zip(*columns.values(), strict=True)
        )
        atomic.write_bytes(self.path / PREDICTIONS.format(split), ("\n".join(lines) + "\n").encode())
        write_statistics(self.path / STATISTICS.format(split), evaluation)

    def manifest(self) -> dict[str, Any] | None:
        """The finished run's manifest; None while there is more to do.

        Raises:
            UserError: something else wrote it, or damaged it.
        """
        return _read_json(self.path / MANIFEST, MANIFEST_KINDS)

    def validation_score(self) -> float | None:
        """The score that chose the run's checkpoint, signed so that more is better; None without one."""
        manifest = self.manifest() or {}
        primary = manifest.get("primary")
        score = manifest.get("scores", {}).get("validation", {}).get(primary)
        if score is None:
            return None
        return score if manifest["metrics"][primary]["higher_is_better"] else -score

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, with the hash of every result file: the run is over."""
        files = sorted(
            path
            for pattern in (RUN, "*.jsonl", "statistics.*", f"{MODEL}/*")
            for path in self.path.glob(pattern)
            if path.is_file()
        )
        hashes = {str(path.relative_to(self.path)): atomic.sha256_of(path) for path in files}
        atomic.write_json(
            self.path / MANIFEST, {"schema_version": SCHEMA_VERSION, **manifest, "files": hashes}
        )

    def drop_model(self) -> None:
        """Free the disk of a run whose model nobody asked to keep; its results stay."""
        shutil.rmtree(self.model, ignore_errors=True)


def write_statistics(path: Path, evaluation: Any) -> None:
    """Columns id, cluster and `<metric>.<statistic>` (float64), in example order."""
    import pyarrow
    import pyarrow.parquet

    columns: dict[str, Any] = {"id": list(evaluation.ids), "cluster": list(evaluation.clusters)}
    for name, metric in evaluation.metrics.items():
        for index, statistic in enumerate(metric.columns):
            columns[f"{name}.{statistic}"] = evaluation.statistics[name][:, index]
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    atomic.write_bytes(path, sink.getvalue().to_pybytes())


def _append(path: Path, event: Mapping[str, Any]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Events of a metrics log; a last line cut off by a kill is ignored."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            break
    return events


def _read_json(path: Path, kinds: Mapping[str, type]) -> dict[str, Any] | None:
    """The object in a file, which may be a stranger's, with entries of these kinds; None without a file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:  # no JSON, no text
        raise UserError(str(path), f"cannot be read ({error})", accepted=WRITTEN_BY_A_RUN) from error
    if not isinstance(found, dict):
        raise UserError(str(path), "holds no JSON object", type(found).__name__, WRITTEN_BY_A_RUN)
    for name, kind in kinds.items():
        if not isinstance(found.get(name), kind):
            came = type(found[name]).__name__ if name in found else "nothing"
            raise UserError(str(path), f"has no {kind.__name__} under {name!r}", came, WRITTEN_BY_A_RUN)
    return found
