"""Signals that end a run: finish the step, write a checkpoint, leave with one sentence.

SIGTERM comes from a cluster or a service manager, SIGINT from the keyboard, SIGUSR1 from SLURM
(``--signal=USR1@120``) some time before the job's end.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import StoppedBySignal

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# A terminal and torchrun both send SIGINT for one Ctrl-C; a user's second one comes later.
SAME_KEYPRESS_SECONDS = 1.0


class StopRequest:
    """Remembers the first signal, while a training must not be interrupted.

    Outside of ``postponed()`` a signal ends the run at once, because nothing is to be saved.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.at_once = "nothing was saved"  # what to say of a run that ends at once
        self._received_at = 0.0
        self._postponed = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals for as long as the context lasts.

        Python lets the main thread alone set handlers; in another thread nothing is handled.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Only remember a signal: the training asks for it after every step."""
        self._postponed = True
        try:
            yield
        finally:
            self._postponed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """The handler of all three signals. A second Ctrl-C ends the run at once."""
        received = signal.Signals(number)
        since_first = time.monotonic() - self._received_at
        again = self.received is not None and since_first > SAME_KEYPRESS_SECONDS
        if not self._postponed or (again and received == signal.SIGINT):
            self._postponed = False
            raise StoppedBySignal(f"stopped by {received.name} at once; {self.at_once}")
        if self.received is None:
            self.received = received
            self._received_at = time.monotonic()
