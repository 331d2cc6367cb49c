"""OpenPCDet's yaml files -> one EasyDict, with errors that name the file, the key path and the nearest valid key.

The rules are OpenPCDet's: ``_BASE_CONFIG_`` (at any level) is loaded first, then the file's own keys are merged into
it, mappings key by key, everything else, lists included, as a whole; then come the ``--set`` pairs. Two things are
added: base files are found from any working directory, and every key is checked against ``schema``.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from easydict import EasyDict

from ..errors import ConfigError
from . import schema
from .check import check
from .names import nearest
from .override import apply_overrides

BASE_KEY = "_BASE_CONFIG_"


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> EasyDict:
    """Read one experiment (or one dataset) file.

    Args:
        path: the yaml file; a relative one is also looked for in the folders above the working directory.
        overrides: what follows ``--set``: ``["OPTIMIZATION.LR", "0.01", ...]``.

    Returns:
        The merged config, with ROOT_DIR (Path: the folder that holds ``cfgs/``), TAG (file stem), EXP_GROUP_PATH (the
        folders between ``cfgs`` and the file) and CONFIG_FILE (absolute) added.
    """
    file = _config_file(path)
    config: dict[str, Any] = {}
    origins: dict[str, str] = {}
    _merge(config, read_yaml(file), file, "", origins, (file,))
    root = schema.DATA_CONFIG if _is_dataset_file(config) else schema.EXPERIMENT
    check(config, root, origins, str(file))
    apply_overrides(config, overrides, root, origins)
    check(config, root, origins, str(file))
    if root is schema.EXPERIMENT:
        _require_parts(config, file)
        _fold_teacher_aliases(config)
    root_dir, group = _place(file)
    config.update(ROOT_DIR=root_dir, TAG=file.stem, EXP_GROUP_PATH=group, CONFIG_FILE=str(file))
    return EasyDict(config)


def find_file(name: str | Path, *, near: Path) -> Path:
    """Where a file named in a config is.

    In order: an absolute path; beside ``near`` (a file or folder); in a folder above it, or in that folder's ``tools``
    (OpenPCDet writes paths relative to ``tools/``); in the working directory; in the checkout this package stands in.
    """
    name = Path(name).expanduser()
    if name.is_absolute():
        candidates = [name]
    else:
        near = Path(near).resolve()
        folders = [near, *near.parents] if near.is_dir() else list(near.parents)
        candidates = [place / name for folder in folders for place in (folder, folder / "tools")]
        candidates += [Path.cwd() / name, Path(__file__).resolve().parents[2] / name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    raise ConfigError(f"{name}: no such file (looked from {near}){_nearest_yaml(candidates[0])}")


def resolve_data_path(path: str | Path, root_dir: str | Path) -> Path:
    """DATA_PATH as a folder: absolute, or relative to the working directory, ``root_dir`` or ``root_dir/tools``.

    OpenPCDet writes it relative to ``tools/``. The first that exists; when none does, the last one.
    """
    path, root_dir = Path(path).expanduser(), Path(root_dir)
    if path.is_absolute():
        return path
    candidates = [Path.cwd() / path, root_dir / path, root_dir / "tools" / path]
    found = next((candidate for candidate in candidates if candidate.exists()), None)
    return found.resolve() if found else Path(os.path.normpath(candidates[-1]))


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads ``1e-3`` as a number; YAML 1.1 wants ``1.0e-3`` and would hand over text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping that a yaml file holds, as it stands there."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not a text file, expected yaml") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "invalid character"
        raise ConfigError(f"{file}: not valid yaml{line}: {reason}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{file}: expected a mapping of keys, found {'nothing' if content is None else 'other yaml'}"
        )
    return content


def _config_file(path: str | Path) -> Path:
    given = Path(path).expanduser()
    if given.is_dir():
        raise ConfigError(f"{given}: is a folder, expected a yaml file{_nearest_yaml(given / 'x')}")
    return find_file(given, near=Path.cwd())


def _merge(
    target: dict[str, Any],
    new: dict[str, Any],
    file: Path,
    path: str,
    origins: dict[str, str],
    chain: tuple[Path, ...],
) -> None:
    """Merge ``new`` (read from ``file``) into ``target``, its base first; ``origins`` learns which file set what."""
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


def _base_file(name: Any, file: Path, path: str, chain: tuple[Path, ...]) -> Path:
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


def _is_dataset_file(config: dict[str, Any]) -> bool:
    """A file of cfgs/dataset_configs holds what other files hold under DATA_CONFIG."""
    return "MODEL" not in config and sum(key in schema.DATA_CONFIG.keys for key in config) > sum(
        key in schema.EXPERIMENT.keys for key in config
    )


def _require_parts(config: dict[str, Any], file: Path) -> None:
    for key in ("CLASS_NAMES", "DATA_CONFIG", "MODEL"):
        if not config.get(key):
            raise ConfigError(f"{file}: key {key} is missing")
    if "NAME" not in config["MODEL"]:
        raise ConfigError(f"{file}: key MODEL.NAME is missing")


def _fold_teacher_aliases(config: dict[str, Any]) -> None:
    """SparseKD's MODEL_TEACHER and TEACHER_CKPT are DISTILL.TEACHER.MODEL and DISTILL.TEACHER.CKPT."""
    for alias, key in (("MODEL_TEACHER", "MODEL"), ("TEACHER_CKPT", "CKPT")):
        value = config.pop(alias, None)
        if value:
            teacher = config.setdefault("DISTILL", {}).setdefault("TEACHER", {})
            if not teacher.get(key):
                teacher[key] = value


def _place(file: Path) -> tuple[Path, str]:
    """ROOT_DIR and EXP_GROUP_PATH of a config file; a file outside any ``cfgs`` belongs to the working directory."""
    parts = file.parts
    if "cfgs" not in parts[:-1]:
        return Path.cwd(), ""
    at = max(index for index, part in enumerate(parts[:-1]) if part == "cfgs")
    root = Path(*parts[:at])
    return (root.parent if root.name == "tools" else root), "/".join(parts[at + 1 : -1])


def _nearest_yaml(missing: Path) -> str:
    folder = next((parent for parent in missing.parents if parent.is_dir()), None)
    files = (
        [file.name for file in folder.glob("*.y*ml")] if folder and folder == missing.parent else []
    )
    return nearest(missing.name, files) if files else ""
