"""The command `attnlab`: what can be asked, and how an answer or a mistake leaves the process.

Only the standard library is imported here; each command imports what it needs when it is called, so that
`attnlab --help` answers at once and no torch is loaded to check a YAML file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.errors import Interrupted, RunFailed, UserError, UserErrors

if TYPE_CHECKING:
    from pipelines.config import AblationConfig

EXIT_FAILED, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 75
MOST_LINES = 20  # of mistakes shown at once: one screen


@dataclass(frozen=True)
class Command:
    """One line of the table: how a command is called, what it says of itself, what it does."""

    name: str
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]  # the exit status; None is 0
    example: str


# ---- what a command takes


def _init_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default="ner", help="the task (attnlab ls tasks); default ner")
    parser.add_argument("--model", default="bert", help="bert, gpt2, t5, a Hub id or a folder; default bert")


def _ls_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("variants", "tasks", "metrics", "corpora", "configs", "runs"))
    parser.add_argument(
        "folder", nargs="?", help="for configs and runs: where to look; default configs, runs"
    )


def _settings(parser: argparse.ArgumentParser, files: str) -> None:
    parser.add_argument(
        "settings",
        nargs="+",
        metavar=files,
        help="YAML files, merged left to right, then key.path=value overrides",
    )


def _validate_arguments(parser: argparse.ArgumentParser) -> None:
    _settings(parser, "FILE|key=value")


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    _settings(parser, "FILE|key=value")
    parser.add_argument("--out", metavar="DIR", help="the run folder; default runs/<first file>")
    parser.add_argument("--fresh", action="store_true", help="begin again even if the folder holds this run")
    parser.add_argument("--processes", type=_count, metavar="N", help="ranks on this machine; default: 1")


def _ablate_arguments(parser: argparse.ArgumentParser) -> None:
    _settings(parser, "FILE|key=value")
    parser.add_argument("--out", metavar="DIR", help="the folder of the report; default runs/<file>")
    parser.add_argument("--jobs", type=_count, metavar="N", help="runs side by side; default: one per core")
    parser.add_argument("--fresh", action="store_true", help="run everything again, in folders of its own")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and stop")


def _inspect_arguments(parser: argparse.ArgumentParser) -> None:
    _settings(parser, "FILE|key=value")
    parser.add_argument("--examples", type=_count, default=3, metavar="N", help="inputs to show; default 3")


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the folder of a finished run")
    parser.add_argument("--data", metavar="FILE", help="another file, with the columns of the run's data")
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        help="of the run's data; default: test if it has one",
    )
    parser.add_argument("--predictions", metavar="FILE", help="write one JSON line per example")


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the folder of a finished run")
    parser.add_argument(
        "--input", required=True, metavar="FILE|-", help="data file, or lines of text or JSON; - reads stdin"
    )
    parser.add_argument("--out", metavar="FILE", help="write there; default: standard output")


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="the folder of an ablation")
    parser.add_argument("--watch", action="store_true", help="keep the table up to date until all is over")
    parser.add_argument(
        "--unused", action="store_true", help="list run folders that no ablation beside it names"
    )
    parser.add_argument("--delete", action="store_true", help="with --unused: remove them")


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    _settings(parser, "FILE|key=value")
    parser.add_argument("--pilot", metavar="DIR", help="an ablation with finished runs; default runs/<file>")


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", metavar="DIR", help="folders of ablations")
    parser.add_argument(
        "--out", metavar="DIR", help="where to write; default: the folder itself, if it is one"
    )


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="the folder of an ablation or of a run")


def _reproduce_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="the folder of a finished run or of an ablation")
    parser.add_argument("--out", metavar="DIR", help="where to run it again; default <DIR>-reproduced")
    parser.add_argument("--jobs", type=_count, metavar="N", help="runs side by side; default: one per core")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more (got {text!r})")
    return int(text)


# ---- what a command does


def _init(arguments: argparse.Namespace) -> None:
    from pipelines.starter import starter

    print(starter(arguments.task, arguments.model), end="")


def _ls(arguments: argparse.Namespace) -> None:
    from pipelines.listing import print_listing

    print_listing(arguments.what, arguments.folder)


def _validate(arguments: argparse.Namespace) -> None:
    from pipelines.summary import summary

    files, overrides = _files_and_overrides(arguments.settings)
    print(summary(files, overrides))


def _train(arguments: argparse.Namespace) -> int:
    from pipelines.config import is_ablation, load_run

    files, overrides = _files_and_overrides(arguments.settings)
    for file in files:
        if is_ablation(file):
            raise UserError(file, "is an ablation, not a run", accepted=f"use attnlab ablate {file}")
    if arguments.processes is not None:
        overrides.append(f"processes={arguments.processes}")
    config = load_run(files, overrides)
    out = _out(arguments.out, files)
    from pipelines.launch import is_rank, launch

    if arguments.fresh and not is_rank():
        _remove_run(out)
    if config.processes > 1 and not is_rank():
        # Every rank reads the same settings again; only --fresh must not happen twice.
        again = ["train", *files, *overrides, "--out", out]
        return launch(again, processes=config.processes, threads=config.threads)
    from pipelines.run import train_command

    train_command(config, out)
    return 0


def _remove_run(out: str) -> None:
    """Make way for `--fresh`: remove a run folder, and nothing that is not one."""
    there = os.listdir(out) if os.path.isdir(out) else []
    if there and not {".lock", "run.yaml", "manifest.json"}.intersection(there):
        raise UserError("--fresh", f"{out} is no run folder, so it stays", accepted="choose another --out")
    shutil.rmtree(out, ignore_errors=True)


def _ablate(arguments: argparse.Namespace) -> None:
    config, file = _ablation_of("ablate", arguments.settings)
    out = _out(arguments.out, [file])
    from pipelines.ablation import ablate_command

    ablate_command(config, out, arguments.jobs, arguments.fresh, arguments.dry_run)


def _inspect(arguments: argparse.Namespace) -> None:
    from pipelines.config import is_ablation, load_run

    files, overrides = _files_and_overrides(arguments.settings)
    for file in files:
        if is_ablation(file):
            raise UserError(file, "is an ablation, not a run", accepted="name the files of one of its cells")
    config = load_run(files, overrides)
    from pipelines.inspection import inspect_command

    inspect_command(config, arguments.examples)


def _evaluate(arguments: argparse.Namespace) -> None:
    from pipelines.scoring import evaluate_command

    evaluate_command(arguments.folder, arguments.data, arguments.split, arguments.predictions)


def _predict(arguments: argparse.Namespace) -> None:
    from pipelines.prediction import predict_command

    predict_command(arguments.folder, arguments.input, arguments.out)


def _status(arguments: argparse.Namespace) -> None:
    if arguments.delete and not arguments.unused:
        raise UserError(
            "--delete", "says nothing without --unused", accepted="attnlab status DIR --unused --delete"
        )
    if arguments.unused:
        from pipelines.unused import unused_command

        return unused_command(arguments.folder, delete=arguments.delete)
    from pipelines.status import status_command

    return status_command(arguments.folder, watch=arguments.watch)


def _plan(arguments: argparse.Namespace) -> None:
    config, file = _ablation_of("plan", arguments.settings)
    pilot = arguments.pilot or _out(None, [file], say="looking for a pilot in {} (--pilot names another)")
    from pipelines.plan import plan_command

    plan_command(config, pilot)


def _report(arguments: argparse.Namespace) -> None:
    from pipelines.rebuild import report_command

    report_command(arguments.folders, arguments.out)


def _verify(arguments: argparse.Namespace) -> None:
    from pipelines.verify import verify_command

    verify_command(arguments.folder)


def _reproduce(arguments: argparse.Namespace) -> None:
    from pipelines.reproduce import reproduce_command

    reproduce_command(arguments.folder, arguments.out, arguments.jobs)


def _ablation_of(command: str, settings: Sequence[str]) -> tuple[AblationConfig, str]:
    """The one ablation that a command names, and its file."""
    from pipelines.config import is_ablation, load_ablation

    files, overrides = _files_and_overrides(settings)
    if len(files) != 1:
        raise UserError(command, "takes one ablation file", f"{len(files)} files")
    if not is_ablation(files[0]):
        raise UserError(files[0], "is no ablation: it has no arms", accepted="use attnlab train for one run")
    return load_ablation(files[0], overrides), files[0]


def _files_and_overrides(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments of a command: what holds `=` and is no file is an override."""
    overrides = [text for text in settings if "=" in text and not os.path.exists(text)]
    return [text for text in settings if text not in overrides], overrides


def _out(
    chosen: str | None, files: Sequence[str], say: str = "writing to {} (--out chooses another folder)"
) -> str:
    if chosen:
        return chosen
    name = os.path.splitext(os.path.basename(files[0]))[0]
    out = os.path.join("runs", name)
    print(say.format(out), file=sys.stderr)
    return out


COMMANDS = (
    Command("init", "print a commented YAML file to start from", _init_arguments, _init,
            "attnlab init --task ner --model bert > my.yaml"),
    Command("ls", "list variants, tasks, metrics, corpora, configs or runs", _ls_arguments, _ls,
            "attnlab ls variants"),
    Command("validate", "check run or ablation files and say what they do", _validate_arguments, _validate,
            "attnlab validate configs/quickstart.yaml"),
    Command("inspect", "show what the model will see and what training costs", _inspect_arguments, _inspect,
            "attnlab inspect my.yaml --examples 5"),
    Command("train", "train and score one run", _train_arguments, _train,
            "attnlab train my.yaml seed=2 --out runs/two"),
    Command("ablate", "train arms x seeds, compare them in pairs, write a report", _ablate_arguments, _ablate,
            "attnlab ablate configs/quickstart.yaml --out runs/quickstart"),
    Command("status", "show how the runs of an ablation stand, while they work or later",
            _status_arguments, _status,
            "attnlab status runs/quickstart --watch"),
    Command("plan", "say how many seeds and examples an ablation needs, by a pilot's runs",
            _plan_arguments, _plan,
            "attnlab plan my.yaml --pilot runs/pilot"),
    Command("report", "write the report again from stored statistics", _report_arguments, _report,
            "attnlab report runs/bert runs/gpt2 --out runs/both"),
    Command("verify", "compute every number of a report again, check every file", _verify_arguments, _verify,
            "attnlab verify runs/quickstart"),
    Command("reproduce", "run a run or an ablation again and say what differs",
            _reproduce_arguments, _reproduce,
            "attnlab reproduce runs/quickstart"),
    Command("evaluate", "score a finished run on a split or another file", _evaluate_arguments, _evaluate,
            "attnlab evaluate runs/two --split validation"),
    Command("predict", "one JSON line per input, by a finished run", _predict_arguments, _predict,
            "attnlab predict runs/two --input lines.txt"),
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 (a run failed), 2 (the user can mend it) or 75 (stopped)."""
    arguments = _parse(argv)
    if os.getcwd() not in sys.path:  # a variant of the user's own is found beside their YAML
        sys.path.append(os.getcwd())
    try:
        return arguments.run(arguments) or 0
    except UserErrors as error:
        return _say([one.sentence() for one in error.errors], EXIT_USER)
    except UserError as error:
        return _say([error.sentence()], EXIT_USER)
    except RunFailed as error:
        return _say([str(error)], EXIT_FAILED)
    except Interrupted as error:  # all ranks stop together; the first speaks for them
        from pipelines.launch import is_first_rank

        return _say([str(error)] if is_first_rank() else [], EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        return _say(["interrupted"], 130)
    except BrokenPipeError:  # `attnlab ls variants | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _say(sentences: Sequence[str], status: int) -> int:
    for sentence in sentences[:MOST_LINES]:
        print(sentence, file=sys.stderr)
    if len(sentences) > MOST_LINES:
        print(f"... and {len(sentences) - MOST_LINES} more", file=sys.stderr)
    return status


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; overrides may also stand after options, which argparse alone would refuse."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    strays = [text for text in rest if text.startswith("-") or not hasattr(arguments, "settings")]
    if strays:
        parser.error(f"unknown arguments: {' '.join(strays)}")
    if rest:
        arguments.settings += rest
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attnlab",
        description="Paired attention ablations for BERT, GPT-2 and T5 families, from YAML.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        one = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.summary,
            epilog=f"example: {command.example}",
        )
        command.arguments(one)
        one.set_defaults(run=command.run)
    return parser
