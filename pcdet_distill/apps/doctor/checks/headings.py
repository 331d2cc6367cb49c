"""Headings: negated, turned by 90 degrees, KITTI's rotation_y, length and width swapped."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from ....datasets.labelled_objects import LabelledObject
from ....texts import listed
from ..case import Case, of_class
from ..changes import Verdict, grouped
from ..finding import Finding, Severity, percent
from ..geometry import TURNED, diagnose, finding_of

CHECK = "headings"
MOVING_MPS = 1.0  # slower objects have no reliable direction of motion
LEAST_MOVING = 10
LEAST_HEADINGS = 10


def check_headings(case: Case) -> Iterator[Finding]:
    """Whether points fit into the boxes as they are turned."""
    diagnosis = diagnose(case)
    headings = np.array([labelled.box[6] for _, labelled in case.objects()])
    if len(headings) >= LEAST_HEADINGS and np.ptp(headings) < 1e-6:
        yield _all_equal(headings, bool(diagnosis.clear or diagnosis.partial))
        return
    for finding, names in _with_names(case, diagnosis.clear):
        yield _more_exact(case, finding, names)
    for names in grouped(diagnosis.partial):
        yield _mixed(names, [diagnosis.partial[name] for name in names])
    yield from _motion(case)


def _all_equal(headings: np.ndarray, is_turned: bool) -> Finding:
    what = f"all {len(headings)} boxes have the heading {headings[0] + 0.0:.2f}"
    if is_turned:
        what += ", though the points show objects that are turned"
    return Finding(
        CHECK,
        Severity.WARNING if is_turned else Severity.NOTE,
        "headings",
        f"{what}: no direction can be learnt, and boxes of turned objects do not fit them",
        fix="label the headings of the objects",
    )


def _with_names(case: Case, clear: dict[str, Verdict]) -> Iterator[tuple[Finding, list[str]]]:
    chosen = {n: v for n, v in clear.items() if v.change.check == CHECK}
    for names in grouped(chosen):
        yield finding_of(names, [chosen[name] for name in names]), names


def _more_exact(case: Case, finding: Finding, names: list[str]) -> Finding:
    """Say whether headings are turned or sizes swapped, where the sizes of the class show it."""
    if diagnose(case).clear[names[0]].change.name != TURNED:
        return finding
    boxes = [labelled.box for _, labelled in case.objects() if labelled.name in names]
    ratio = float(np.median([box[3] / box[4] for box in boxes]))
    numbers_text = finding.what.partition(";")[2]
    if ratio < 0.9:
        return dataclasses.replace(
            finding,
            what=f"points fit better if length and width are swapped: dx, along the heading, is "
            f"{ratio:.2f} of dy;{numbers_text}",
            fix="swap dx (length, along the heading) and dy (width) in the labels",
        )
    if ratio > 1.1:
        return dataclasses.replace(
            finding,
            what="points fit better if boxes are turned by 90 degrees: headings seem to count "
            f"from the y axis;{numbers_text}",
            fix="write heading + pi/2 (or - pi/2): 0 points along +x, forward",
        )
    return finding


def _mixed(names: list[str], verdicts: list[Verdict]) -> Finding:
    first = verdicts[0]
    gains = sum(verdict.votes.gains for verdict in verdicts)
    informative = sum(verdict.votes.informative for verdict in verdicts)
    return Finding(
        CHECK,
        Severity.WARNING,
        f"class {listed(names)}, frame {listed(first.frames)}",
        f"for {gains} of {informative} objects points fit better if {first.change.what}, while the "
        "others are right: two conventions seem to be mixed",
        fix=f"for these objects: {first.change.fix}",
        frames=first.frames,
    )


def _motion(case: Case) -> Iterator[Finding]:
    """Headings against velocities, where boxes have them."""
    objects = [(f, o) for f, o in case.objects() if len(o.box) >= 9 and is_moving(o)]
    for name in dict.fromkeys(labelled.name for _, labelled in objects):
        moving = of_class(objects, name)
        if len(moving) < LEAST_MOVING:
            continue
        cosine = np.array([along_motion(labelled) for _, labelled in moving])
        backwards = float((cosine < -0.7).mean())
        sideways = float((np.abs(cosine) < 0.3).mean())
        if max(backwards, sideways) < 0.5:
            continue
        how = "backwards" if backwards > sideways else "sideways"
        yield Finding(
            CHECK,
            Severity.WARNING,
            f"class {name}, velocities",
            f"{percent(max(backwards, sideways))} of {len(moving)} moving objects drive {how} by "
            "their heading",
            fix="headings point to the front; velocities are vx, vy in LiDAR coordinates",
            frames=tuple(dict.fromkeys(frame.name for frame, _ in moving))[:4],
        )


def is_moving(labelled: LabelledObject) -> bool:
    """Whether its velocity is known and not small."""
    speed = float(np.hypot(labelled.box[7], labelled.box[8]))
    return bool(np.isfinite(speed)) and speed > MOVING_MPS


def along_motion(labelled: LabelledObject) -> float:
    """Cosine of the angle between heading and velocity."""
    vx, vy = labelled.box[7:9]
    heading = labelled.box[6]
    return float((vx * np.cos(heading) + vy * np.sin(heading)) / np.hypot(vx, vy))
