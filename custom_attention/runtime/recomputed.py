"""Tell whether gradient checkpointing computes a layer again.

Needs only torch: an exported model carries a copy of this file.
"""

from __future__ import annotations

import torch


def runs_again() -> bool:
    """Return whether this is a layer that gradient checkpointing computes again in the backward pass."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1
