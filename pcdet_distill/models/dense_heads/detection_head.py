"""DetectionHead: what every head offers, whether dense, on points or of a second stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .prediction_layout import PredictionLayout


class DetectionHead(nn.Module):
    """Base of the heads. A subclass predicts in ``forward`` and keeps in ``forward_ret_dict`` what its losses need.

    A head describes itself to the outside with two methods:

    ``score_taps()``
        which of its layers give the class scores. Losses use them to find where a teacher sees objects.
    ``prediction_layout()``
        what its raw predictions mean: which modules give them, to which anchors, cells or points they belong, and how
        codes become boxes. Losses on predictions read a head by its layout.

    Args:
        model_cfg: the head's block.
        num_class: number of classes to predict.
        predict_boxes_when_training: decode boxes in training too, as the proposals of a second stage.
    """

    def __init__(
        self,
        model_cfg: Mapping[str, Any],
        num_class: int,
        predict_boxes_when_training: bool = False,
    ) -> None:
        super().__init__()
        self.model_cfg = model_cfg
        self.num_class = num_class
        self.predict_boxes_when_training = predict_boxes_when_training
        self.forward_ret_dict: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """State for copies and pickles, without the last forward: tensors inside a graph cannot be copied."""
        return {**self.__dict__, "forward_ret_dict": {}}

    def score_taps(self) -> list[str]:
        """Paths, relative to this head, of the modules whose outputs are class logits; empty if it has none."""
        raise NotImplementedError(f"{type(self).__name__} does not define score_taps")

    def prediction_layout(self) -> PredictionLayout | None:
        """What the raw predictions are; None if they cannot be compared with those of another detector."""
        raise NotImplementedError(f"{type(self).__name__} does not define prediction_layout")

    def get_loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the last forward in training, and its detached parts by name for the log."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_loss")
