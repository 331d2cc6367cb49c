"""An exported network as a detector: points in, ``Detections`` out, like its checkpoint.

It is for comparisons in Python, and for a network that is a dense part: its sparse stages run in
torch, from the checkpoint. A robot runs ``detect.py`` of the folder instead, without torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import DataError
from ..inference import Detections, Detector
from ..inference.clouds import Points
from ..models import Detector3DTemplate
from ..types import BatchDict
from .boxes import final_boxes
from .config import CONFIG_FILE, ExportConfig
from .reference import network_inputs
from .runners import OnnxRuntimeRunner, Runner


class ExportedModel(nn.Module):
    """An exported network in the place of a detector: frames in, OpenPCDet's dicts out.

    Args:
        model: the checkpoint's detector, which makes the inputs; of a dense part the sparse stages
            run in it.
        runner: the network.
        config: what its outputs mean.
    """

    def __init__(self, model: Detector3DTemplate, runner: Runner, config: ExportConfig) -> None:
        super().__init__()
        self.model = model
        self.runner = runner
        self.config = config

    def forward(self, batch_dict: BatchDict) -> tuple[list[dict[str, Tensor]], dict[str, int]]:
        """The final boxes of a batch of one frame, and no recall counts."""
        outputs = self.runner(network_inputs(self.model, batch_dict))
        found = final_boxes(outputs, self.config)
        boxes = {
            "pred_boxes": torch.from_numpy(found.boxes),
            "pred_scores": torch.from_numpy(found.scores),
            "pred_labels": torch.from_numpy(found.labels),
        }
        return [boxes], {}


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
        exported = ExportedModel(model, self.runner, self.config)
        (prediction,), _ = exported(self.detector.batch(points))
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
