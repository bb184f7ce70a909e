"""Imports that every run needs: done once in the fork server of an ablation, where no torch operation runs.

A child forked from a process that ran a multi-threaded torch operation hangs in its first own one.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection inside, and none ever of what was made inside.

    Imports make half a million objects that stay: to look through them again and again takes a fifth of the
    time of the imports, and a tenth of a second in each later collection. What is never collected is 9 MiB.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


with uncollected():
    import accelerate  # noqa: F401
    import pandas  # noqa: F401 - pyarrow imports it with its first table
    import pyarrow.parquet  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoModel, AutoTokenizer  # noqa: F401
    from transformers.models.bert import modeling_bert  # noqa: F401

    import pipelines.runs.execute  # noqa: F401
