"""BatchTransform: changes a batch by what the teacher predicts, before the student runs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from ...config import NoOptions, read_options
from ...types import BatchDict, ConfigDict

if TYPE_CHECKING:
    from ..tap_source import TapSource
    from ..teacher import Predictor


class BatchTransform(nn.Module):
    """Replaces labels or points of a batch. It has no loss: the student's own loss changes.

    Args:
        options: an instance of ``options_class``; its defaults if None.

    Attributes:
        options_class: dataclass of the options; the yaml keys are its field names in capitals.
        labels_frames: whether frames without labels can be trained on with it: it makes labels, or
            leaves such frames out of the detection loss.
        changes: what it changes, for messages.
        logs: numbers of the last batch for the training log.
    """

    options_class: ClassVar[type] = NoOptions
    labels_frames: bool = False
    changes: ClassVar[str] = "the labels"

    def __init__(self, options: object = None) -> None:
        super().__init__()
        self.options: Any = self.options_class() if options is None else options
        self.logs: dict[str, float | Tensor] = {}

    @classmethod
    def from_config(cls, cfg: ConfigDict, where: str) -> BatchTransform:
        """Build from a block of DISTILL.TERMS without its NAME; ``where`` is its key path."""
        return cls(read_options(cls.options_class, cfg, where, also_known=("NAME",)))

    def check_student(self, student: TapSource, where: str) -> None:
        """Refuse a student that the transform does not work with; ``where`` is its key path."""

    def prepare(self, batch_dict: BatchDict, teacher: Predictor) -> None:
        """Replace entries of ``batch_dict``. Tensors are shared, so none is changed in place."""
        raise NotImplementedError(f"{type(self).__name__} does not define prepare")
