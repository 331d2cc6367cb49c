"""Calling the tools and finding yaml files, in a checkout and in an installed package."""

from __future__ import annotations

from pathlib import Path

from easydict import EasyDict

from ..config import find_file, load_config

# Subcommand of pcdet-distill -> the script of a checkout that is the same.
SCRIPTS = {"data": "tools/create_data.py", "train": "tools/train.py", "test": "tools/test.py"}


def tool_words(subcommand: str, root: Path) -> list[str]:
    """The words after ``python`` that start a tool from ``root``.

    A checkout has scripts under OpenPCDet's names. Elsewhere the installed package is the tool.
    """
    script = SCRIPTS[subcommand]
    if (root / script).is_file():
        return [script]
    return ["-m", "pcdet_distill", subcommand]


def read_experiment(name: str, root: Path, overrides: tuple[str, ...] | list[str] = ()) -> EasyDict:
    """The config that ``name`` means to a tool started from ``root``."""
    return load_config(find_file(name, near=root), overrides)
