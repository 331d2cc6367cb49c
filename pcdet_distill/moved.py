"""Old import paths go on working for one version, with a warning that names the new place.

A module that has moved leaves a file of two lines behind::

    from .moved import forward_names

    __getattr__ = forward_names(__name__, "pcdet_distill.config")

A name that was changed inside a module is forwarded in the same way::

    __getattr__ = forward_names(__name__, __name__, {"initialise_student": "init_student"})
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping


def forward_names(
    old_module: str, new_module: str, names: Mapping[str, str] | Iterable[str] | None = None
) -> Callable[[str], object]:
    """Make the ``__getattr__`` of a module whose names live somewhere else now.

    Args:
        old_module: dotted name of the module that forwards, its ``__name__``.
        new_module: dotted name of the module that has the names now. It is imported on first use.
        names: the names to forward. A mapping gives each old name its new one; None forwards
            every name that ``new_module`` has.
    """
    new_names = _new_names(names)

    def module_getattr(name: str) -> object:
        missing = f"module {old_module!r} has no attribute {name!r}"
        # Python looks up names such as __path__ during imports: those never move.
        if name.startswith("__") or (new_names is not None and name not in new_names):
            raise AttributeError(missing)
        new_name = name if new_names is None else new_names[name]
        module = importlib.import_module(new_module)
        if not hasattr(module, new_name):
            raise AttributeError(missing)
        warnings.warn(
            f"{old_module}.{name} is deprecated, use {new_module}.{new_name}",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(module, new_name)

    return module_getattr


def _new_names(names: Mapping[str, str] | Iterable[str] | None) -> dict[str, str] | None:
    """Old name -> new name."""
    if names is None:
        return None
    if isinstance(names, Mapping):
        return dict(names)
    return {name: name for name in names}
