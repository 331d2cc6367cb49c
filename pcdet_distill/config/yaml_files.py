"""Reading one yaml file, as it stands: without its base files, and without checking its keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader that reads ``1e-3`` as a number; YAML 1.1 would make it text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping of keys that a yaml file holds."""
    try:
        text = file.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 (a safe loader)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not a text file, expected yaml") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid yaml{_place_and_reason(error)}") from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else "other yaml"
        raise ConfigError(f"{file}: expected a mapping of keys, found {found}")
    return content


def _place_and_reason(error: yaml.YAMLError) -> str:
    """``" in line 2: expected ',' or ']'"``, as far as the parser gives them."""
    mark = getattr(error, "problem_mark", None)
    line = f" in line {mark.line + 1}" if mark else ""
    reason = getattr(error, "problem", None) or "invalid character"
    return f"{line}: {reason}"
