"""Old names of the distillation interface. They keep working for one version, with a warning."""

from __future__ import annotations

import warnings


def warn_renamed(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn the caller of the calling function that a name has changed."""
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=stacklevel)
