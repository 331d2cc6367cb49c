"""Folders in the layout of Hugging Face: ``config.yaml``, ``model.safetensors``, ``README.md``.

``hf://user/name`` is such a folder on the hub; ``hf://user/name@revision`` a version of it. It is
downloaded once into the cache of huggingface_hub, which also says where that is, and how to work
without a network (HF_HUB_OFFLINE=1).
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import CheckpointError
from ..extras import import_extra

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "model.safetensors"
PREFIX = "hf://"
NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def find_folder(place: object) -> Path | None:
    """The folder that a path or a name ``hf://user/name`` means; None for anything else.

    Raises:
        CheckpointError: the folder lacks a file, or cannot be downloaded.
    """
    if isinstance(place, str) and place.startswith(PREFIX):
        folder = _download(place)
    elif isinstance(place, (str, Path)) and Path(place).expanduser().is_dir():
        folder = Path(place).expanduser()
    else:
        return None
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{place}: holds no {' and no '.join(missing)}; expected a folder as 'pcdet-distill "
            "export --format hub' writes it, or a .pth file"
        )
    return folder


def _download(place: str) -> Path:
    """The local folder of a name on the hub, downloaded if it is not in the cache."""
    match = NAME.fullmatch(place.removeprefix(PREFIX).rstrip("/"))
    if match is None:
        raise CheckpointError(f"{place}: expected hf://user/name or hf://user/name@revision")
    hub = import_extra(
        "huggingface_hub", needed_by=f"{place}: its download", raises=CheckpointError
    )
    try:
        folder = hub.snapshot_download(
            match["repository"],
            revision=match["revision"],
            allow_patterns=[CONFIG_FILE, WEIGHTS_FILE],
        )
    except Exception as error:  # noqa: BLE001 (its errors and those of the network have no base)
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"{place}: cannot be downloaded ({lines[0].rstrip('.')})") from None
    return Path(folder)
