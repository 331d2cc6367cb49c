"""Every detector has OpenPCDet's parameters and buffers: names, shapes, types, order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.models import DETECTORS, build_network
from pcdet_distill.models.detectors.slots import SLOTS
from pcdet_distill.types import ConfigDict

REPO = Path(__file__).resolve().parents[2]


def skip_unknown_slots(cfg: ConfigDict) -> None:
    """Skip the test where a slot names a class that we do not have."""
    for slot in SLOTS.values():
        block = cfg.MODEL.get(slot.block)
        if block and block.NAME not in slot.table:
            pytest.skip(f"{block.NAME} is not in the table of MODEL.{slot.block} yet")


def describe(state: Mapping[str, Tensor]) -> list[list[Any]]:
    """Name, shape and type of every tensor, as manifests write them."""
    rows = []
    for key, value in state.items():
        dtype = str(value.dtype).removeprefix("torch.")
        rows.append([key, list(value.shape), dtype])
    return rows


def norm_settings(model: nn.Module) -> dict[str, list[Any]]:
    """Per eps and momentum of batch norms: their number, the first of them and the last."""
    paths: dict[str, list[str]] = {}
    for path, module in model.named_modules():
        if hasattr(module, "running_var"):
            key = f"eps={module.eps:g} momentum={module.momentum:g}"
            paths.setdefault(key, []).append(path)
    return {key: [len(found), found[0], found[-1]] for key, found in paths.items()}


@pytest.mark.golden("manifests/*.json")
def test_state_dict(golden_file: Path) -> None:
    manifest = json.loads(golden_file.read_text())
    if "state_dict" not in manifest:
        pytest.skip(f"{golden_file.name} describes no detector")
    if manifest["detector"] not in DETECTORS:
        pytest.skip(f"detector {manifest['detector']} is not in DETECTORS yet")
    cfg = load_config(REPO / "cfgs" / manifest["config"])
    skip_unknown_slots(cfg)

    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
    grid_size = None if spec.grid_size is None else spec.grid_size.tolist()
    assert describe(model.state_dict()) == manifest["state_dict"]
    assert [name for name, _ in model.named_parameters()] == manifest["parameters_in_order"]
    assert sum(parameter.numel() for parameter in model.parameters()) == manifest["num_parameters"]
    assert [type(module).__name__ for module in model.module_list] == manifest["module_list"]
    assert [name for name, _ in model.named_slots()] == manifest["top_level"]
    assert grid_size == manifest["grid_size"]
    if "batch_norm_settings" in manifest:
        assert norm_settings(model) == manifest["batch_norm_settings"]
    state = model.state_dict()
    for key, values in manifest.get("constant_integer_buffers", {}).items():
        assert state[key].tolist() == values, key
