"""Write the runs of an ablation as HF Jobs, one job per run; `hf`, the client of the Hub, starts them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import JobHardware

from pipelines.ablation.cell import Cell
from pipelines.config.ablation import HfJobsConfig
from pipelines.errors import UserError
from pipelines.executors.prepared import PreparedExecutor

ATTEMPTS = 4  # of a job that does not end with status 0; each goes on from the newest checkpoint


class HfJobsExecutor(PreparedExecutor):
    """Writes one `hf jobs run` for each run. The bucket with the ablation is mounted here too, or the store.

    Args:
        store: storage URL of the run folders.

    Raises:
        UserError: a setting is missing, the folder is not in the bucket, or there is no such flavor.
    """

    def __init__(self, settings: HfJobsConfig, ablation: Path, store: str | None = None) -> None:
        needed = {"image": settings.image} | ({} if store else {"bucket": settings.bucket})
        super().__init__("hf-jobs", "hf jobs run", ablation, settings.mount, needed, store)
        flavors = [flavor.value for flavor in JobHardware]
        if settings.flavor not in flavors:
            accepted = f"one of {', '.join(flavors)} (hf jobs hardware has their prices)"
            raise UserError("hf_jobs.flavor", "there is no such flavor", settings.flavor, accepted)
        self.settings = settings

    def prepare(self, cells: Sequence[Cell]) -> list[str]:
        """Return the command that starts the job of each cell."""
        return [shlex.join(self._command(cell.folder.name)) for cell in cells]

    def _command(self, run: str) -> list[str]:
        chosen = self.settings
        command = ["hf", "jobs", "run", "--detach", "--flavor", chosen.flavor]
        command += ["--timeout", f"{chosen.minutes}m", "--attempts", str(ATTEMPTS)]
        command += ["--volume", f"hf://buckets/{chosen.bucket}:{chosen.mount}:rw"] if chosen.bucket else []
        command += ["--name", f"attnlab-{run}"]
        command += ["--namespace", chosen.namespace] if chosen.namespace else []
        for name, value in chosen.env.items():
            command += ["--env", f"{name}={value}"]
        for name in chosen.secrets:
            command += ["--secrets", name]  # its value comes from the shell of the command
        assert chosen.image is not None, "checked at the start"
        return [*command, chosen.image, "attnlab", "run-cell", self.address, run]
