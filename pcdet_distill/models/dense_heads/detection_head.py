"""DetectionHead: what every head offers, whether dense, on points or of a second stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...types import BatchDict, ConfigDict
from .prediction_layout import PredictionLayout

# Key of a batch: (B,) bool, the frames whose detection loss counts; without it all count. Frames
# without labels are left out where something else teaches them.
LOSS_FRAMES = "loss_frames"


class DetectionHead(nn.Module):
    """Base of the heads.

    A subclass predicts in ``forward`` and keeps in ``forward_ret_dict`` what ``get_loss`` needs.
    To code outside of the models, a head describes itself with two methods:

    ``score_taps()``
        Which of its modules give the class scores. Losses use them to find where a teacher sees
        objects.
    ``prediction_layout()``
        What its raw predictions mean: which modules give them, to which anchors, cells or points
        they belong, and how codes become boxes. Losses on predictions read a head by its layout.

    Args:
        model_cfg: the head's block.
        num_class: number of classes to predict.
        predict_boxes_when_training: decode boxes in training too, as proposals of a second stage.

    Attributes:
        leaves_out_frames: whether its loss leaves out the frames that ``loss_frames`` of a batch
            does not count.
        has_dense_pass: whether ``forward`` calls a method ``dense_pass``, which an evaluation may
            compile (``models/dense_pass.py``).
    """

    leaves_out_frames: ClassVar[bool] = False
    has_dense_pass: ClassVar[bool] = False

    def __init__(
        self,
        model_cfg: ConfigDict,
        num_class: int,
        predict_boxes_when_training: bool = False,
    ) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.num_class = num_class
        self.predict_boxes_when_training = predict_boxes_when_training
        # Predictions and targets of the last forward, by name.
        self.forward_ret_dict: BatchDict = {}

    def __getstate__(self) -> dict[str, object]:
        """State for copies and pickles, without the last forward.

        Its tensors belong to an autograd graph, and torch cannot copy those.
        """
        return {**self.__dict__, "forward_ret_dict": {}}

    def score_taps(self) -> list[str]:
        """Paths, relative to this head, of the modules whose outputs are class logits."""
        raise NotImplementedError(f"{type(self).__name__} does not define score_taps")

    def prediction_layout(self) -> PredictionLayout | None:
        """What the raw predictions mean; None if there are none to compare with another head's."""
        raise NotImplementedError(f"{type(self).__name__} does not define prediction_layout")

    def get_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the last forward in training, and its detached parts by name for the log."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_loss")


def sum_losses(losses: Mapping[str, Tensor], total: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of weighted losses; and, for the log, each of them and the sum under the name ``total``.

    The log entries are detached but stay on their device: reading them would wait for the GPU.
    """
    loss = torch.stack(list(losses.values())).sum()
    entries = {name: value.detach() for name, value in losses.items()}
    entries[total] = loss.detach()
    return loss, entries


def concatenate_boxes(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Final boxes of several heads in one frame, one after the other; all have the same keys."""
    boxes = {}
    for key in parts[0]:
        boxes[key] = torch.cat([part[key] for part in parts])
    return boxes


def one_hot_labels(labels: Tensor, classes: Tensor, dtype: torch.dtype) -> Tensor:
    """Targets (..., C) of a sigmoid for every class: 1 where a label (...) is among classes (C,).

    Background and ignored rows, whose labels are 0 and -1, are all zeros.
    """
    return (labels.unsqueeze(-1) == classes).to(dtype)


def convolutions_of(layers: nn.Module) -> list[nn.Conv2d]:
    """The 2D convolutions in ``layers``, in order."""
    return [module for module in layers.modules() if isinstance(module, nn.Conv2d)]


def check_map_size(features: Tensor, expected: Sequence[int], stride_key: str) -> None:
    """Raise a ConfigError if the map of features (B, C, ny, nx) is not ``expected`` (nx, ny).

    Args:
        stride_key: path of the yaml key that decides the expected size.
    """
    ny, nx = features.shape[-2:]
    if [nx, ny] != list(expected):
        raise ConfigError(
            f"{stride_key} makes a map of {expected[0]} x {expected[1]} cells, but the feature map "
            f"has {nx} x {ny}; set it to the stride of MODEL.BACKBONE_2D"
        )
