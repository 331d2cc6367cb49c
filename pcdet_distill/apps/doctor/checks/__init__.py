"""The table of checks. Each is a function from a ``Case`` to findings, in a file of its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from ..case import Case
from ..finding import Finding, Severity
from .amount import check_amount
from .anchors import check_anchors
from .augmentation import check_augmentation
from .box_points import check_box_points
from .box_sizes import check_box_sizes
from .box_values import check_box_values
from .classes import check_classes
from .columns import check_columns
from .double_boxes import check_double_boxes
from .evaluation import check_evaluation
from .frame_labels import check_frame_labels
from .headings import check_headings
from .heights import check_heights
from .intensity import check_intensity
from .leaks import check_leaks
from .model_sees import check_model_sees
from .network import check_network
from .ranges import check_ranges
from .reading import check_reading
from .sampling import check_sampling
from .scene_frame import check_scene_frame
from .teacher import check_teacher
from .training import check_training
from .voxels import check_voxels

Check = Callable[[Case], Iterable[Finding]]

# Name -> function and what it looks at. docs/doctor.md has the same table.
CHECKS: dict[str, tuple[Check, str]] = {
    "reading": (check_reading, "frames that cannot be read, are empty, cut off, or have no labels"),
    "columns": (check_columns, "number of columns, NaN, constant columns, units of the points"),
    "intensity": (check_intensity, "scale of the intensity, equal in all frames"),
    "box_values": (check_box_values, "NaN, sizes below 0, degrees, sizes that are not metres"),
    "box_points": (check_box_points, "boxes without points, labels of another frame"),
    "scene_frame": (check_scene_frame, "axes of boxes and points, constant shifts between them"),
    "frame_labels": (
        check_frame_labels,
        "labels of the frame before or after, axes of some frames",
    ),
    "headings": (check_headings, "negated or turned headings, length and width swapped"),
    "heights": (check_heights, "boxes above or below the ground, z of the bottom as the centre"),
    "box_sizes": (check_box_sizes, "order of the sizes, half sizes, odd sizes for a class"),
    "double_boxes": (check_double_boxes, "objects that are labelled twice"),
    "classes": (check_classes, "absent, misspelt and untrained classes"),
    "amount": (check_amount, "how many objects there are to learn from and to evaluate on"),
    "ranges": (check_ranges, "points and boxes outside POINT_CLOUD_RANGE, z limits"),
    "voxels": (check_voxels, "grid and stride of the network, limits of voxels and points"),
    "anchors": (check_anchors, "anchors against sizes and heights of boxes, with proposals"),
    "leaks": (check_leaks, "copies of frames, validation frames that are trained on"),
    "sampling": (check_sampling, "database, classes and filters of gt_sampling"),
    "augmentation": (check_augmentation, "objects that are thrown out of the range, degrees"),
    "training": (check_training, "learning rate, number of steps, thresholds of detections"),
    "evaluation": (check_evaluation, "what KITTI's evaluation would ignore"),
    "teacher": (check_teacher, "the teacher's range, classes and features (DISTILL)"),
    "network": (check_network, "whether the model can be built, run and trained on a frame"),
    "model_sees": (check_model_sees, "with --ckpt: what the model sees, and why AP may be 0"),
}


# While one of the first has found an error in the labels, no yaml is made from these labels.
OF_LABELS = frozenset(
    {"columns", "box_values", "scene_frame", "frame_labels", "headings", "heights", "box_sizes"}
)
FROM_LABELS = frozenset({"ranges", "voxels", "anchors"})


def run_checks(case: Case, names: Iterable[str] = CHECKS) -> Iterator[Finding]:
    """The findings of these checks, in order.

    A check that stumbles over data that nobody thought of is a note, so that the others still
    report what they find.
    """
    labels_are_wrong = False
    for name in names:
        for finding in _findings_of(case, name):
            if name in OF_LABELS and finding.severity is Severity.ERROR:
                labels_are_wrong = True
            if labels_are_wrong and name in FROM_LABELS and finding.changes:
                finding = dataclasses.replace(
                    finding, changes={}, fix=f"first mend the labels; then {finding.fix}"
                )
            yield finding


def _findings_of(case: Case, name: str) -> Iterator[Finding]:
    check, _ = CHECKS[name]
    try:
        yield from check(case)
    except Exception as error:  # noqa: BLE001 (see run_checks)
        yield Finding(
            name,
            Severity.NOTE,
            name,
            f"this check could not be finished ({type(error).__name__}: {error})",
        )
