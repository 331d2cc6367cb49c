"""Yaml keys of OpenPCDet's KITTI configs are known, and our configs use the same ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pcdet_distill.config import load_config, to_plain
from pcdet_distill.config.nodes import Block, Free, ListOf
from pcdet_distill.config.schema import EXPERIMENT

ADDED = {"ROOT_DIR", "TAG", "EXP_GROUP_PATH", "CONFIG_FILE"}
BASE_KEY = "_BASE_CONFIG_"


def key_paths(value: Any, path: str = "") -> Iterator[str]:
    """``A.B[].C`` of every leaf."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from key_paths(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for item in value:
            yield from key_paths(item, f"{path}[]")
    else:
        yield path


@pytest.mark.golden("manifests/config_keys.json")
def test_every_key_is_admitted(golden_file: Path):
    for path in json.loads(golden_file.read_text())["keys"]:
        node = EXPERIMENT
        for part in path.split("."):
            name = part.removesuffix("[]")
            is_list = part.endswith("[]")
            if name == BASE_KEY:
                break
            block = node.or_block if isinstance(node, ListOf) else node
            assert isinstance(block, Block), f"{path}: {part} stands in no block"
            node = block.find(name)
            assert node is not None, f"{path}: {name} is not admitted"
            if is_list:
                assert isinstance(node, ListOf), path
                node = node.item
        else:
            assert isinstance(node, (Free, Block, ListOf))


@pytest.mark.golden("manifests/config_keys.json")
def test_our_configs_use_the_same_keys(golden_file: Path, repo: Path):
    manifest = json.loads(golden_file.read_text())
    for model in manifest["models"]:
        expected = {
            key for key, users in manifest["keys"].items() if users == "all" or model in users
        }
        expected = {key for key in expected if not key.endswith(BASE_KEY)}
        config = to_plain(load_config(repo / "cfgs" / "kitti_models" / f"{model}.yaml"))
        ours = set(key_paths({key: value for key, value in config.items() if key not in ADDED}))
        # The manifest stops at mappings whose keys are data, such as DATA_SPLIT.
        cut = set()
        for path in ours:
            mappings = [key for key in expected if path.startswith(key + ".")]
            cut.add(mappings[0] if mappings else path)
        assert cut == expected, model


@pytest.mark.golden("manifests/config_keys.json")
def test_a_misspelt_key_is_refused(golden_file: Path):
    """Doubling a letter of a key never gives another admitted key."""
    for path in json.loads(golden_file.read_text())["keys"]:
        *blocks, last = path.split(".")
        node: Any = EXPERIMENT
        for part in blocks:
            block = node.or_block if isinstance(node, ListOf) else node
            node = block.find(part.removesuffix("[]"))
            node = node.item if part.endswith("[]") else node
        block = node.or_block if isinstance(node, ListOf) else node
        if last != BASE_KEY:
            name = last.removesuffix("[]")
            assert block.find(name + name[-1]) is None, path
