"""Every key of the nuScenes configs has OpenPCDet's value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pcdet_distill.config import load_config, to_plain

# Keys that load_config adds, and the base file's name, which merging resolves.
NOT_OPENPCDETS = {"ROOT_DIR", "TAG", "EXP_GROUP_PATH", "CONFIG_FILE"}
BASE_KEY = "_BASE_CONFIG_"
BASE_FILE = "cfgs/dataset_configs/nuscenes_dataset.yaml"


def values_of_model(recorded: dict[str, Any], model: str) -> dict[str, Any]:
    """Path -> value of one model; a key that not all models share lists the models of a value."""
    values = {}
    for path, entry in recorded.items():
        if not is_list_of_variants(entry):
            values[path] = entry
            continue
        for variant in entry:
            if model in variant["models"]:
                values[path] = variant["value"]
    return values


def is_list_of_variants(entry: Any) -> bool:
    """Whether an entry is ``[{"value": ..., "models": [...]}, ...]``."""
    if not isinstance(entry, list) or not entry:
        return False
    return isinstance(entry[0], dict) and set(entry[0]) == {"value", "models"}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """``A.B[0].C`` and its value, for every value that is neither a block nor a list of blocks."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}[{number}]")
    else:
        yield path, value


def read(golden_file: Path) -> dict[str, Any]:
    return json.loads(golden_file.read_text())


def config_of(model: str, repo: Path) -> dict[str, Any]:
    """The merged config without what load_config adds."""
    config = to_plain(load_config(repo / "cfgs" / "nuscenes_models" / f"{model}.yaml"))
    return {key: value for key, value in config.items() if key not in NOT_OPENPCDETS}


@pytest.mark.golden("manifests/nuscenes_config_values.json")
def test_every_value_of_every_model(golden_file: Path, repo: Path) -> None:
    recorded = read(golden_file)
    assert recorded["__models__"]
    for model in recorded["__models__"]:
        expected = values_of_model(recorded["values"], model)
        assert expected.pop(f"DATA_CONFIG.{BASE_KEY}") == BASE_FILE
        found = dict(leaves(config_of(model, repo)))
        found.pop(f"DATA_CONFIG.{BASE_KEY}", None)
        assert found == expected, model
        for path, value in expected.items():
            # 1 and 1.0 are equal for ==, but --set keeps the type that the yaml has.
            assert type(found[path]) is type(value), f"{model}: {path}"


@pytest.mark.golden("manifests/nuscenes_config_values.json")
def test_the_base_file_has_the_keys_of_openpcdet(golden_file: Path, repo: Path) -> None:
    base = to_plain(load_config(repo / BASE_FILE))
    found = {path for path, _ in leaves(base) if path not in NOT_OPENPCDETS}
    assert sorted(found) == sorted(read(golden_file)["keys_written_in_base"])
