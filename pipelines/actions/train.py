"""`attnlab train`: run one configuration into its folder, and push it where it says so."""

from __future__ import annotations

from pathlib import Path

from pipelines.config.load import RunConfig
from pipelines.data import counts
from pipelines.distributed.launch import is_first_rank
from pipelines.errors import Interrupted, RunFailed
from pipelines.models import starting_point
from pipelines.publish import push
from pipelines.runs.execute import execute
from pipelines.storage.lock import Busy
from pipelines.storage.run_folder import RunFolder
from pipelines.train.progress import Reporter


def train_command(config: RunConfig, out: str) -> None:
    """`attnlab train`: run the configuration into folder `out`, as the only process or as one rank."""
    reporter = Reporter(enabled=is_first_rank())
    folder = RunFolder(Path(out))
    config = starting_point.pinned_run(config)
    if is_first_rank() and config.hub is not None and folder.manifest() is None:
        push.before_training(config, reporter.say)
    try:
        manifest = execute(config, folder, Path(out).parent / "cache", reporter)
    except Busy as error:
        raise RunFailed(f"{error}; one run folder takes one run at a time") from error
    except Interrupted as error:
        raise Interrupted(
            f"{error}. To go on, start the same command again: it resumes by itself."
        ) from error
    if manifest["train_seconds"]:
        rate = manifest["num_steps"] * config.batch_size / manifest["train_seconds"]
        reporter.say(f"trained on {rate:.3g} examples per second")
    scores = manifest["scores"]
    for split, values in scores.items():
        listed = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
        cut = counts.describe_cuts(manifest["data"]["counts"][split])
        reporter.say(f"{split}: {listed}{cut}")
    reporter.say(f"{manifest['status']}: {folder.path}")
    if is_first_rank() and config.hub is not None and manifest["status"] == "finished":
        push.after_training(config, folder.path)
