"""What ran, beside its results: the resolved config under a heading of versions, commit, device and command."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from ... import __version__
from ...config import to_plain
from .folders import writing

NOT_CONFIG = (
    "ROOT_DIR",
    "TAG",
    "EXP_GROUP_PATH",
    "CONFIG_FILE",
)  # what load_config adds to the yaml's keys


def _git_hash() -> str:
    """The commit of this source tree; 'no git' for an installed package."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--exclude=*",
    ]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "no git"


def environment() -> dict[str, str]:
    """What ran: versions, commit, device, command."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "pcdet_distill": __version__,
        "git": _git_hash(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cuda device": cuda,
        "command": " ".join(sys.argv),
    }


def config_text(cfg: Mapping[str, Any]) -> str:
    """The whole config as yaml, innermost blocks on one line."""
    plain = {key: value for key, value in to_plain(cfg).items() if key not in NOT_CONFIG}
    return yaml.safe_dump(plain, default_flow_style=None, sort_keys=False, width=120)


def write_config(cfg: Mapping[str, Any], path: Path) -> None:
    """The resolved config, under a heading of comments that say what ran. ``--cfg_file`` takes it."""
    heading = "".join(f"# {name}: {value}\n" for name, value in environment().items())
    with writing(path):
        path.write_text(heading + config_text(cfg))
