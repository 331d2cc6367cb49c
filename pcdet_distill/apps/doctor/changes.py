"""Would the boxes hold more points if they were turned, moved or resized in some way?

LiDAR points lie on the surfaces of objects. A box that is turned, moved or resized loses many of
them, and one that was wrong gains them when it is put right. So for each known mistake the
opposite change is tried on every object, and the objects vote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...datasets.labelled_objects import BoxChange, LabelledObject, Votes, counts_of_changes, vote
from .case import Case, of_class
from .frames import Frame

MOST_OBJECTS = 600  # of one class that vote
# Most objects gain by the change.
CLEAR_SHARE = 0.8  # gains of gains and losses
CLEAR_GAINING = 0.2  # of the informative objects
LEAST_GAINS = 4
CLEAR_RATIO = 1.12  # points after, of points before
# Some objects gain, while others lose: the labels have two conventions.
SOME_GAINING = 0.04
MUCH_MORE = 1.6
MUCH_MORE_POINTS = 8
MANY_GAINING = 0.12
LEAST_MANY = 6
NEARLY_BEST = 0.95  # of the points inside after the best change
OFF_GROUND_M = 0.3  # median gap below a box, beyond which its height is not trusted

Objects = list[tuple[Frame, LabelledObject]]


@dataclass(frozen=True)
class Change:
    """The opposite of a known mistake.

    Attributes:
        check: name of the check that reports it.
        name: different for different mistakes.
        change: maps a box (7,) as labelled to the box that was meant.
        what: the mistake, after "points fit better if": "headings are negated".
        fix: how the labels are mended.
        trust: below 1 for one of many similar changes, of which the best is good by chance.
    """

    check: str
    name: str
    change: BoxChange
    what: str
    fix: str
    trust: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """What a change does to the objects of a class.

    Attributes:
        change: the change.
        votes: of the objects.
        frames: names of frames with objects that gain, those that gain most first.
        is_clear: whether most objects gain.
        is_partial: whether some objects gain, though most do not.
        kinds: number of different sizes of objects that gain: one object, labelled in many frames,
            is one kind.
    """

    change: Change
    votes: Votes
    frames: tuple[str, ...]
    is_clear: bool
    is_partial: bool
    kinds: int


def unchanged(box: np.ndarray) -> np.ndarray:
    """The box as labelled."""
    return box


def sampled(objects: Objects) -> Objects:
    """Up to ``MOST_OBJECTS`` of them, evenly spread."""
    if len(objects) <= MOST_OBJECTS:
        return objects
    places = np.linspace(0, len(objects) - 1, MOST_OBJECTS).astype(int)
    return [objects[place] for place in places]


def is_off_ground(objects: Objects) -> bool:
    """Whether the boxes do not begin at the ground beside them."""
    gaps = [o.bottom_z - o.ground_z for _, o in objects if np.isfinite(o.ground_z)]
    return bool(gaps) and abs(float(np.median(gaps))) > OFF_GROUND_M


def judge_changes(objects: Objects, changes: Sequence[Change]) -> list[Verdict]:
    """The verdict of some objects on each change."""
    chosen = sampled(objects)
    tried: list[BoxChange] = [unchanged, *(change.change for change in changes)]
    boxes = [labelled for _, labelled in chosen]
    counts = counts_of_changes(boxes, tried, grounded=is_off_ground(chosen))
    return [
        _judge(chosen, counts[:, 0], counts[:, number], change)
        for number, change in enumerate(changes, start=1)
    ]


def _judge(objects: Objects, before: np.ndarray, after: np.ndarray, change: Change) -> Verdict:
    votes = vote(before, after)
    gain_much = int((after > MUCH_MORE * before + MUCH_MORE_POINTS).sum())
    least = LEAST_GAINS if change.trust == 1 else 2 * LEAST_GAINS
    is_clear = (
        votes.gains >= least
        and votes.share >= CLEAR_SHARE
        and votes.gaining >= CLEAR_GAINING
        and votes.after >= CLEAR_RATIO * votes.before
    )
    some_gain_much = gain_much >= max(LEAST_GAINS, SOME_GAINING * votes.informative)
    many_gain = votes.gains >= max(LEAST_MANY, MANY_GAINING * votes.informative)
    order = np.argsort(before - after)
    gainers = [objects[place] for place in order[: votes.gains]]
    ranked = [frame.name for frame, _ in gainers]
    kinds = {tuple(np.round(labelled.box[3:6], 2)) for _, labelled in gainers}
    return Verdict(
        change,
        votes,
        tuple(dict.fromkeys(ranked))[:4],
        is_clear,
        is_partial=not is_clear and (some_gain_much or many_gain),
        kinds=len(kinds),
    )


def clear_changes(case: Case, changes: Sequence[Change]) -> dict[str, Verdict]:
    """For each class whose boxes are mended by some change, that change.

    Several changes can mend a box a little, as a shift does for a box that is turned. So of those
    that are nearly the best, the one that is nearly the best for most classes counts, and of
    equals the first in the list.
    """
    by_class = _verdicts_by_class(case, changes)
    near_best = {name: _nearly_best(verdicts) for name, verdicts in by_class.items()}
    support = {
        change.name: sum(change.name in names for names in near_best.values()) for change in changes
    }
    chosen: dict[str, Verdict] = {}
    for name, verdicts in by_class.items():
        candidates = [v for v in verdicts if v.change.name in near_best[name]]
        if not candidates:
            continue
        verdict = max(candidates, key=lambda candidate: support[candidate.change.name])
        if verdict.kinds >= LEAST_GAINS or not _is_contradicted(verdict, name, by_class):
            chosen[name] = verdict
    return chosen


def _is_contradicted(
    verdict: Verdict, name: str, by_class: Mapping[str, Sequence[Verdict]]
) -> bool:
    """Whether the objects of the other classes lose by the change.

    A mistake in writing labels is rarely one of a single class, and two excavators of an odd shape
    are no proof of it.
    """
    gains = losses = 0
    for other, verdicts in by_class.items():
        for own in verdicts:
            if other != name and own.change.name == verdict.change.name:
                gains += own.votes.gains
                losses += own.votes.losses
    return losses >= LEAST_GAINS and losses > gains


def _verdicts_by_class(case: Case, changes: Sequence[Change]) -> dict[str, list[Verdict]]:
    objects = case.objects()
    names = list(dict.fromkeys(labelled.name for _, labelled in objects))
    by_class = {name: judge_changes(of_class(objects, name), changes) for name in names}
    if len(names) > 1 and not any(map(_nearly_best, by_class.values())):
        # Few objects of each class may agree only together.
        together = judge_changes(objects, changes)
        return dict.fromkeys(names, together)
    return by_class


def _nearly_best(verdicts: Sequence[Verdict]) -> set[str]:
    """Names of the clear changes after which boxes hold nearly the most points."""
    clear = [verdict for verdict in verdicts if verdict.is_clear]
    scores = {v.change.name: v.change.trust * v.votes.after for v in clear}
    most = max(scores.values(), default=0.0)
    return {name for name, score in scores.items() if score >= NEARLY_BEST * most}


def grouped(verdicts: Mapping[str, Verdict]) -> list[list[str]]:
    """Classes with the same change together."""
    groups: dict[str, list[str]] = {}
    for name, verdict in verdicts.items():
        groups.setdefault(verdict.change.name, []).append(name)
    return list(groups.values())


def points_text(verdicts: Sequence[Verdict]) -> str:
    """``27 of 30 objects hold more points then, 1200 in place of 400``"""
    unique = list({id(verdict): verdict for verdict in verdicts}.values())
    gains = sum(verdict.votes.gains for verdict in unique)
    informative = sum(verdict.votes.informative for verdict in unique)
    before = sum(verdict.votes.before for verdict in unique)
    after = sum(verdict.votes.after for verdict in unique)
    return (
        f"{gains} of {informative} objects with enough points hold more of them then, "
        f"{after} in place of {before} points altogether"
    )
