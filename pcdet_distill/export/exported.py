"""An exported network as a detector: points in, ``Detections`` out, like its checkpoint.

It is for comparisons in Python, and for a network that is a dense part: its sparse stages run in
torch, from the checkpoint. A robot runs ``detect.py`` of the folder instead, without torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch

from ..errors import DataError
from ..inference import Detections, Detector
from ..inference.clouds import Points
from ..models import Detector3DTemplate
from .boxes import final_boxes
from .config import CONFIG_FILE, ExportConfig
from .reference import network_inputs
from .runners import OnnxRuntimeRunner, Runner


class ExportedDetector:
    """Call it with the points of one cloud.

    Args:
        detector: of the checkpoint. It groups the points; the stages that are not in the file run
            in it.
        runner: the network.
        config: what stands beside it.
    """

    def __init__(self, detector: Detector, runner: Runner, config: ExportConfig) -> None:
        self.detector = detector
        self.runner = runner
        self.config = config

    def __call__(self, points: Points) -> Detections:
        """The boxes of one cloud: an array, a tensor or a path."""
        model = self.detector.model
        assert isinstance(model, Detector3DTemplate)
        inputs = network_inputs(model, self.detector.batch(points))
        found = final_boxes(self.runner(inputs), self.config)
        prediction = {
            "pred_boxes": torch.from_numpy(found.boxes),
            "pred_scores": torch.from_numpy(found.scores),
            "pred_labels": torch.from_numpy(found.labels),
        }
        return Detections.from_prediction(prediction, self.detector.class_names)


def load_exported(
    folder: str | Path,
    detector: Detector,
    make_runner: Callable[[Path], Runner] = OnnxRuntimeRunner,
) -> ExportedDetector:
    """The exported network of a folder.

    Args:
        folder: that ``pcdet-distill export`` wrote.
        detector: of the checkpoint.
        make_runner: runs the file; ``OpenVinoRunner`` is another one.
    """
    config = ExportConfig.from_json(Path(folder) / CONFIG_FILE)
    path = Path(folder) / config.model
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != config.model_sha256:
        raise DataError(f"{path}: is not the network that {CONFIG_FILE} beside it describes")
    return ExportedDetector(detector, make_runner(path), config)
