"""Start N processes of a tool on this machine: ``python -m pcdet_distill.engine.launch N tools/train.py ARGS...``

torchrun, less its banner: a tool has said in a sentence what is wrong, and its exit code is passed on.
"""
from __future__ import annotations

import os
import socket
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from .threads import allowed_cores


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
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, allowed_cores() // int(count))))
    try:
        run(parse_args(["--nproc_per_node", count, "--master_addr", "127.0.0.1", "--master_port", str(free_port()),
                        *command]))
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        sys.exit(code if code > 0 else 128 - code)     # killed by a signal: as a shell says it


if __name__ == "__main__":
    main(sys.argv[1:])
