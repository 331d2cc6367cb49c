"""Run the quickstart's steps one after the other: print each command, skip what is complete, pass failures on."""

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
from .plan import Step

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
        print(f"   done in {duration(time.monotonic() - start)}", flush=True)


def run_step(step: Step, root: Path) -> None:
    """Run one step's commands from ``root``, side by side when there are several, and check that it got its results."""
    commands = step.pending()
    for command in commands:
        print("   $ python " + shlex.join(command), flush=True)
    processes = [
        start_process(command, root, relayed=bool(step.names), alone=len(commands) == 1)
        for command in commands
    ]
    try:
        if step.names:
            relay_output(processes, step.names if len(commands) > 1 else ("",))
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
    failed = [shlex.join(command) for command, code in zip(commands, codes) if code]
    if failed:
        raise UserError(
            f"this command failed, its message is above; run again to go on: python {failed[0]}"
        )
    missing = [shorten(path, root) for path in step.results if not path.exists()]
    if missing:
        raise UserError(f"step '{step.title}' ended without writing {', '.join(missing)}")


def start_process(
    command: Sequence[str], root: Path, *, relayed: bool, alone: bool
) -> subprocess.Popen:
    """Start a tool with this Python. One that does not run alone takes one thread; a relayed one is read by a pipe."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if not alone:
        environment["OMP_NUM_THREADS"] = "1"
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=root,
        env=environment,
        text=True,
        preexec_fn=begin_session,
        stdout=subprocess.PIPE if relayed else None,
        stderr=subprocess.STDOUT if relayed else None,
    )


def begin_session() -> None:
    """Ctrl-C is the quickstart's to answer; and a training never outlives a killed one."""
    os.setsid()
    die_with_parent()


def relay_output(processes: Sequence[subprocess.Popen], names: Sequence[str]) -> None:
    """Print what the processes say, line by line as it comes, each with the name of its process."""
    width = max(map(len, names))

    def relay(process: subprocess.Popen, name: str) -> None:
        for line in process.stdout or ():
            if is_worth_showing(line):
                print(f"   {name.ljust(width)}{' | ' if name else ''}{line.rstrip()}", flush=True)

    readers = [
        threading.Thread(target=relay, args=pair, daemon=True) for pair in zip(processes, names)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()


def is_worth_showing(line: str) -> bool:
    """Whether a newcomer needs a line: OpenPCDet's long result text is in the log file, the compact table is enough."""
    return bool(line.strip()) and not LONG_RESULT.search(line)


def shorten(path: Path, root: Path) -> str:
    """A path as seen from the checkout."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def duration(seconds: float) -> str:
    """``75`` as ``1 min 15 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
