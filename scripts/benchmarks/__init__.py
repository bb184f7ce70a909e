"""The named benchmarks behind `scripts/bench`: one file each, with a `run() -> Table`."""
