"""Packages that only some formats need, and messages of errors."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from ...errors import DataError

LONGEST_MESSAGE = 1000
INSTALL = 'pip install "pcdet_distill[readers]"'


def needed_for(path: Path, module: str) -> ModuleType:
    """The module, which the extra ``readers`` installs.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise DataError(
            f"{path}: reading it needs the package {package} ({error}): {INSTALL}"
        ) from None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


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
