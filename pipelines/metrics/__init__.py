"""Metrics, one file each; `pipelines.metric.load` finds them by file name."""
