"""Fixtures for tests of datasets: the hand-made KITTI folder, and a config that reads it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from easydict import EasyDict
from tiny_kitti import DATA_CONFIG, TinyKitti, fill


@pytest.fixture
def tiny(tmp_path: Path) -> TinyKitti:
    """An empty KITTI folder, to be filled."""
    return TinyKitti(tmp_path / "kitti")


@pytest.fixture(scope="session")
def kitti_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The filled folder, shared: tests only read it."""
    kitti = TinyKitti(tmp_path_factory.mktemp("shared") / "kitti")
    fill(kitti)
    return kitti.root


@pytest.fixture
def filled(tiny: TinyKitti) -> TinyKitti:
    """The filled folder, the test's own: it may be damaged."""
    fill(tiny)
    return tiny


@pytest.fixture
def data_config() -> EasyDict:
    """A DATA_CONFIG for the tiny folder; DATA_PATH is to be set."""
    return EasyDict(copy.deepcopy(DATA_CONFIG))
