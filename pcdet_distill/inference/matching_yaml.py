"""Which yaml of cfgs/ a checkpoint belongs to, for the message that it does not fit another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from easydict import EasyDict
from torch import Tensor

from ..checkpoint import load_model_state
from ..config import load_config
from ..config.paths import resource_folder
from ..datasets.spec import DataSpec
from ..errors import CheckpointError, UserError
from ..models import build_network
from ..models.detectors.slots import SLOTS


@contextmanager
def naming_matching_yaml(state: Mapping[str, Tensor], cfg: EasyDict) -> Iterator[None]:
    """Let the message that ``state`` does not fit the network of ``cfg`` end with its own yaml."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{error}{matching_yaml(state, cfg)}") from None


def matching_yaml(state: Mapping[str, Tensor], cfg: EasyDict) -> str:
    """The end of a message: the yaml of cfgs/ whose network has just these tensors; or nothing.

    Args:
        state: the tensors of a checkpoint.
        cfg: the config that they do not fit; yaml files of its folder come first.
    """
    slots = {name.removeprefix("module.").split(".")[0] for name in state} & set(SLOTS)
    for file, candidate in experiments(str(cfg.get("EXP_GROUP_PATH", ""))):
        if _slots_of(candidate) >= slots and _fits(candidate, state):
            return f"; it fits {file}"
    return ""


def experiments(first_group: str) -> Iterator[tuple[str, EasyDict]]:
    """The yaml files of detectors in cfgs/, each network once, plain ones before distilled ones."""
    folder = resource_folder() / "cfgs"
    files = sorted(folder.rglob("*.yaml"), key=lambda file: _order(file, folder, first_group))
    seen = set()
    for file in files:
        try:
            config = load_config(file)
        except UserError:
            continue  # a yaml of something else, such as a study
        if "MODEL" not in config:
            continue
        network = repr((config.MODEL, config.CLASS_NAMES, config.DATA_CONFIG.DATA_PROCESSOR))
        if network not in seen:
            seen.add(network)
            yield str(file.relative_to(folder.parent)), config


def _order(file: Path, folder: Path, first_group: str) -> tuple[bool, bool, int, str]:
    group = file.parent.relative_to(folder).as_posix()
    is_distilled = "DISTILL:" in file.read_text(encoding="utf-8")
    # Of several yaml files with the same network the one with the shortest name is the plainest.
    return group != first_group, is_distilled, len(file.name), str(file)


def _slots_of(config: EasyDict) -> set[str]:
    return {name for name, slot in SLOTS.items() if config.MODEL.get(slot.block)}


def _fits(config: EasyDict, state: Mapping[str, Tensor]) -> bool:
    """Whether the network of ``config`` has just these tensors."""
    try:
        spec = DataSpec.from_config(config.DATA_CONFIG, config.CLASS_NAMES)
        model = build_network(config.MODEL, len(config.CLASS_NAMES), spec)
        load_model_state(model, state, strict=True, where=config.CONFIG_FILE)
    except UserError:
        return False
    return True
