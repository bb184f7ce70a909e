"""The folder of a run: its files, written so that a kill at any moment loses nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.errors import UserError
from pipelines.storage import atomic, reading
from pipelines.storage.names import (
    CHECKPOINTS,
    DIAGNOSTICS_LOG,
    IDENTITY,
    MANIFEST,
    METRICS_LOG,
    MODEL,
    PREDICTIONS,
    RUN,
    SEAL,
    STATISTICS,
)
from pipelines.storage.records import DiagnosticsEntry, Event, IdentityEntries, ManifestEntries
from pipelines.storage.removal import remove_listed
from pipelines.storage.sealed import require_intact, sealed

if TYPE_CHECKING:
    import numpy as np
    from scipy.sparse import csr_array

SCHEMA_VERSION = 1
# The entries that readers of a record rely on, with their types.
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
WRITTEN_AGAIN = "put it back as the run wrote it, or train again with --fresh"


JsonObject = Mapping[str, object]


class HasColumns(Protocol):
    """A metric, of which storage needs the names of its statistics only."""

    @property
    def columns(self) -> Sequence[str]: ...


class ScoredSplit(Protocol):
    """What is stored of a scored split (`train.evaluate.Evaluation`), in example order."""

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def clusters(self) -> Sequence[str]: ...
    @property
    def predictions(self) -> Sequence[Any]: ...
    @property
    def references(self) -> Sequence[Any]: ...
    @property
    def metrics(self) -> Mapping[str, HasColumns]: ...
    @property
    def statistics(self) -> Mapping[str, np.ndarray | csr_array]: ...  # metric -> (examples, statistics)


def holds_model(folder: Path) -> bool:
    """Return whether a folder holds a model as transformers saves it."""
    return (folder / "config.json").is_file()


class RunFolder:
    """Paths and files of one run. `manifest.json` is written last: a run that has one is finished.

    Args:
        model: the folder of the model, where it is in another: a run from the Hub.
        on_checkpoint: called with the step of each checkpoint that was sealed.
    """

    def __init__(
        self, path: Path, model: Path | None = None, on_checkpoint: Callable[[int], None] | None = None
    ) -> None:
        self.path = Path(path)
        self._model = model
        self.on_checkpoint = on_checkpoint or (lambda step: None)

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    def checkpoint(self, step: int) -> Path:
        """Return the folder of the checkpoint of a step."""
        return self.checkpoints / f"step-{step:08d}"

    def newest_step(self) -> int:
        """Return the step of the newest sealed checkpoint, not verified; 0 without one."""
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
        """Return what `identity.describe` gave for the run in this folder; None in a new folder.

        Raises:
            UserError: the file is damaged, or attnlab did not write it.
        """
        return _read_record(self.path / IDENTITY, IDENTITY_KINDS, IdentityEntries)

    def write_identity(self, identity: JsonObject, config: JsonObject) -> None:
        """Write the identity and the configuration of the run, before anything else is done."""
        self.path.mkdir(parents=True, exist_ok=True)
        atomic.write_json(self.path / IDENTITY, identity)  # first: a run.yaml without it is someone else's
        atomic.write_yaml(self.path / RUN, dict(config))

    # ---- the logs
    def log(self, event: JsonObject) -> None:
        """Append one event to `metrics.jsonl`; a number that is not finite becomes text, as JSON has none."""
        clean = {
            key: (str(value) if isinstance(value, float) and not math.isfinite(value) else value)
            for key, value in event.items()
        }
        _append(self.metrics_log, clean)

    def log_diagnostics(self, step: int, sites: Sequence[JsonObject], *, final: bool = False) -> None:
        """Append the diagnostics of attention after `step`; `final`: of the weights that were chosen."""
        _append(self.diagnostics_log, {"step": step, "final": final, "sites": list(sites)})

    def diagnostics(self) -> list[dict[str, Any]]:
        """Return the diagnostics of attention at the end of the run, by site; empty where none were made.

        Raises:
            UserError: the file is damaged.
        """
        if not reading.is_there(self.diagnostics_log):
            return []
        lines = reading.text(self.diagnostics_log, WRITTEN_AGAIN).split("\n")
        complete = [line for line in lines[:-1] if line]  # what a kill cut off is not complete
        if not complete:
            return []
        where = str(self.diagnostics_log)
        # Only the last line, because a report reads this of a thousand runs.
        last = reading.json_line(complete[-1], where, WRITTEN_AGAIN, DiagnosticsEntry)
        return last["sites"] if last["final"] else []

    def rewind_logs(self, step: int | None) -> None:
        """Drop what was logged after `step` (None: everything): a resumed run logs it again."""
        for path in (self.metrics_log, self.diagnostics_log):
            if reading.is_there(path):
                lines = [] if step is None else read_log(path)
                kept = [line for line in lines if line["step"] <= step and not line.get("final")]
                atomic.write_bytes(path, "".join(json.dumps(e) + "\n" for e in kept).encode())

    # ---- results
    def write_evaluation(self, split: str, evaluation: ScoredSplit, inputs: Sequence[object] = ()) -> None:
        """Write predictions as JSON lines and sufficient statistics as parquet, one row per example each.

        Args:
            inputs: the inputs of the examples, shown in a report; none where they may not be published.
        """
        columns: dict[str, Sequence[object]] = {"id": evaluation.ids, **({"input": inputs} if inputs else {})}
        columns |= {"prediction": evaluation.predictions, "reference": evaluation.references}
        lines = (
            json.dumps(dict(zip(columns, row)), ensure_ascii=False)
            for row in zip(*columns.values(), strict=True)
        )
        atomic.write_bytes(self.path / PREDICTIONS.format(split), ("\n".join(lines) + "\n").encode())
        write_statistics(self.path / STATISTICS.format(split), evaluation)

    def manifest(self) -> dict[str, Any] | None:
        """Return the manifest of the finished run; None while it is not finished.

        Raises:
            UserError: the file is damaged, or attnlab did not write it.
        """
        found = _read_record(self.path / MANIFEST, MANIFEST_KINDS, ManifestEntries)
        if found is not None:
            require_intact(found, self.path / MANIFEST, WRITTEN_AGAIN)
        return found

    def validation_score(self) -> float | None:
        """Return the score that chose the checkpoint, negated where lower is better; None without one."""
        manifest = self.manifest() or {}
        primary = manifest.get("primary")
        score = manifest.get("scores", {}).get("validation", {}).get(primary)
        if score is None:
            return None
        return score if manifest["metrics"][primary]["higher_is_better"] else -score

    def finish(self, manifest: JsonObject) -> None:
        """Write the manifest, with the hash of every result file and its own: the run is finished."""
        files = sorted(
            path
            for pattern in (RUN, "*.jsonl", "statistics.*", f"{MODEL}/*")
            for path in self.path.glob(pattern)
            if path.is_file()
        )
        hashes = {str(path.relative_to(self.path)): atomic.sha256_of(path) for path in files}
        record = sealed({"schema_version": SCHEMA_VERSION, **manifest, "files": hashes})
        atomic.write_json(self.path / MANIFEST, record)

    def drop_model(self) -> None:
        """Delete the files of the model that the manifest lists, to free disk space; all else stays."""
        files = (self.manifest() or {}).get("files", {})
        remove_listed(self.path, {name: None for name in files if name.startswith(f"{MODEL}/")})


def write_statistics(path: Path, evaluation: ScoredSplit) -> None:
    """Write the columns id, cluster and `<metric>.<statistic>` (float64), in example order.

    Sparse statistics are two columns of lists: `<metric>.places` of the statistics that are not 0, counted
    from 0, and `<metric>.values`.
    """
    import pyarrow
    import pyarrow.parquet
    from scipy.sparse import issparse

    columns: dict[str, Any] = {"id": list(evaluation.ids), "cluster": list(evaluation.clusters)}
    for name, metric in evaluation.metrics.items():
        statistics: Any = evaluation.statistics[name]
        if issparse(statistics):
            for part, values in (("places", statistics.indices), ("values", statistics.data)):
                ends = pyarrow.array(statistics.indptr, pyarrow.int64())
                columns[f"{name}.{part}"] = pyarrow.LargeListArray.from_arrays(ends, values)
        else:
            for index, statistic in enumerate(metric.columns):
                columns[f"{name}.{statistic}"] = statistics[:, index]
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    atomic.write_bytes(path, sink.getvalue().to_pybytes())


def _append(path: Path, event: JsonObject) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the events of a log; none where there is none, and a last line that a kill cut off is ignored.

    Raises:
        UserError: the file is damaged.
    """
    return reading.json_lines(path, WRITTEN_AGAIN, Event, cut=True) if reading.is_there(path) else []


def _read_record(path: Path, kinds: Mapping[str, type], entries: type) -> dict[str, Any] | None:
    """Return the object in a file, None without a file; check its entries, as the file may be foreign."""
    found: dict[str, Any] | None = reading.json_object_if_there(path, WRITTEN_BY_A_RUN)
    if found is None:
        return None
    for name, kind in kinds.items():
        if not isinstance(found.get(name), kind):
            came = type(found[name]).__name__ if name in found else "nothing"
            raise UserError(str(path), f"has no {kind.__name__} under {name!r}", came, WRITTEN_BY_A_RUN)
    reading.checked(entries, found, str(path), WRITTEN_BY_A_RUN)
    return found
