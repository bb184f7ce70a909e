"""Names of the files and folders that ablations and runs leave on disk."""

from __future__ import annotations

# ---- beside the folders of ablations, which share them
CELLS = "cells"  # the run folders
CACHE = "cache"  # features of the data
LEDGER = "ledger.jsonl"  # every look at a comparison on a test set
LEDGER_LOCK = ".ledger.lock"

# ---- in the folder of an ablation
ABLATION = "ablation.yaml"
REGISTRATION = "registration.json"
ANCHOR = "anchor.json"  # where the digest of the registration was put outside of this folder
STAMP = "anchor.tsr"  # a time stamp by RFC 3161 of that digest
RUNS = "runs.json"  # "cell/arm/seed" -> name of the run folder
SEARCH = "search.json"
RESULTS = "results.json"
REPORT = "report.html"
REPORT_FILES = (REPORT, "report.md", "report.tex", "forest.svg", "results.csv")
REPORTS = "reports.json"  # what rendered the reports, and their hashes
COMPARISON = "comparison.json"  # what is compared after the fact
SIDES = "sides"  # its scored files
TOGETHER = "ablations.json"  # folders of the ablations that one report compares
JOBS = "jobs.json"  # name of a run folder -> id of its Slurm job
KUBERNETES = "kubernetes.yaml"  # the Job of its runs, for kubectl
CANCELLED = "cancelled"  # exists while the ablation is cancelled

# ---- in the folder of a run
RUN = "run.yaml"
IDENTITY = "identity.json"
MANIFEST = "manifest.json"  # written last: the run is over
LOCK = ".lock"
LOG = "log.txt"
FAILURE = "failure.txt"
STARTS = "starts.json"  # starts since the newest checkpoint
METRICS_LOG = "metrics.jsonl"
DIAGNOSTICS_LOG = "diagnostics.jsonl"
PREDICTIONS = "predictions.{}.jsonl"  # of a split
STATISTICS = "statistics.{}.parquet"  # of a split
CHECKPOINTS = "checkpoints"
MODEL = "model"
TRACKERS = "trackers"
HUB = "hub"  # its staged folders, each with the record of its push; an ablation has one too

# ---- in the folder of the checkpoints
CONDITIONS = "conditions.json"
SEAL = "seal.json"  # the last file of a checkpoint

# What transformers and custom_attention write of a model, and of its tokenizer or other processor: nothing
# else of a model's folder is pushed or removed.
WEIGHT_FILES = (
    *("config.json", "generation_config.json", "configuration_*.py", "modeling_*.py"),
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
)
PROCESSOR_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("preprocessor_config.json", "processor_config.json", "chat_template.jinja", "normalizer.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "bpe.codes", "dict.txt", "emoji.json", "entity_vocab.json"),
    *("target_vocab.json", "vocab-src.json", "vocab-tgt.json", "byte_maps.json", "prophetnet.tokenizer"),
    *("word_shape.json", "word_pronunciation.json", "tokenizer.model", "spiece.model", "sentencepiece.model"),
    *("sentencepiece.bpe.model", "spm.model", "spm_char.model", "source.spm", "target.spm"),
)
