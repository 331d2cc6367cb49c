"""Frames to look at: the worst ones of a model, or those in which two models differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..page import Html, details, figure, heading, join, paragraph, row, section, table
from ..plots import colour_legend
from ..record import Scene, SceneBoxes
from ..scenes import (
    COLOURS,
    LEGEND,
    draw_detections,
    error_words,
    frame_of,
    scenes_by_frame,
    threshold_words,
)
from ..view import View

NUM_OPEN = 4  # frames that need no click
MOST_DIFFERENT = 10
RULE = (
    "A detection finds an object of its class whose centre is within 2 m. Only detections above "
    "the score of the best F1 are drawn: {thresholds}. Objects outside of POINT_CLOUD_RANGE or "
    "without points do not count."
)


def worst_frames(view: View) -> Html:
    """The frames with most missed, invented and inexact boxes, the teacher's beside them."""
    scenes = view.record.scenes
    if not scenes:
        return Html("")
    blocks = [_worst(view, scene, number) for number, scene in enumerate(scenes)]
    arranged = join if scenes[0].teacher is not None else row
    rest = blocks[NUM_OPEN:]
    folded = details(f"{len(rest)} more frames", arranged(*rest)) if rest else Html("")
    total = _totals(view)
    return section(
        "What was missed, what was invented",
        paragraph(RULE.format(thresholds=threshold_words(view.record.thresholds)), kind="pale"),
        total,
        box_legend(),
        arranged(*blocks[:NUM_OPEN]),
        folded,
        about=f"The {len(scenes)} frames with most errors, from above; forward is up. Labelled "
        "objects are dashed. Point at a box for its score.",
    )


def box_legend() -> Html:
    """What the colours of boxes mean."""
    return colour_legend([(words, COLOURS[verdict]) for verdict, words in LEGEND.items()])


def _totals(view: View) -> Html:
    """Sums over all frames."""
    sums = [sum(column) for column in zip(*view.record.errors.values())]
    if not sums:
        return Html("")
    num_bad = sum(any(counts[1:]) for counts in view.record.errors.values())
    words = error_words(sums)
    return paragraph(
        f"Over all {len(view.record.errors)} frames: {words}; {num_bad} frames have an error."
    )


def _worst(view: View, scene: Scene, number: int) -> Html:
    frame = frame_of(scene, f"w{number}")
    words = error_words(view.record.errors[scene.frame_id])
    title = f"Frame {scene.frame_id}: {words}"
    own = draw_detections(frame, scene.objects, scene.detections, f"{title}, {view.label}")
    if scene.teacher is None:
        return figure(own, title=title)
    objects = replace(scene.objects, verdicts=scene.found_by_teacher)
    about = f"Frame {scene.frame_id}, teacher"
    teacher = draw_detections(frame, objects, scene.teacher, about)
    return join(heading(title), row(figure(own, view.label), figure(teacher, "teacher")))


def different_frames(
    views: Sequence[View], scenes: Mapping[str, Sequence[Scene]] | None = None
) -> Html:
    """The frames in which two models differ most.

    Args:
        scenes: of a frame, the scene of each model. None: those that both records hold.
    """
    first, second = views
    changes = error_changes(first, second)
    if not changes:
        return Html("")
    known = dict(scenes) if scenes is not None else _shared_scenes(first, second)
    listed = most_changed(changes)
    blocks = [
        _pair(views, known[frame_id], number)
        for number, frame_id in enumerate(name for name in listed if name in known)
    ]
    rest = blocks[NUM_OPEN:]
    rows = [
        [frame_id, *(_cell(view, frame_id) for view in views), f"{changes[frame_id]:+d}"]
        for frame_id in listed
    ]
    header = ["frame", *(f"errors, {view.label}" for view in views), "difference"]
    return section(
        "Where the two differ most",
        paragraph(_balance(changes, first.label, second.label)),
        table(header, rows) if rows else Html(""),
        box_legend() if blocks else Html(""),
        *blocks[:NUM_OPEN],
        details(f"{len(rest)} more frames", *rest) if rest else Html(""),
        about="Errors of a frame: objects missed, boxes invented, boxes that are inexact.",
    )


def error_changes(first: View, second: View) -> dict[str, int]:
    """Errors of the second model minus those of the first, for the frames that both have."""
    changes = {}
    for frame_id, counts in first.record.errors.items():
        others = second.record.errors.get(frame_id)
        if others is not None:
            changes[frame_id] = sum(others[1:]) - sum(counts[1:])
    return changes


def most_changed(changes: Mapping[str, int]) -> list[str]:
    """The frames with the largest differences; equal ones are left out."""
    ordered = sorted(changes, key=lambda frame_id: -abs(changes[frame_id]))
    return [frame_id for frame_id in ordered[:MOST_DIFFERENT] if changes[frame_id]]


def _balance(changes: Mapping[str, int], first: str, second: str) -> str:
    fewer = sum(change < 0 for change in changes.values())
    more = sum(change > 0 for change in changes.values())
    return (
        f"Of {len(changes)} frames '{second}' has fewer errors than '{first}' in {fewer}, more in "
        f"{more}, and as many in {len(changes) - fewer - more}."
    )


def _cell(view: View, frame_id: str) -> str:
    counts = view.record.errors[frame_id]
    return f"{sum(counts[1:])} ({counts[1]} missed, {counts[2]} invented, {counts[3]} inexact)"


def _shared_scenes(first: View, second: View) -> dict[str, list[Scene]]:
    own = scenes_by_frame(first.record)
    others = scenes_by_frame(second.record)
    return {name: [scene, others[name]] for name, scene in own.items() if name in others}


def _pair(views: Sequence[View], scenes: Sequence[Scene], number: int) -> Html:
    frame = frame_of(scenes[0], f"d{number}")
    pictures = []
    for view, scene in zip(views, scenes):
        objects: SceneBoxes = scene.objects
        about = f"Frame {scene.frame_id}, {view.label}"
        words = error_words(view.record.errors[scene.frame_id])
        picture = draw_detections(frame, objects, scene.detections, about)
        pictures.append(figure(picture, f"{view.label}: {words}"))
    return join(heading(f"Frame {scenes[0].frame_id}"), row(*pictures))
