"""Do what every run of an ablation does, once, in their fork server: import, parse sources, compile patterns.

No torch operation may run here: a child forked after a multi-threaded torch operation hangs in its first one.
"""

from __future__ import annotations

from pipelines.runs.quick_imports import quick_imports

with quick_imports():
    import accelerate  # noqa: F401
    import pandas  # noqa: F401 - pyarrow imports it with its first table
    import pyarrow.parquet  # noqa: F401
    import scipy.io  # noqa: F401 - datasets imports it with its first data set
    import seqeval.metrics.sequence_labeling  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoModel, AutoTokenizer  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping
    from transformers.models.bert import modeling_bert, tokenization_bert  # noqa: F401

    import pipelines.metrics.adapter
    import pipelines.runs.execute  # noqa: F401
    from pipelines.runs import identity

    get_checkpoint_conversion_mapping("bert")  # its first call compiles the patterns of all architectures
    identity.read_sources()
