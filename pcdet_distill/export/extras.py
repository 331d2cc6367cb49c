"""Packages that only an export needs: imported when they are used, asked for in one sentence."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import ConfigError


def import_extra(package: str, extra: str) -> Any:
    """A package that an extra brings; without it a ConfigError says which one.

    Args:
        package: name to import.
        extra: of pyproject.toml.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"{package} cannot be imported ({error}); "
            f'pip install "pcdet_distill[{extra}]" brings it'
        ) from error
