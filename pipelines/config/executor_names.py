"""The places where the runs of an ablation can be made; the command line names them without pydantic."""

from __future__ import annotations

from typing import Literal

ExecutorName = Literal["local", "slurm", "ray", "kubernetes", "hf-jobs"]
