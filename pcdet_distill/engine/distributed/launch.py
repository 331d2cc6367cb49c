"""Start N processes of a tool on this machine.

``python -m pcdet_distill.engine.distributed.launch N tools/train.py ARGS...``

torchrun, less its banner: a tool has said in a sentence what is wrong, and its exit code is passed on.
"""

from __future__ import annotations

import logging
import os
import socket
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from ...processes import available_cores


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def main(arguments: list[str]) -> None:
    """Run ``arguments[1:]`` in ``arguments[0]`` processes."""
    if len(arguments) < 2 or not arguments[0].isdigit() or int(arguments[0]) < 1:
        print("error: usage: launch NUMBER_OF_PROCESSES SCRIPT ARGUMENTS...", file=sys.stderr)
        sys.exit(2)
    count, *command = arguments
    # torchrun's own default is one thread, with a warning of five lines
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // int(count))))
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        run(
            parse_args(
                [
                    "--nproc_per_node",
                    count,
                    "--master_addr",
                    "127.0.0.1",
                    "--master_port",
                    str(free_port()),
                    *command,
                ]
            )
        )
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            print(f"error: process {rank} was ended by signal {-failure.exitcode}", file=sys.stderr)
        sys.exit(failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode)


if __name__ == "__main__":
    main(sys.argv[1:])
