"""Your own classes, named in a yaml file by their import path: where they may come from.

To import a module runs its code, and a yaml file may come from anybody. So a module is imported
only when its package is installed, when it lies in a folder that the user has named (``--plugin
DIR``, or the environment variable PCDET_DISTILL_PLUGINS), or when the program has imported it
already.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import site
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from ..errors import ConfigError, StoppedBySignal

VARIABLE = "PCDET_DISTILL_PLUGINS"


def add_plugin_folders(folders: Sequence[str]) -> None:
    """Allow modules of these folders, in this process and in those that it starts."""
    for folder in folders:
        if not Path(folder).is_dir():
            raise ConfigError(f"--plugin {folder}: no such folder")
    known = [str(folder) for folder in plugin_folders()]
    added = [str(Path(folder).resolve()) for folder in folders]
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*known, *added]))


def plugin_folders() -> list[Path]:
    """The folders that the user has named."""
    names = os.environ.get(VARIABLE, "").split(os.pathsep)
    return [Path(name).resolve() for name in names if name]


def import_plugin(module_name: str, where: str) -> ModuleType:
    """Import a module that a yaml file names.

    Args:
        module_name: such as ``my_package.my_module``.
        where: key path of the name, for errors.
    """
    package = module_name.partition(".")[0]
    if package not in sys.modules:
        _check_origin(package, where)
    try:
        return importlib.import_module(module_name)
    except (KeyboardInterrupt, StoppedBySignal):
        raise
    except BaseException as error:  # noqa: BLE001 (a module's own code may raise anything)
        raise ConfigError(
            f"{where}: '{module_name}' cannot be imported ({type(error).__name__}: {error}); "
            "expected the path of a class whose package is installed, or lies in a folder that "
            f"--plugin or {VARIABLE} names"
        ) from error


def _check_origin(package: str, where: str) -> None:
    """Refuse a package from elsewhere; its code does not run for that."""
    folders = plugin_folders()
    for folder in folders:
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    origin = _origin(package)
    if origin is None:
        return  # the import says that it does not exist
    homes = [*folders, *_installed_homes()]
    if any(origin.is_relative_to(home) for home in homes) or _is_distribution(package):
        return
    raise ConfigError(
        f"{where}: '{package}' is at {origin}, neither installed nor in a folder of plugins, so it "
        f"was not imported; --plugin {origin.parent} allows it"
    )


def _origin(package: str) -> Path | None:
    """The file or folder of a package; None where there is none."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.has_location and spec.origin else Path(package)


def _installed_homes() -> list[Path]:
    """Where pip installs packages."""
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    return [Path(folder).resolve() for folder in folders]


def _is_distribution(package: str) -> bool:
    """Whether pip knows the package, such as one that was installed with ``pip install -e``."""
    return package in importlib.metadata.packages_distributions()
