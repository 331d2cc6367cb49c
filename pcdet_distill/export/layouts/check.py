"""The check of a layout: the other program's road beside the checkpoint, frame by frame."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from ...inference import Detector
from ...models import Detector3DTemplate
from ...types import BatchDict
from ..boxes import final_boxes
from ..check import ExportError
from ..config import ExportConfig
from ..reference import run_reference
from ..same_boxes import Side, same_boxes
from .files import LayoutFiles

# Rounding may decide about a few boxes of equal scores, not about many.
MOST_EXCUSED = 2
EXCUSED_SHARE = 0.05


def check_layout(
    detector: Detector, files: LayoutFiles, config: ExportConfig, batches: Iterable[BatchDict]
) -> str:
    """Compare the final boxes; returns a sentence about them.

    Args:
        detector: of the checkpoint.
        files: of its layout.
        config: of its export in one file.
        batches: of one frame each.

    Raises:
        ExportError: a frame has other boxes.
    """
    model = detector.model
    assert isinstance(model, Detector3DTemplate)
    num_frames = num_boxes = num_excused = 0
    with detector.settings.applied_to(model):
        for batch in batches:
            reference = run_reference(model, batch, config.heads)
            select = functools.partial(final_boxes, reference.outputs, config)
            points = batch["points"][:, 1:].cpu().numpy()
            found = Side(files.program(points), functools.partial(files.program, points))
            expected = Side(reference.boxes, select)
            comparison = same_boxes(expected, found, config.post_processing)
            if not comparison.is_same:
                raise ExportError(
                    f"frame {batch['frame_id'][0]}: on the road of the other program "
                    f"{len(comparison.missing.scores)} boxes of the checkpoint are missing and "
                    f"{len(comparison.unexpected.scores)} are others"
                )
            num_frames += 1
            num_boxes += comparison.num_same
            num_excused += comparison.num_excused
    if num_excused > max(MOST_EXCUSED, EXCUSED_SHARE * num_boxes):
        raise ExportError(
            f"on the road of the other program {num_boxes} boxes are the checkpoint's and "
            f"{num_excused} are near ones, more than rounding explains"
        )
    return f"{num_frames} frames: the other program's road gives the same {num_boxes} final boxes"
