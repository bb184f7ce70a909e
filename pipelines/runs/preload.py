"""Import what every run needs, once, in the fork server of an ablation.

No torch operation may run here: a child forked after a multi-threaded torch operation hangs in its first one.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Disable garbage collection in the block, and exclude the objects made in it from later collections.

    Imports make half a million objects that stay alive. Scanning them takes a fifth of the time of the
    imports, and a tenth of a second in each later collection. The garbage that is kept is 9 MiB.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


with without_garbage_collection():
    import accelerate  # noqa: F401
    import pandas  # noqa: F401 - pyarrow imports it with its first table
    import pyarrow.parquet  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoModel, AutoTokenizer  # noqa: F401
    from transformers.models.bert import modeling_bert  # noqa: F401

    import pipelines.runs.execute  # noqa: F401
