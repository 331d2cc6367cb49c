"""Commands in child processes that start in no time: forks of a process that has loaded all.

A fork runs the same ``pcdet-distill`` command as a fresh process. Only the two seconds in which
Python loads its packages are saved, and a fault can be put in place before the command begins.
The undisturbed run, with which all others are compared, is a fresh process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

HANG_SECONDS = 300.0
POLL_SECONDS = 0.002


class Child:
    """A running command.

    Args:
        function: the command, ``pcdet_distill.cli.train`` for instance.
        arguments: of the command.
        output: a path; ``.out`` and ``.err`` are appended for what it prints.
        before: called in the child before the command: puts a fault in place.
    """

    def __init__(
        self,
        function: Callable[[Sequence[str]], None],
        arguments: Sequence[str],
        output: Path,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.out_path = output.with_suffix(".out")
        self.err_path = output.with_suffix(".err")
        for path in (self.out_path, self.err_path):
            path.write_text("")
        sys.stdout.flush()
        sys.stderr.flush()
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._run(function, arguments, before)

    def _run(
        self,
        function: Callable[[Sequence[str]], None],
        arguments: Sequence[str],
        before: Callable[[], None] | None,
    ) -> None:
        """Everything that the child does. It never returns."""
        code = 1
        try:
            os.setsid()
            for path, number in ((self.out_path, 1), (self.err_path, 2)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
            if before is not None:
                before()
            function(arguments)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def has_ended(self) -> bool:
        """Whether the child is gone; its exit code is in ``code``, negative after a signal."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to a child that has not been waited for."""
        if not self.has_ended():
            os.kill(self.pid, number)

    def wait(self, seconds: float = HANG_SECONDS) -> int:
        """The exit code. A child that takes too long is killed, and has the code -9."""
        deadline = time.monotonic() + seconds
        while not self.has_ended():
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
            time.sleep(POLL_SECONDS)
        assert self.code is not None
        return self.code

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Wait for a condition; False if the child ended before it came true."""
        while not condition():
            if self.has_ended():
                return False
            time.sleep(POLL_SECONDS)
        return True

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.out_path.read_text(errors="replace")

    @property
    def errors(self) -> str:
        """What it has written to stderr so far."""
        return self.err_path.read_text(errors="replace")

    @property
    def sentence(self) -> str:
        """The last line of stderr."""
        lines = self.errors.strip().splitlines()
        return lines[-1] if lines else ""

    def spoke_plainly(self) -> bool:
        """Whether it ended with one sentence, and no traceback."""
        has_traceback = "Traceback" in self.errors or "Logging error" in self.errors
        begins = ("error: ", "stopped by ", "interrupted")
        return not has_traceback and self.sentence.startswith(begins)


def run(
    function: Callable[[Sequence[str]], None],
    arguments: Sequence[str],
    output: Path,
    before: Callable[[], None] | None = None,
) -> Child:
    """Run a command in a child to its end."""
    child = Child(function, arguments, output, before)
    child.wait()
    return child
