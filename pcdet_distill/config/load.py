"""From a yaml file to the config of an experiment.

The rules are OpenPCDet's. ``_BASE_CONFIG_``, in the file or in a block of it, is read first. The
file's own keys are merged into it: blocks key by key, every other value as a whole, lists too.
Then come the ``--set`` pairs. Two things are added to OpenPCDet's rules: base files are found
from any working directory (``paths``), and every key is checked (``schema``).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from easydict import EasyDict

from ..errors import ConfigError
from ..types import MutableConfig
from . import schema
from .check import check, origin_of
from .override import ORIGIN as COMMAND_LINE
from .override import apply_overrides
from .paths import (
    check_path,
    find_data_folder,
    find_file,
    nearest_yaml,
    resolve_data_path,
    root_and_group,
)
from .yaml_files import read_yaml

BASE_KEY = "_BASE_CONFIG_"
# What an experiment cannot do without.
REQUIRED_KEYS = ("CLASS_NAMES", "DATA_CONFIG", "MODEL")
# SparseKD's names for two keys of DISTILL.TEACHER.
TEACHER_ALIASES = {"MODEL_TEACHER": "MODEL", "TEACHER_CKPT": "CKPT"}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> EasyDict:
    """Read the yaml file of an experiment, or of a dataset.

    Args:
        path: the file; see ``paths`` for where a relative one is looked for.
        overrides: what follows ``--set``: ``["OPTIMIZATION.LR", "0.01", ...]``.

    Returns:
        The merged config with four keys added: CONFIG_FILE (absolute path), TAG (its name without
        ``.yaml``), EXP_GROUP_PATH (the folders between ``cfgs`` and the file) and ROOT_DIR (Path,
        the folder that holds ``cfgs``).
    """
    file = _config_file(path)
    config: MutableConfig = {}
    origins: dict[str, str] = {}
    _merge(config, read_yaml(file), file, "", origins, (file,))
    root_block = schema.DATA_CONFIG if _is_dataset_file(config) else schema.EXPERIMENT
    check(config, root_block, origins, str(file))
    apply_overrides(config, overrides, root_block, origins)
    check(config, root_block, origins, str(file))
    root_dir, group = root_and_group(file)
    if root_block is schema.EXPERIMENT:
        _require_parts(config, file)
        _rename_teacher_aliases(config)
        _locate_data(config["DATA_CONFIG"], "DATA_CONFIG.DATA_PATH", origins, root_dir)
    else:
        _locate_data(config, "DATA_PATH", origins, root_dir)
    config.update(ROOT_DIR=root_dir, TAG=file.stem, EXP_GROUP_PATH=group, CONFIG_FILE=str(file))
    try:
        return EasyDict(config)
    except (TypeError, AttributeError, ValueError) as error:
        raise ConfigError(f"{file}: has a key that is no name ({error})") from None


def _config_file(path: str | Path) -> Path:
    check_path(path)
    given = Path(path).expanduser()
    if given.is_dir():
        suggested = nearest_yaml(Path("x"), [given / "x"])
        raise ConfigError(f"{given}: is a folder, expected a yaml file{suggested}")
    return find_file(given, near=Path.cwd())


def _merge(
    target: MutableConfig,
    new: MutableConfig,
    file: Path,
    path: str,
    origins: dict[str, str],
    chain: tuple[Path, ...],
) -> None:
    """Merge a block into ``target``, its base file first.

    Args:
        target: the block as merged so far; changed in place.
        new: the block of ``file``.
        file: the yaml file that is read.
        path: key path of the block; empty at the top of the file.
        origins: key path -> file that set it; filled here.
        chain: the files that are being read, each the base of the one before it.
    """
    if BASE_KEY in new:
        base = _base_file(new[BASE_KEY], file, path, chain)
        _merge(target, read_yaml(base), base, path, origins, (*chain, base))
    for key, value in new.items():
        if key == BASE_KEY:
            continue
        place = f"{path}.{key}" if path else str(key)
        origins[place] = str(file)
        if isinstance(value, dict):
            if not isinstance(target.get(key), dict):
                target[key] = {}
            _merge(target[key], value, file, place, origins, chain)
        else:
            target[key] = copy.deepcopy(value)


def _base_file(name: object, file: Path, path: str, chain: tuple[Path, ...]) -> Path:
    where = f"{file}: {path}.{BASE_KEY}" if path else f"{file}: {BASE_KEY}"
    if not isinstance(name, str):
        raise ConfigError(f"{where}: expected the path of a yaml file, got {name!r}")
    try:
        base = find_file(name, near=file)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if base in chain:
        raise ConfigError(f"{where}: {name} is based on itself")
    return base


def _is_dataset_file(config: MutableConfig) -> bool:
    """Whether this is a file such as those in cfgs/dataset_configs.

    It holds at its top what an experiment holds under DATA_CONFIG.
    """
    dataset_keys = sum(key in schema.DATA_CONFIG.keys for key in config)
    experiment_keys = sum(key in schema.EXPERIMENT.keys for key in config)
    return "MODEL" not in config and dataset_keys > experiment_keys


def _require_parts(config: MutableConfig, file: Path) -> None:
    for key in REQUIRED_KEYS:
        if not config.get(key):
            raise ConfigError(f"{file}: key {key} is missing")
    if "NAME" not in config["MODEL"]:
        raise ConfigError(f"{file}: key MODEL.NAME is missing")


def _rename_teacher_aliases(config: MutableConfig) -> None:
    """Move MODEL_TEACHER and TEACHER_CKPT into DISTILL.TEACHER, whose own keys come first."""
    for alias, key in TEACHER_ALIASES.items():
        value = config.pop(alias, None)
        if not value:
            continue
        teacher = config.setdefault("DISTILL", {}).setdefault("TEACHER", {})
        if not teacher.get(key):
            teacher[key] = value


def _locate_data(
    data_config: MutableConfig, key_path: str, origins: dict[str, str], root_dir: Path
) -> None:
    """Make DATA_PATH absolute where only the file that names it leads to the folder.

    Whoever builds the dataset has the working directory and ROOT_DIR to start from. That is not
    enough for a base file in another checkout, nor for data beside a yaml outside any ``cfgs``.
    """
    path = data_config.get("DATA_PATH")
    origin = origin_of(key_path, origins, COMMAND_LINE)
    if not path or origin == COMMAND_LINE or resolve_data_path(path, root_dir).exists():
        return
    found = find_data_folder(path, near=Path(origin))
    if found is not None:
        data_config["DATA_PATH"] = str(found)
