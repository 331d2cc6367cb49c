"""A small detector of PointPillars, and its checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_detectors import CONFIG, write_checkpoint

from pcdet_distill.inference import Detector, load_detector


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("inference") / "model.pth")


@pytest.fixture
def detector(checkpoint: Path, device: torch.device) -> Detector:
    return load_detector(CONFIG, checkpoint, device=device)
