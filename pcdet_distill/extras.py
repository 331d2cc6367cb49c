"""Packages that only some commands need: imported where they are used, asked for alike."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import ConfigError, UserError

# Top-level name to import -> the extra of pyproject.toml that installs it.
EXTRA_OF = {
    "huggingface_hub": "hub",
    "laspy": "readers",
    "matplotlib": "viz",
    "nuscenes": "nuscenes",
    "onnx": "export",
    "onnxruntime": "export",
    "openvino": "openvino",
    "pyarrow": "readers",
    "ray": "ray",
    "rerun": "rerun",
    "rosbags": "readers",
    "safetensors": "safetensors",
    "tri3d": "tri3d",
}
# What pip cannot say by itself, because the extra is empty there.
NOTES = {"tri3d": " (Python 3.11 or newer)"}


# Any, because mypy knows nothing of a module whose name it cannot see.
def import_extra(
    module: str,
    *,
    needed_by: str,
    extra: str | None = None,
    raises: type[UserError] = ConfigError,
) -> Any:
    """Import a module of an optional package.

    Args:
        module: name to import, such as ``pyarrow.feather``; its package is in ``EXTRA_OF``.
        needed_by: a flag, a command, or what is done to a file; the sentence begins with it.
        extra: to be named instead of that of ``EXTRA_OF``, where more than one package is needed.
        raises: class of the error without the package.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise raises(
            f"{needed_by} needs the package {package} ({error}): {how_to_install(package, extra)}"
        ) from error


def how_to_install(package: str, extra: str | None = None) -> str:
    """The command that installs a package, by an extra or by that of ``EXTRA_OF``."""
    return f'pip install "pcdet_distill[{extra or EXTRA_OF[package]}]"{NOTES.get(package, "")}'
