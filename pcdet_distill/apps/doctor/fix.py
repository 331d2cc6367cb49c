"""``--fix``: the findings' lines of yaml as a file that extends the original."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from easydict import EasyDict

from ...config import load_config, to_plain
from ...errors import ConfigError
from ...types import ConfigDict, MutableConfig
from ...whole_files import whole_file
from .finding import Finding

BASE_KEY = "_BASE_CONFIG_"


def collect_changes(findings: Sequence[Finding]) -> dict[str, object]:
    """The changes of all findings. Where two change one key, the first, worse one counts."""
    changes: dict[str, object] = {}
    for finding in findings:
        for path, value in finding.changes.items():
            changes.setdefault(path, value)
    return changes


def changed_config(cfg: ConfigDict, changes: Mapping[str, object]) -> EasyDict:
    """A copy of the config with the changes in it."""
    plain: Any = copy.deepcopy(dict(cfg))
    for path, value in changes.items():
        set_value(plain, path, value)
    return EasyDict(plain)


def set_on_command_line(cfg: ConfigDict, pairs: Sequence[str]) -> dict[str, object]:
    """The keys that ``--set`` changed, with their values: the written yaml must hold them too."""
    changes: dict[str, object] = {}
    for path in map(str, pairs[::2]):
        for full_path in (path, f"DATA_CONFIG.{path}", path.removeprefix("DATA_CONFIG.")):
            value = find_value(cfg, full_path)
            if value is not None:
                changes[full_path] = to_plain(value)
                break
    return changes


def find_value(config: Any, path: str) -> object:
    """The value at a key path; None where there is none."""
    for key in path.split("."):
        try:
            config = config[int(key)] if isinstance(config, list) else config[key]
        except (KeyError, IndexError, ValueError, TypeError):
            return None
    return config


def set_value(config: Any, path: str, value: object) -> None:
    """Write ``value`` at a key path, in which numbers are places in lists."""
    *blocks, last = path.split(".")
    place = config
    for key in blocks:
        if isinstance(place, Sequence):
            place = place[int(key)]
        else:
            place = place.setdefault(key, {})
    if isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value


def fixing_block(cfg: ConfigDict, changes: Mapping[str, object]) -> MutableConfig:
    """What a yaml has to hold to change ``cfg`` so, when it extends its file.

    Blocks are merged key by key, and a list replaces a whole list. So a change inside a list
    writes the list.
    """
    changed = to_plain(changed_config(cfg, changes))
    block: MutableConfig = {}
    for path in changes:
        keys = path.split(".")
        source: Any = changed
        target: Any = block
        for number, key in enumerate(keys):
            value = source[key]
            if isinstance(value, list) or number == len(keys) - 1:
                target[key] = value
                break
            source = value
            target = target.setdefault(key, {})
    return block


def write_fix(cfg: ConfigDict, changes: Mapping[str, object], file: Path) -> None:
    """Write a yaml that extends the file of ``cfg`` by the changes, and check that it loads."""
    original = Path(str(cfg["CONFIG_FILE"]))
    if file.resolve() == original.resolve():
        raise ConfigError(f"--fix {file}: is the file that is examined; expected another name")
    block = {BASE_KEY: str(original), **fixing_block(cfg, changes)}
    text = "# Written by 'pcdet-distill doctor': what differs from the file below.\n"
    text += yaml.dump(
        block,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        width=100,
        allow_unicode=True,
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--fix {file}: cannot be written ({error.strerror})") from None
    load_config(file)


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper without anchors: a list that occurs twice is written twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def yaml_line(path: str, value: object) -> str:
    """``DATA_CONFIG.POINT_CLOUD_RANGE: [0, -40, -3, 70.4, 40, 1]``"""
    text = yaml.dump(
        to_plain(value),
        Dumper=_Dumper,
        default_flow_style=True,
        width=10**6,
        sort_keys=False,
        allow_unicode=True,
    )
    return f"{path}: {text.removesuffix(chr(10)).removesuffix('...').strip()}"
