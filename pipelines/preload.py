"""Imports that every cell needs, done once in the fork server; no torch operation runs here.

A child forked from a process that ran a multi-threaded torch operation hangs in its first own one.
"""

import accelerate  # noqa: F401
import torch  # noqa: F401
from transformers import AutoModel, AutoTokenizer  # noqa: F401
from transformers.models.bert import modeling_bert  # noqa: F401

import pipelines.run  # noqa: F401
