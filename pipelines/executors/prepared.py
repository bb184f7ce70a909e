"""What executors share that write commands for `--prepare` and run nothing themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.ablation.cell import Cell, OnOutcome, address_of
from pipelines.distributed.stop import StopRequest
from pipelines.errors import UserError


class PreparedExecutor:
    """Refuses to run: another program starts the runs, by the commands that `prepare` returns.

    Args:
        name: of the executor; its settings are a section of the ablation file under this name.
        starter: the program that starts the runs.
        ablation: the ablation's folder, which the runs must see.
        mount: the folder in which the runs see it, unless there is a store.
        needed: settings, of which None is no value.
        store: storage URL of the run folders.

    Raises:
        UserError: a needed setting is missing, or the ablation is not in `mount`.
    """

    at_a_time = None
    when_stopped = "nothing was started"

    def __init__(
        self,
        name: str,
        starter: str,
        ablation: Path,
        mount: str,
        needed: dict[str, str | None],
        store: str | None,
    ) -> None:
        self.name, self.starter, self.ablation = name, starter, ablation.absolute()
        self.address = address_of(self.ablation, store)
        section = name.replace("-", "_")
        for setting, value in needed.items():
            if value is None:
                raise UserError(f"{section}.{setting}", "is not stated", accepted=f"{name} needs it")
        if store is None and not self.ablation.is_relative_to(mount):
            what = "the ablation's folder is not on the volume that the runs mount"
            accepted = f"--out in {mount}, or {section}.mount, or a store"
            raise UserError(f"{section}.mount", what, str(self.ablation), accepted)

    def run(self, cells: Sequence[Cell], *, stop: StopRequest, on_outcome: OnOutcome) -> None:
        """Refuse to run.

        Raises:
            UserError: always.
        """
        what = f"{len(cells)} runs have not ended, and {self.starter} starts them there"
        accepted = "the same command with --prepare prints how"
        raise UserError(f"--executor {self.name}", what, accepted=accepted)
