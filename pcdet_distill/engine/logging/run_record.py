"""What was run: the resolved config, under a heading of versions, commit, device and command."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml

from ... import __version__
from ...config import to_plain
from ...types import ConfigDict
from .folders import writing

# load_config adds these to the keys of the yaml file.
NOT_CONFIG = ("ROOT_DIR", "TAG", "EXP_GROUP_PATH", "CONFIG_FILE")


def environment() -> dict[str, str]:
    """Versions, commit, device and command of this process."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "pcdet_distill": __version__,
        "git": _git_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cuda device": cuda,
        "command": " ".join(sys.argv),
    }


def _git_commit() -> str:
    """The commit of this source tree; 'no git' for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent)]
    command += ["describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "no git"
    return done.stdout.strip()


def config_text(cfg: ConfigDict) -> str:
    """The whole config as yaml, innermost blocks on one line."""
    plain = {key: value for key, value in to_plain(cfg).items() if key not in NOT_CONFIG}
    return yaml.safe_dump(plain, default_flow_style=None, sort_keys=False, width=120)


def write_config(cfg: ConfigDict, path: Path) -> None:
    """Write the resolved config under a heading of comments. ``--cfg_file`` accepts the file."""
    heading = [f"# {name}: {value}\n" for name, value in environment().items()]
    with writing(path):
        path.write_text("".join(heading) + config_text(cfg))
