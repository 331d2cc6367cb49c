"""Fixtures for tests of nuScenes: the made-up version, and a config that reads it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from easydict import EasyDict
from tiny_nuscenes import DATA_CONFIG, VERSION, TinyNuScenes, fill, make_files


@pytest.fixture
def tiny_nus(tmp_path: Path) -> TinyNuScenes:
    """A version without scenes, to be filled."""
    return TinyNuScenes(tmp_path / "nuscenes")


@pytest.fixture
def filled_nus(tiny_nus: TinyNuScenes) -> TinyNuScenes:
    """The filled version with infos, the test's own: it may be damaged."""
    fill(tiny_nus)
    make_files(tiny_nus)
    return tiny_nus


@pytest.fixture(scope="session")
def shared_nus(tmp_path_factory: pytest.TempPathFactory) -> TinyNuScenes:
    """The filled version with infos, shared: tests only read it."""
    tiny = TinyNuScenes(tmp_path_factory.mktemp("shared") / "nuscenes", VERSION)
    fill(tiny)
    make_files(tiny)
    return tiny


@pytest.fixture
def nus_config() -> EasyDict:
    """A DATA_CONFIG for the made-up version; DATA_PATH is to be set."""
    return EasyDict(copy.deepcopy(DATA_CONFIG))
