"""Which boxes changed: the picture, one sentence, and a table."""

from __future__ import annotations

from collections.abc import Sequence

from ...report.page import Html, figure, paragraph, section, table
from .box_pictures import draw_boxes
from .boxes import MOVED_M, RIGHT_IOU, Change, changed_boxes
from .contents import FrameData, Shown
from .words import metres, title_of, webp


def box_section(shown: Shown, data: FrameData) -> Html:
    """Which boxes changed."""
    before, after = shown.sides.both
    names = ["teacher", after.name]
    compared = ("teacher", after.name)
    if before.is_trained:
        names = ["teacher", before.name, after.name]
        compared = (before.name, after.name)
    first, second = data.boxes[compared[0]], data.boxes[compared[1]]
    changes = changed_boxes(first, second, data.labels)
    picture = draw_boxes(
        data.scene,
        [(title_of(name), data.boxes[name]) for name in names],
        changes,
        shown.cfg.CLASS_NAMES,
        (first, second),
    )
    return section(
        f"Frame {data.scene.name}: boxes",
        paragraph(summary_of_changes(changes, compared, shown.score)),
        figure(
            webp(picture, "boxes of the models, and those that changed"), box_caption(shown.score)
        ),
        change_table(changes, compared),
    )


def summary_of_changes(
    changes: Sequence[Change], compared: tuple[str, str], least_score: float
) -> str:
    """One sentence with the numbers."""
    words = []
    for kind in ("gained", "lost", "moved"):
        chosen = [change for change in changes if change.kind == kind]
        right = sum(change.is_right for change in chosen)
        words.append(f"{len(chosen)} {kind} ({right} right)")
    of = "teacher" if compared[0] == "teacher" else f"student {compared[0]}"
    return (
        f"Boxes of the student {compared[1]}, compared with the {of}: {', '.join(words)}, at a "
        f"score of {least_score:g} or more."
    )


def box_caption(least_score: float) -> str:
    """How to read the picture."""
    return (
        f"Boxes with a score of {least_score:g} or more, with their scores; dashed: labelled "
        "objects. The last panel shows only boxes that differ; the numbers are those of the table. "
        f"Right: overlaps a labelled object of its class by an IoU of {RIGHT_IOU:g} seen from "
        f"above. Moved: by more than {MOVED_M:g} m or 10 degrees."
    )


def change_table(changes: Sequence[Change], compared: tuple[str, str]) -> Html:
    """One row for each changed box."""
    if not changes:
        return Html("")
    rows = []
    for number, change in enumerate(changes, start=1):
        errors = [metres(change.error_before_m), metres(change.error_after_m)]
        right = "yes" if change.is_right else "no"
        rows.append([str(number), change.kind, change.name, right, *errors])
    errors_of = [f"centre off, {name}" for name in compared]
    return table(["box", "change", "class", "right", *errors_of], rows)
