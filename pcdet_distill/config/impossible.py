"""A part of an experiment that cannot be built from its block of yaml: one sentence about it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError, UserError, first_line


@contextmanager
def built_from(block: str) -> Iterator[None]:
    """While a part is built from its ``block`` of yaml, whatever goes wrong is a ConfigError.

    Building reads nothing but the block, so a value of it is impossible: three sizes where two are
    expected, a text for a number, filters that need more memory than there is. The message names
    the place in the code, for those who write parts of their own.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        kind = type(error).__name__
        reason = f"{kind}: {first_line(error)}" if str(error).strip() else kind
        raise ConfigError(
            f"{block}: cannot be built from its values ({reason}, in {_place(error)})"
        ) from error


def _place(error: Exception) -> str:
    """File and line of this package, or of another one, where an error came from."""
    calls = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in calls if frame.filename != __file__]
    package = str(Path(__file__).resolve().parents[1])
    own = [frame for frame in frames if frame.filename.startswith(package)] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}"
