"""Errors that the user can fix. Their text is one sentence: where, what is wrong, what is expected.

The commands print the sentence and exit with code 2 (``exit_on_user_error``). Code that uses the
library catches ``UserError``. A run that a signal stops in good order has an exit code of its own.
"""

from __future__ import annotations

import errno
import functools
import re
import sys
from collections.abc import Callable
from typing import ParamSpec

Parameters = ParamSpec("Parameters")


class UserError(Exception):
    """Base of every error that the user can fix; any other exception is a bug of this software.

    Its text may quote a file that somebody else wrote. So it shows no control characters, which a
    terminal would obey, and no words of thousands of letters.
    """

    def __str__(self) -> str:
        return LONG_WORD.sub(_shortened, _printable(super().__str__()))


LONG_WORD = re.compile(r"\S{401,}")
SHOWN_OF_A_WORD = 150  # letters at its begin, and as many at its end


def _shortened(word: re.Match[str]) -> str:
    text = word.group()
    return f"{text[:SHOWN_OF_A_WORD]}...{text[-SHOWN_OF_A_WORD:]}"


def _printable(text: str) -> str:
    """The text with escapes in the place of what cannot be printed; lines stay lines."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text
    )


class ConfigError(UserError):
    """A yaml file, key, NAME or ``--set`` value that cannot be used."""


class DataError(UserError):
    """A dataset folder, frame, label, calibration or info file that cannot be used."""


class CheckpointError(UserError):
    """A checkpoint that cannot be read, or does not fit the model."""


class StoppedBySignal(BaseException):
    """A signal asked the run to end, and it has; no error, so ``except Exception`` lets it pass."""


MAX_LINE = 300  # characters; some libraries put the bytes of a damaged file into their message


def first_line(error: BaseException) -> str:
    """The first line of an error's message, cut where it is very long; or the error's type."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    line = lines[0].rstrip(".")
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 3]}..."


# What a disk says that is full, over a quota, read-only or broken: nothing is wrong with the code.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# A path of thousands of letters fails at the first question about it, wherever that is asked.
PATH_ERRORS = (errno.ENAMETOOLONG,)

EXIT_USER_ERROR = 2
EXIT_STOPPED = 75  # "try again later" of sysexits.h: the same command goes on
EXIT_INTERRUPTED = 130  # Ctrl-C, as in a shell


def exit_on_user_error(main: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Decorate a command: what a user can cause becomes one line on stderr and no traceback.

    The exit code is 2 for a UserError, a disk that is full or broken and a path that is too long,
    75 for a run that a signal stopped, 130 after Ctrl-C.
    """

    @functools.wraps(main)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(EXIT_USER_ERROR)
        except OSError as error:
            if error.errno not in (*DISK_ERRORS, *PATH_ERRORS):
                raise
            where = error.filename or "a file"
            sentence = UserError(f"{where}: cannot be read or written ({error.strerror})")
            print(f"error: {sentence}", file=sys.stderr)
            sys.exit(EXIT_USER_ERROR)
        except StoppedBySignal as stopped:
            print(stopped, file=sys.stderr)
            sys.exit(EXIT_STOPPED)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)

    return wrapper
