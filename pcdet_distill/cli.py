"""The command line: ``pcdet-distill NAME``, the same as ``python -m pcdet_distill NAME``.

Every subcommand is a function here. It imports what it runs when it is called: ``--help`` answers
at once, without loading torch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import __version__
from .commands import PROGRAM
from .config import nearest, project_folder
from .errors import ConfigError, exit_on_user_error

Arguments = Sequence[str] | None


@exit_on_user_error
def train(arguments: Arguments = None, prog: str | None = None) -> None:
    """Train a detector, plain or distilled, and evaluate it."""
    if in_processes("train", arguments):
        return
    from .engine.train import add_train_arguments, run_training

    parser = argparse.ArgumentParser(prog=prog, description=train.__doc__)
    add_processes_argument(parser)
    run_training(add_train_arguments(parser).parse_args(arguments))


@exit_on_user_error
def test(arguments: Arguments = None, prog: str | None = None) -> None:
    """Evaluate one checkpoint, all checkpoints of a training, or a teacher."""
    if in_processes("test", arguments):
        return
    from .engine.evaluate import add_test_arguments, run_testing

    parser = argparse.ArgumentParser(prog=prog, description=test.__doc__)
    add_processes_argument(parser)
    run_testing(add_test_arguments(parser).parse_args(arguments))


@exit_on_user_error
def data(arguments: Arguments = None, prog: str | None = None) -> None:
    """Prepare data: simulate frames, convert your own, or write the info files of a data set."""
    from .apps.create_data import add_data_arguments, run_data

    parser = argparse.ArgumentParser(prog=prog, description=data.__doc__)
    run_data(add_data_arguments(parser).parse_args(arguments))


@exit_on_user_error
def doctor(arguments: Arguments = None, prog: str | None = None) -> None:
    """Say before the training what is wrong with data and yaml, and how to mend it."""
    from .apps.doctor import add_doctor_arguments, run_doctor

    parser = argparse.ArgumentParser(prog=prog, description=doctor.__doc__)
    run_doctor(add_doctor_arguments(parser).parse_args(arguments))


@exit_on_user_error
def demo(arguments: Arguments = None, prog: str | None = None) -> None:
    """Detect objects in point files and draw them from above."""
    from .demo import add_demo_arguments, run_demo

    parser = argparse.ArgumentParser(prog=prog, description=demo.__doc__)
    run_demo(add_demo_arguments(parser).parse_args(arguments))


@exit_on_user_error
def report(arguments: Arguments = None, prog: str | None = None) -> None:
    """Write a page about a run, two runs side by side, or a distillation (--distill)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog=prog, description=report.__doc__)
    if "--distill" in given:
        from .apps.distill_pictures.arguments import add_distill_arguments

        args = add_distill_arguments(parser).parse_args(given)
        from .apps.distill_pictures.command import run_distill_pictures

        run_distill_pictures(args)
        return
    from .apps.run_report.arguments import add_report_arguments

    args = add_report_arguments(parser).parse_args(given)
    from .apps.run_report.command import run_report

    run_report(args)


@exit_on_user_error
def view(arguments: Arguments = None, prog: str | None = None) -> None:
    """Show point clouds and boxes in a browser: writes one HTML file."""
    from .apps.view import add_view_arguments, run_view

    parser = argparse.ArgumentParser(prog=prog, description=view.__doc__)
    run_view(add_view_arguments(parser).parse_args(arguments))


@exit_on_user_error
def export(arguments: Arguments = None, prog: str | None = None) -> None:
    """Export a checkpoint as a network that runs without this package, and check it."""
    from .export.command import add_export_arguments, run_export

    parser = argparse.ArgumentParser(prog=prog, description=export.__doc__)
    run_export(add_export_arguments(parser).parse_args(arguments))


@exit_on_user_error
def study(arguments: Arguments = None, prog: str | None = None, root: Path | None = None) -> None:
    """Compare students and recipes on the same data over several seeds."""
    from .apps.study import main as run_study

    run_study(root or project_folder(), arguments, prog)


@exit_on_user_error
def quickstart(
    arguments: Arguments = None, prog: str | None = None, root: Path | None = None
) -> None:
    """Simulate scenes, train a teacher and two students, compare them."""
    from .apps.quickstart import main as run_quickstart

    run_quickstart(root or project_folder(), arguments, prog)


def add_processes_argument(parser: argparse.ArgumentParser) -> None:
    """``--nproc N``."""
    parser.add_argument(
        "--nproc",
        metavar="N",
        help="run in N processes of this machine; torchrun's --nnodes, --node_rank, "
        "--rdzv_endpoint, --rdzv_backend, --rdzv_id and --max_restarts may stand beside it",
    )


def in_processes(command: str, arguments: Arguments) -> bool:
    """Run a command in N processes when ``--nproc N`` is given, as dist_train.sh does.

    torchrun's options (``--nnodes``, ``--rdzv_endpoint``, ``--max_restarts`` and others) may stand
    beside it.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_processes_argument(parser)
    words = list(sys.argv[1:] if arguments is None else arguments)
    # --set takes the rest of the line.
    end = words.index("--set") if "--set" in words else len(words)
    found, rest = parser.parse_known_args(words[:end])
    if found.nproc is None:
        return False
    if not found.nproc.isdecimal() or int(found.nproc) < 1:
        raise ConfigError(f"--nproc {found.nproc}: expected a number of processes from 1 up")
    from .engine.distributed.launch import launch

    module = ["-m", __package__, command, "--launcher", "pytorch"]
    launch(int(found.nproc), [*module, *rest, *words[end:]])
    return True


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "test": test,
    "data": data,
    "doctor": doctor,
    "demo": demo,
    "report": report,
    "view": view,
    "export": export,
    "study": study,
    "quickstart": quickstart,
}


@exit_on_user_error
def main(arguments: Arguments = None, prog: str = PROGRAM) -> None:
    """Run the subcommand that the first argument names."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(help_text(prog))
        return
    if given[0] == "--version":
        print(f"{PROGRAM} {__version__}")
        return
    name, *rest = given
    if name not in COMMANDS:
        raise ConfigError(f"{prog}: unknown command '{name}'{nearest(name, COMMANDS)}")
    COMMANDS[name](rest, f"{prog} {name}")


def help_text(prog: str) -> str:
    """The subcommands with a line each."""
    lines = [f"usage: {prog} COMMAND ...", "", "commands:"]
    for name, command in COMMANDS.items():
        lines.append(f"  {name:<12}{command.__doc__}")
    lines += ["", f"'{prog} COMMAND --help' lists the flags of a command,"]
    lines += [f"'{prog} --version' prints the version."]
    return "\n".join(lines)
