"""Old names go on working for one version, with a warning that names the new place.

A name that has left a module is forwarded by the module's ``__getattr__``::

    __getattr__ = forward_names(__name__, "pcdet_distill.config", ["lookup", "nearest"])
    __getattr__ = forward_names(__name__, __name__, {"initialise_student": "init_student"})

A method calls ``warn_renamed``. Whole modules stand in ``moved_modules.py``.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping


def warn_renamed(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Warn that a name has changed; the warning points at the caller of the renamed function."""
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=stacklevel)


def forward_names(
    old_module: str,
    new_modules: str | Iterable[str],
    names: Mapping[str, str] | Iterable[str] | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Callable[[str], object]:
    """Make the ``__getattr__`` of a module whose names have moved to other modules.

    Args:
        old_module: dotted name of the module that forwards, its ``__name__``.
        new_modules: dotted names of the modules that have the names now; the first that has a name
            gives it. They are imported on first use.
        names: the names to forward. A mapping gives each old name its new one; None forwards
            every name that ``new_modules`` have.
        renamed: names that have changed too, in addition to those of ``names``.
    """
    places = (new_modules,) if isinstance(new_modules, str) else tuple(new_modules)
    only = None if names is None else _new_names(names)
    changed = {**(only or {}), **(renamed or {})}

    def module_getattr(name: str) -> object:
        # Python looks up names such as __path__ during imports: those never move.
        if not name.startswith("__") and (only is None or name in changed):
            new_name = changed.get(name, name)
            for place in places:
                module = importlib.import_module(place)
                if hasattr(module, new_name):
                    warnings.warn(
                        f"{old_module}.{name} is deprecated, use {place}.{new_name}",
                        DeprecationWarning,
                        stacklevel=2,
                    )
                    return getattr(module, new_name)
        raise AttributeError(f"module {old_module!r} has no attribute {name!r}")

    return module_getattr


def _new_names(names: Mapping[str, str] | Iterable[str]) -> dict[str, str]:
    """Old name -> new name."""
    if isinstance(names, Mapping):
        return dict(names)
    return {name: name for name in names}
