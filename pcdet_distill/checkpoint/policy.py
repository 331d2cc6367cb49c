"""How the checkpoints of a run are read; ``load_checkpoint`` follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class ReadingPolicy:
    """What a run accepts, and where it says what it noticed.

    Attributes:
        allow_nonfinite: accept weights with NaN or infinite values (``--allow_nonfinite``).
        note: receives a sentence about a file without a checksum, whose damage cannot be seen.
    """

    allow_nonfinite: bool = False
    note: Callable[[str], None] | None = None


STRICT = ReadingPolicy()
_current: ContextVar[ReadingPolicy | None] = ContextVar("reading_policy", default=None)


def current_policy() -> ReadingPolicy:
    """The policy of the innermost ``reading``; the strict one outside of any."""
    return _current.get() or STRICT


@contextmanager
def reading(policy: ReadingPolicy) -> Iterator[None]:
    """Read checkpoints by ``policy`` for as long as the context lasts."""
    token = _current.set(policy)
    try:
        yield
    finally:
        _current.reset(token)
