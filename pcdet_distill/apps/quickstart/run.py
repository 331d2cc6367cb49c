"""Run the quickstart's steps: print each command, skip complete steps, stop at a failure."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ...errors import UserError
from ...processes import die_with_parent
from ...texts import duration_in_words
from .plan import Step

# Lines of OpenPCDet's long result text.
LONG_RESULT = re.compile(r"AP(_R40)?@[\d., ]+:|^(bbox|bev|3d|aos) +AP:|recall_(roi|rcnn)_")


def run_steps(steps: Sequence[Step], root: Path) -> None:
    """Run every step that is not complete; a step that fails ends the run with a UserError."""
    for number, step in enumerate(steps, start=1):
        print(f"\n== {number}/{len(steps)} {step.title}", flush=True)
        if step.is_complete():
            print(f"   complete already: {shorten(step.results[-1], root)}", flush=True)
            continue
        start = time.monotonic()
        run_step(step, root)
        print(f"   done in {duration_in_words(time.monotonic() - start)}", flush=True)


def run_step(step: Step, root: Path) -> None:
    """Run one step's commands from ``root`` and check that its results exist."""
    commands = step.pending()
    for command in commands:
        print("   $ python " + shlex.join(command), flush=True)
    is_alone = len(commands) == 1
    processes = []
    for command in commands:
        processes.append(start_process(command, root, piped=bool(step.names), is_alone=is_alone))
    try:
        if step.names:
            relay_output(processes, ("",) if is_alone else step.names)
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
    for command, code in zip(commands, codes):
        if code:
            raise UserError(
                "this command failed, its message is above; run again to resume: python "
                + shlex.join(command)
            )
    missing = [shorten(path, root) for path in step.results if not path.exists()]
    if missing:
        raise UserError(f"step '{step.title}' ended without writing {', '.join(missing)}")


def start_process(
    command: Sequence[str], root: Path, *, piped: bool, is_alone: bool
) -> subprocess.Popen[str]:
    """Start a tool with this Python.

    Args:
        piped: its output is read by ``relay_output``.
        is_alone: it may use all cores; otherwise it gets one thread.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if not is_alone:
        environment["OMP_NUM_THREADS"] = "1"
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=root,
        env=environment,
        text=True,
        preexec_fn=begin_session,
        stdout=subprocess.PIPE if piped else None,
        stderr=subprocess.STDOUT if piped else None,
    )


def begin_session() -> None:
    """Let the quickstart alone receive Ctrl-C, and no training outlive a killed quickstart."""
    os.setsid()
    die_with_parent()


def relay_output(processes: Sequence[subprocess.Popen[str]], names: Sequence[str]) -> None:
    """Print the lines of several processes as they come, each after the name of its process."""
    width = max(len(name) for name in names)
    readers = []
    for process, name in zip(processes, names):
        prefix = f"   {name.ljust(width)}{' | ' if name else ''}"
        readers.append(threading.Thread(target=_relay, args=(process, prefix), daemon=True))
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()


def _relay(process: subprocess.Popen[str], prefix: str) -> None:
    for line in process.stdout or ():
        if is_worth_showing(line):
            print(f"{prefix}{line.rstrip()}", flush=True)


def is_worth_showing(line: str) -> bool:
    """Whether to print a line. OpenPCDet's long result text stays in the log file."""
    return bool(line.strip()) and not LONG_RESULT.search(line)


def shorten(path: Path, root: Path) -> str:
    """A path as seen from the checkout."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
