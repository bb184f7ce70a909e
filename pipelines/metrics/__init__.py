"""The metrics, one file each; `pipelines.metrics.load.load` finds them by file name."""
