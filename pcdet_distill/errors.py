"""Errors that the user can fix. Their text is one sentence: where, what is wrong, what is expected.

The commands print the sentence and exit with code 2 (``exit_on_user_error``). Code that uses the
library catches ``UserError``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

Parameters = ParamSpec("Parameters")


class UserError(Exception):
    """Base of every error that the user can fix; any other exception is a bug of this software."""


class ConfigError(UserError):
    """A yaml file, key, NAME or ``--set`` value that cannot be used."""


class DataError(UserError):
    """A dataset folder, frame, label, calibration or info file that cannot be used."""


class CheckpointError(UserError):
    """A checkpoint that cannot be read, or does not fit the model."""


def exit_on_user_error(main: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Decorate a command: a UserError becomes one line on stderr and exit code 2, no traceback."""

    @functools.wraps(main)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    return wrapper
