"""Start N processes of a tool on this machine, or on each of several machines.

``python -m pcdet_distill.engine.distributed.launch N tools/train.py ARGS...``

This is torchrun without its banner: the tool has already printed one sentence about what is wrong,
and its exit code is passed on. torchrun's options for several machines and for restarts may stand
among ARGS; all others belong to the tool.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError, RendezvousTimeoutError
from torch.distributed.run import parse_args, run

from ...errors import EXIT_STOPPED, EXIT_USER_ERROR
from ...processes import available_cores

SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"


def main(arguments: Sequence[str]) -> None:
    """Run ``arguments[1:]`` in ``arguments[0]`` processes."""
    if len(arguments) < 2 or not arguments[0].isdecimal() or int(arguments[0]) < 1:
        print("error: usage: launch NUMBER_OF_PROCESSES SCRIPT ARGUMENTS...", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    count, *command = arguments
    launch(int(count), command)


def launch(count: int, command: Sequence[str]) -> None:
    """Run a script with its arguments (or ``-m`` and a module) in ``count`` processes.

    The exit code is that of the process that failed first.
    """
    options, command = split_options(command)
    # torchrun's own default is one thread, with a warning of five lines.
    threads = max(1, available_cores() // count)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    # torchrun sends these on to the processes; by itself it leaves out SLURM's warning.
    os.environ.setdefault("TORCHELASTIC_SIGNALS_TO_HANDLE", SIGNALS)
    # The agent's store keeps addresses of processes that have ended; a restart would call them.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    _silence_torchrun()
    words = ["--nproc_per_node", str(count), *rendezvous(options), *command]
    try:
        run(parse_args(words))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        sys.exit(_exit_code(rank, failure.exitcode))
    except SignalException:
        sys.exit(EXIT_STOPPED)  # every process has said what it saved
    except RendezvousError as error:
        print(f"error: {_no_rendezvous(words, error)}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def split_options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """torchrun's options among ``arguments``, and what remains."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--nnodes", default="1")
    parser.add_argument("--node_rank")
    parser.add_argument("--rdzv_endpoint")
    parser.add_argument("--rdzv_backend", default="c10d")
    parser.add_argument("--rdzv_id", default="pcdet_distill")
    parser.add_argument("--rdzv_conf")
    parser.add_argument("--max_restarts", default="0")
    parser.add_argument("--master_addr")
    parser.add_argument("--master_port")
    # --set takes the rest of the line; a value there may look like one of these options.
    end = arguments.index("--set") if "--set" in arguments else len(arguments)
    options, rest = parser.parse_known_args(list(arguments[:end]))
    return options, [*rest, *arguments[end:]]


def rendezvous(options: argparse.Namespace) -> list[str]:
    """torchrun's words that say how the processes find each other."""
    words = ["--nnodes", options.nnodes, "--max_restarts", options.max_restarts]
    if options.node_rank is not None:
        words += ["--node_rank", options.node_rank]
    if options.master_addr is not None:  # one machine that all others know, without an agent
        words += ["--master_addr", options.master_addr]
        return [*words, "--master_port", options.master_port or "29500"]
    endpoint = options.rdzv_endpoint
    if endpoint is None and options.nnodes != "1":
        print(
            f"error: --nnodes {options.nnodes}: expected --rdzv_endpoint HOST:PORT of one of the "
            "machines, or --master_addr and --node_rank",
            file=sys.stderr,
        )
        sys.exit(EXIT_USER_ERROR)
    words += ["--rdzv_backend", options.rdzv_backend, "--rdzv_id", options.rdzv_id]
    if options.rdzv_conf is not None:
        words += ["--rdzv_conf", options.rdzv_conf]
    return [*words, "--rdzv_endpoint", endpoint or f"127.0.0.1:{free_port()}"]


def _no_rendezvous(words: Sequence[str], error: RendezvousError) -> str:
    """The sentence when the machines do not meet, at the start or after one of them was lost."""
    if "--rdzv_endpoint" not in words:
        return f"the processes cannot meet ({error})"
    endpoint = words[words.index("--rdzv_endpoint") + 1]
    if isinstance(error, RendezvousTimeoutError):
        reason = "fewer machines than --nnodes asks for came in time"
    else:
        reason = "the machine there does not answer, or is lost"
    return (
        f"--rdzv_endpoint {endpoint}: {reason}; start the same command on all machines, "
        "it goes on from the last checkpoint if there is one"
    )


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
