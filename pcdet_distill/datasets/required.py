"""Read a key that a configuration block must have, and say which block lacks it."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..lookup import nearest


def required(config: Mapping[str, Any], key: str, where: str) -> Any:
    """``config[key]``, or a ConfigError that names the block, the key and the nearest key that is there."""
    if key not in config:
        raise ConfigError(f"{where}: the key '{key}' is missing{nearest(key, config)}")
    return config[key]
