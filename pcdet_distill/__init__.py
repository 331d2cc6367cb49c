"""pcdet_distill: OpenPCDet's detectors as their users know them, plus a removable distiller."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec

__version__ = "0.2.0"


class OldModuleFinder:
    """Python asks it for modules of which it finds no file: those of version 0.1 have moved."""

    @staticmethod
    def find_spec(fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec of an old module of this package, None for every other one."""
        if not fullname.startswith(f"{__name__}."):
            return None
        from .moved_modules import find_old_module

        return find_old_module(fullname)


sys.meta_path.append(OldModuleFinder)
