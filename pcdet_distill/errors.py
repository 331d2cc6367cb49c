"""What a user can do wrong, as exceptions whose text is one clear sentence: where, what, what was expected.

The tools print the sentence and exit with code 2 (see ``exit_on_user_error``); a library user catches ``UserError``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable


class UserError(Exception):
    """Base of every error that the user, not the software, can mend."""


class ConfigError(UserError):
    """A yaml file, key path, NAME or --set value that cannot be used."""


class DataError(UserError):
    """A dataset folder, frame, label, calibration or info file that cannot be used."""


class CheckpointError(UserError):
    """A checkpoint that cannot be read, or does not fit the model."""


def exit_on_user_error(main: Callable[..., None]) -> Callable[..., None]:
    """Wrap a tool's ``main``: a UserError becomes one line on stderr and exit code 2, without a traceback."""

    @functools.wraps(main)
    def wrapper(*args, **kwargs) -> None:
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    return wrapper
