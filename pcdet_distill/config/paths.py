"""Where the files and folders are that a yaml file, a checkpoint flag or a command line names.

A relative path is looked for in four places, in this order:

1. in the folder of the file that names it, then in every folder above that one; in each of these
   also in ``tools/``, because OpenPCDet writes its paths relative to that folder;
2. in the working directory;
3. in the checkout of this project, or in the package when it was installed;
4. in the ``cfgs/`` of place 3: ``kitti_models/second.yaml`` names a file from any folder.

DATA_PATH is looked for in the working directory first, so that one yaml serves several folders of
data. ROOT_DIR and its ``tools/`` follow, as in OpenPCDet, and last the places above.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from ..errors import ConfigError
from .names import SUGGESTED_SIMILARITY, most_similar, nearest

MAX_PATH = 4000  # characters, a little less than Linux allows
MAX_NAME = 255
MOST_SUGGESTED = 3  # files that a message names
SIMILARITY_ELSEWHERE = 0.8  # of a name in another folder, from which it is suggested
PACKAGE = Path(__file__).resolve().parents[1]


def resource_folder() -> Path:
    """The folder that holds the ``cfgs/`` of this project.

    In a checkout that is the folder above the package. An installed package carries its own copy.
    """
    checkout = PACKAGE.parent
    is_checkout = (checkout / "cfgs").is_dir() and (checkout / "pyproject.toml").is_file()
    return checkout if is_checkout else PACKAGE


def project_folder() -> Path:
    """The folder of ``data/`` and ``output/``: the checkout, else the working directory."""
    resources = resource_folder()
    return Path.cwd() if resources == PACKAGE else resources


def search_folders(near: Path) -> list[Path]:
    """The folders of this module's four places; ``near`` is the file or folder to start from."""
    near = Path(near).resolve()
    above = [near, *near.parents] if near.is_dir() else list(near.parents)
    folders = []
    for folder in above:
        folders += [folder, folder / "tools"]
    resources = resource_folder()
    return [*folders, Path.cwd(), resources, resources / "cfgs"]


def find_file(name: str | Path, *, near: Path) -> Path:
    """The absolute path of a file that a config names.

    Args:
        name: absolute, or relative to one of this module's places.
        near: the file that names it, or the folder to start from.
    """
    check_path(name)
    name = Path(name).expanduser()
    candidates = _candidates(name, search_folders(near))
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    raise ConfigError(f"{name}: no such file (looked from {near}){nearest_yaml(name, candidates)}")


def check_path(path: str | Path) -> None:
    """Refuse what no file system can name; the functions of ``os`` would raise many errors."""
    parts = Path(path).parts if "\0" not in str(path) else ()
    if not parts or len(str(path)) > MAX_PATH or any(len(part) > MAX_NAME for part in parts):
        shown = str(path)[:40].replace("\0", "?")
        raise ConfigError(f"'{shown}...': is not the path of any file")


def resolve_data_path(path: str | Path, root_dir: str | Path) -> Path:
    """The folder that DATA_PATH names.

    Args:
        path: absolute, or relative to the working directory, ``root_dir`` or ``root_dir/tools``.
        root_dir: the folder that holds ``cfgs/``, ROOT_DIR of the config.

    Returns:
        The first of these folders that exists; the last one when none does.
    """
    check_path(path)
    root_dir = Path(root_dir)
    folders = [Path.cwd(), root_dir, root_dir / "tools"]
    candidates = _candidates(Path(path).expanduser(), folders)
    for candidate in candidates:
        if candidate.exists():
            return candidate if Path(path).is_absolute() else candidate.resolve()
    return candidates[-1]


def find_data_folder(path: str, *, near: Path) -> Path | None:
    """The folder that a DATA_PATH names in the file ``near``; None when there is no such folder."""
    for candidate in _candidates(Path(path).expanduser(), search_folders(near)):
        if candidate.is_dir():
            return candidate.resolve()
    return None


def root_and_group(file: Path) -> tuple[Path, str]:
    """ROOT_DIR and EXP_GROUP_PATH of a config file.

    ROOT_DIR holds the ``cfgs/`` that the file lies in (OpenPCDet's ``tools/cfgs`` counts as well),
    EXP_GROUP_PATH is the path from ``cfgs/`` to the file. For a file outside any ``cfgs/``, and for
    one of an installed package, ROOT_DIR is the working directory: outputs do not belong among the
    packages.
    """
    folders = file.parts[:-1]
    if "cfgs" not in folders:
        return Path.cwd(), ""
    position = len(folders) - 1 - folders[::-1].index("cfgs")
    root = Path(*folders[:position])
    group = "/".join(folders[position + 1 :])
    if root == PACKAGE:
        return Path.cwd(), group
    return (root.parent if root.name == "tools" else root), group


def nearest_yaml(typed: Path, candidates: list[Path]) -> str:
    """The end of a message about a yaml file that was not found at any of ``candidates``.

    It suggests files of the same name in ``cfgs/``, the one with the most similar path first. Else
    the most similar name beside a candidate. Else files of the most similar name in ``cfgs/``. Else
    it lists the first folder.
    """
    ours = _our_yaml_files()
    same_name = [path for path in ours if Path(path).name == typed.name]
    if same_name:
        return _did_you_mean(typed, same_name)
    for missing in candidates:
        similar = _most_similar_name(
            missing.name, _yaml_names(missing.parent), SUGGESTED_SIMILARITY
        )
        if similar is not None:
            return f"; did you mean '{similar}'?"
    stems = {Path(path).stem for path in ours}
    stem = _most_similar_name(typed.stem, sorted(stems), SIMILARITY_ELSEWHERE)
    if stem is not None:
        return _did_you_mean(typed, [path for path in ours if Path(path).stem == stem])
    in_first_folder = _yaml_names(candidates[0].parent)
    return nearest(typed.name, in_first_folder) if in_first_folder else ""


def _most_similar_name(typed: str, known: list[str], at_least: float) -> str | None:
    """The most similar name. Names that begin with what was typed come before all others.

    Similarity alone prefers short names: of ``4x`` and ``4x_soft_targets`` the first one for
    ``4x_soft``.
    """
    longer = [name for name in known if name.startswith(Path(typed).stem)]
    if longer:
        return most_similar(typed, longer, 0.0)
    return most_similar(typed, known, at_least)


def _did_you_mean(typed: Path, known: list[str]) -> str:
    """The paths that are spelt most like the typed one, the most similar first."""
    best = get_close_matches(typed.as_posix(), known, n=MOST_SUGGESTED, cutoff=0)
    return f"; did you mean {' or '.join(map(repr, best))}?"


def _our_yaml_files() -> list[str]:
    """The yaml files of ``cfgs/``, as ``kitti_models/second.yaml``."""
    folder = resource_folder() / "cfgs"
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.y*ml"))


def _yaml_names(folder: Path) -> list[str]:
    """The yaml files of a folder, without hidden ones."""
    return [file.name for file in folder.glob("*.y*ml") if not file.name.startswith(".")]


def _candidates(path: Path, folders: list[Path]) -> list[Path]:
    """``path`` in every folder. An absolute path is the only candidate.

    ``tools/../data`` is read as ``data``, also where there is no ``tools``.
    """
    if path.is_absolute():
        return [path]
    return [Path(os.path.normpath(folder / path)) for folder in folders]
