"""Packages that only some formats need, and messages that stay one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...extras import import_extra

LONGEST_MESSAGE = 1000


def needed_for(path: Path, module: str) -> Any:
    """The module of a package that only some formats need.

    Raises:
        DataError: it is not installed.
    """
    return import_extra(module, needed_by=f"{path}: reading it", raises=DataError)


@contextmanager
def in_one_line() -> Iterator[None]:
    """A DataError stays one sentence, also when it quotes the names of a damaged file."""
    try:
        yield
    except DataError as error:
        text = "".join(letter if letter.isprintable() else "?" for letter in str(error))
        if len(text) > LONGEST_MESSAGE:
            text = f"{text[:LONGEST_MESSAGE]} ..."
        raise DataError(text) from None
