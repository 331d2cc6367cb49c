"""Soft targets on frames without labels: only the teacher's predictions teach there.

    labelled frames      detection loss on the labels + losses of all terms
    unlabelled frames    losses of all terms alone; the detection loss leaves the frame out

Hard pseudo labels train what the teacher has missed as background. Here nothing is background by
default: where the teacher is between yes and no, it says nothing. A position of an unlabelled frame
whose best score of the teacher lies between UNSURE_FROM and UNSURE_TO is left out of the terms that
compare predictions, so its gradient is zero.

Each frame keeps its weight in the mean over the batch: a labelled frame counts no more beside
unlabelled ones than beside labelled ones.

Departures: there is no single paper. In both below the teacher is a moving average of the student;
here it is trained before.

* Soft teacher (Xu et al., ICCV 2021) takes confident boxes as labels. All other boxes are
  background, weighted by the teacher's score of it.
* Dense teacher (Zhou et al., ECCV 2022) compares dense scores, as here. It keeps the scores of the
  best few percent of the positions, and sets all others to zero. Here low scores stay as they are,
  and the middle ones are left out: a missed object lies among them.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ...config import option
from ...errors import ConfigError, DataError
from ...models.dense_heads.detection_head import LOSS_FRAMES
from ...types import BatchDict, ConfigDict
from ..unsure import UNSURE_ZONE, UnsureZone
from .base import BatchTransform

if TYPE_CHECKING:
    from ..tap_source import TapSource
    from ..teacher import Predictor

IS_LABELLED = "is_labelled"
HEAD_SLOTS = ("dense_head", "point_head", "roi_head")


@dataclasses.dataclass(frozen=True)
class SoftTargetOptions:
    """Between which scores the teacher is unsure."""

    unsure_from: float = option(
        0.1,
        at_least=0,
        at_most=1,
        help="best score of the teacher from which a position of an unlabelled frame is left out",
    )
    unsure_to: float = option(
        0.3, at_least=0, at_most=1, help="and up to which; at least UNSURE_FROM"
    )


class SoftTargets(BatchTransform):
    """Leaves unlabelled frames out of the detection loss, and unsure positions of them out."""

    options_class = SoftTargetOptions
    labels_frames = True
    changes = "which frames the detection loss counts"

    options: SoftTargetOptions

    @classmethod
    def from_config(cls, cfg: ConfigDict, where: str) -> SoftTargets:
        """The transform of a block. The zone must not be empty the wrong way round."""
        transform = super().from_config(cfg, where)
        options = transform.options
        if options.unsure_from > options.unsure_to:
            raise ConfigError(
                f"{where}.UNSURE_TO: expected at least UNSURE_FROM, {options.unsure_from}, "
                f"found {options.unsure_to}"
            )
        assert isinstance(transform, SoftTargets)
        return transform

    def check_student(self, student: TapSource, where: str) -> None:
        """Refuse a student with a head that cannot leave frames out of its loss."""
        for slot in HEAD_SLOTS:
            head = getattr(student.model, slot, None)
            if head is not None and not getattr(head, "leaves_out_frames", False):
                raise ConfigError(
                    f"{where}.NAME: SoftTargets leaves frames out of the detection loss, and "
                    f"{type(head).__name__} of the student cannot; expected AnchorHeadSingle, "
                    "AnchorHeadMulti or CenterHead of this package, without a second stage"
                )

    def prepare(self, batch_dict: BatchDict, teacher: Predictor) -> None:
        """Say which frames have a detection loss, and where the teacher is unsure."""
        if IS_LABELLED not in batch_dict:
            raise DataError(
                f"SoftTargets: the batch has no entry '{IS_LABELLED}' (B,) that says which of its "
                "frames are labelled; datasets write it after take_unlabelled()"
            )
        is_labelled = batch_dict[IS_LABELLED] > 0
        self.logs["unlabelled"] = (~is_labelled).float().sum()
        batch_dict[LOSS_FRAMES] = is_labelled
        batch_dict[UNSURE_ZONE] = UnsureZone(
            is_labelled, self.options.unsure_from, self.options.unsure_to
        )
