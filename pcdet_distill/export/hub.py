"""A detector in the layout of Hugging Face: ``model.safetensors``, ``config.yaml``, ``README.md``.

Such a folder is complete: the yaml names no other file, and ``load_detector`` reads the folder as
it is, from a disk or from ``hf://user/name``. A DISTILL block stays behind, because the student
needs no teacher any more; the card tells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from easydict import EasyDict
from torch import Tensor

from .. import __version__
from ..config import project_folder
from ..extras import import_extra
from ..inference import Detector
from ..types import ConfigDict
from .folder import write_files
from .model_card import CardFacts, model_card

WEIGHTS_FILE = "model.safetensors"
HUB_CONFIG_FILE = "config.yaml"
CARD_FILE = "README.md"
# What load_config adds; and what a trained student does not need.
LEFT_OUT = ("ROOT_DIR", "TAG", "EXP_GROUP_PATH", "CONFIG_FILE", "LOCAL_RANK", "DISTILL")


def write_hub_folder(detector: Detector, folder: str | Path, facts: CardFacts) -> list[Path]:
    """Write the three files, or none of them; returns their paths.

    Args:
        detector: its config and weights are written.
        folder: where to; made if it is not there.
        facts: what the card tells.
    """
    files = {
        WEIGHTS_FILE: weights_of(detector.model.state_dict()),
        HUB_CONFIG_FILE: config_text(detector.cfg).encode(),
        CARD_FILE: model_card(facts).encode(),
    }
    return write_files(folder, files)


def weights_of(state: Mapping[str, Tensor]) -> bytes:
    """The content of a .safetensors file."""
    safetensors = import_extra("safetensors.torch", needed_by="export --format hub", extra="hub")
    tensors = {}
    for name, tensor in state.items():
        # The format wants every tensor to have memory of its own, in rows.
        tensors[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    # With more than one entry their order, and so the bytes, would differ from run to run.
    return safetensors.save(tensors, metadata={"format": "pt"})


def config_text(cfg: EasyDict) -> str:
    """The config as one yaml file, with all its base files merged in."""
    kept = {key: value for key, value in cfg.items() if key not in LEFT_OUT}
    plain = plain_values(kept)
    plain["DATA_CONFIG"]["DATA_PATH"] = portable_data_path(cfg.DATA_CONFIG)
    text = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=100)
    return f"# Written by pcdet_distill {__version__}. The weights are in {WEIGHTS_FILE}.\n{text}"


def plain_values(value: Any) -> Any:
    """Blocks as dicts, sequences as lists, everything else as it is."""
    if isinstance(value, dict):
        return {str(key): plain_values(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    return value


def portable_data_path(data_config: ConfigDict) -> str:
    """DATA_PATH without the folders of the machine on which the export ran."""
    path = Path(data_config.get("DATA_PATH") or "data")
    if not path.is_absolute():
        return str(path)
    if path.is_relative_to(project_folder()):
        return f"../{path.relative_to(project_folder())}"
    return f"../data/{path.name}"
