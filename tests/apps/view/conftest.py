"""A checkpoint of a small detector."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_detectors import write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("view") / "model.pth")
