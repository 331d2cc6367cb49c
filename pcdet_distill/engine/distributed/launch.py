"""Start N processes of a tool on this machine.

``python -m pcdet_distill.engine.distributed.launch N tools/train.py ARGS...``

This is torchrun without its banner: the tool has already printed one sentence about what is wrong,
and its exit code is passed on.
"""

from __future__ import annotations

import logging
import os
import socket
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from ...errors import EXIT_STOPPED
from ...processes import available_cores


def main(arguments: list[str]) -> None:
    """Run ``arguments[1:]`` in ``arguments[0]`` processes."""
    if len(arguments) < 2 or not arguments[0].isdigit() or int(arguments[0]) < 1:
        print("error: usage: launch NUMBER_OF_PROCESSES SCRIPT ARGUMENTS...", file=sys.stderr)
        sys.exit(2)
    count, *command = arguments
    # torchrun's own default is one thread, with a warning of five lines.
    threads = max(1, available_cores() // int(count))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    _silence_torchrun()
    options = ["--nproc_per_node", count]
    options += ["--master_addr", "127.0.0.1", "--master_port", str(free_port())]
    # torchrun sends these on to the processes; by itself it leaves out SLURM's warning.
    os.environ.setdefault("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
    try:
        run(parse_args([*options, *command]))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        sys.exit(_exit_code(rank, failure.exitcode))
    except SignalException:
        sys.exit(EXIT_STOPPED)  # every process has said what it saved


def free_port() -> int:
    """A TCP port that no process listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _silence_torchrun() -> None:
    """Turn off the log of torchrun, which repeats a failure as a table with a traceback."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _exit_code(rank: int, exit_code: int) -> int:
    """The exit code of the process that failed first; 128 + N after signal N, as in a shell."""
    if exit_code > 0:
        return exit_code
    if exit_code < 0:
        print(f"error: process {rank} was ended by signal {-exit_code}", file=sys.stderr)
    return 128 - exit_code


if __name__ == "__main__":
    main(sys.argv[1:])
