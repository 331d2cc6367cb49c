"""A checkpoint: what the model sees at all, and why its AP may be 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ....errors import CheckpointError
from ....models import Detector3DTemplate
from ....texts import listed
from ..case import Case
from ..detections import Detections, Seen, Sight, detect, load_model, look, sights_of
from ..finding import Finding, Severity, numbers, percent

CHECK = "model_sees"
WHERE = "--ckpt"
LEAST = 5  # objects, or pairs of object and detection, to say something
SCORE = 0.1
CONFIDENT = 0.5
OVERFIT = 0.4  # recall of the training above that of the validation
OFF_M = 0.3
OFF_SIZE = 1.3
QUARTER = np.pi / 4
MOST_TURNED = 0.4
NONSENSE = 5.0  # confident detections beside objects, for each object
SCALES = (1 / 255, 255.0)
TRIED_FRAMES = 3
BANDS_M = (0, 20, 40, 60, 1000)


def check_model_sees(case: Case) -> Iterator[Finding]:
    """Run the checkpoint on some frames of both splits."""
    if case.checkpoint is None:
        return
    try:
        model = load_model(case, Path(case.checkpoint))
    except CheckpointError as error:
        yield Finding(
            CHECK,
            Severity.ERROR,
            WHERE,
            str(error),
            fix="give the yaml that this checkpoint was trained with",
        )
        return
    seen = look(case, model)
    case.seen = seen
    if not seen.sights:
        yield Finding(CHECK, Severity.WARNING, WHERE, "no labelled object to look for")
        return
    yield _recall(seen.sights)
    yield from _scale(case, model, seen)
    yield from _nothing(seen)
    yield from _nonsense(seen)
    yield from _overfit(seen)
    yield from _boxes(seen)
    yield from _classes(case, seen)


def recall(sights: Sequence[Sight], score: float = SCORE) -> float:
    """Share of the objects near which there is a detection, of any class."""
    found = sum(sight.score >= score for sight in sights)
    return found / max(len(sights), 1)


def _recall(sights: Sequence[Sight]) -> Finding:
    """By class and distance: how many objects have a detection near them."""
    texts = []
    for name in dict.fromkeys(sight.labelled.name for sight in sights):
        own = [sight for sight in sights if sight.labelled.name == name]
        bands = []
        for low, high in zip(BANDS_M, BANDS_M[1:]):
            inside = [s for s in own if low <= s.labelled.distance_m < high]
            if inside:
                until = f"{low}-{high} m" if high < BANDS_M[-1] else f"beyond {low} m"
                found = sum(sight.score >= SCORE for sight in inside)
                bands.append(f"{until} {found}/{len(inside)}")
        texts.append(f"{name} {percent(recall(own))} ({', '.join(bands)})")
    return Finding(
        CHECK,
        Severity.NOTE,
        WHERE,
        f"objects with a detection of any class near them, at a score of {SCORE}: "
        f"{'; '.join(texts)}",
    )


def _nothing(seen: Seen) -> Iterator[Finding]:
    scores = np.concatenate([found.scores for found in seen.detections])
    if len(scores) and scores.max() >= SCORE:
        return
    highest = f"the highest score is {scores.max():.2f}" if len(scores) else "there is no detection"
    yield Finding(
        CHECK,
        Severity.ERROR,
        WHERE,
        f"the model sees nothing in {len(seen.detections)} frames: {highest}. AP is 0 because no "
        "detection is left",
        fix="train longer, and check that range, voxels and features are those of the training",
    )


def _nonsense(seen: Seen) -> Iterator[Finding]:
    """Many confident detections where nothing is."""
    confident = sum(int((found.scores >= CONFIDENT).sum()) for found in seen.detections)
    right = sum(sight.score >= CONFIDENT for sight in seen.sights)
    if confident - right <= NONSENSE * max(len(seen.sights), LEAST):
        return
    yield Finding(
        CHECK,
        Severity.ERROR,
        WHERE,
        f"{confident - right} of {confident} detections with a score above {CONFIDENT} lie near no "
        "labelled object: the input looks different from that of the training, or many objects "
        "are not labelled",
        fix="compare intensities, heights of the sensor, and point features with the training",
    )


def _scale(case: Case, model: Detector3DTemplate, seen: Seen) -> Iterator[Finding]:
    """Whether the model sees more when intensities have another scale."""
    if "intensity" not in case.spec.point_feature_encoder.used_feature_list:
        return
    chosen = seen.detections[:TRIED_FRAMES]
    now = _quality(case, chosen)
    for factor in SCALES:
        tried = [detect(case, model, found.frame, factor) for found in chosen]
        then = _quality(case, tried)
        if then >= max(2 * now, now + LEAST):
            yield Finding(
                CHECK,
                Severity.ERROR,
                f"{WHERE}, column intensity",
                f"with intensities times {factor:.3g} the model sees much more ({then:.0f} right "
                f"detections less false ones, in place of {now:.0f}): it was trained on another "
                "scale",
                fix="write intensities on the scale of the training",
            )


def _quality(case: Case, detections: Sequence[Detections]) -> float:
    """Objects found, less a tenth of the detections beside objects."""
    right = wrong = 0
    for found in detections:
        own = sum(sight.score >= CONFIDENT for sight in sights_of(case, found))
        right += own
        wrong += int((found.scores >= CONFIDENT).sum()) - own
    return right - 0.1 * wrong


def _overfit(seen: Seen) -> Iterator[Finding]:
    train = [sight for sight in seen.sights if sight.split == "train"]
    val = [sight for sight in seen.sights if sight.split == "val"]
    if min(len(train), len(val)) < LEAST:
        return
    if recall(train) - recall(val) < OVERFIT:
        return
    yield Finding(
        CHECK,
        Severity.WARNING,
        WHERE,
        f"the model finds {percent(recall(train))} of the objects in frames of train, but "
        f"{percent(recall(val))} in frames of val: it has learnt the training frames by heart, or "
        "the splits differ",
        fix="more frames, more augmentation; compare sensors and labels of both splits",
    )


def _boxes(seen: Seen) -> Iterator[Finding]:
    """Constant errors of the boxes that belong to objects."""
    pairs = [sight for sight in seen.sights if sight.score >= SCORE]
    if len(pairs) < LEAST:
        return
    iou = float(np.median([sight.iou for sight in pairs]))
    offset = np.median([sight.offset for sight in pairs], axis=0)
    frames = tuple(dict.fromkeys(sight.frame for sight in pairs))[:4]
    if np.abs(offset).max() > OFF_M:
        yield Finding(
            CHECK,
            Severity.ERROR,
            WHERE,
            f"detections are shifted by {numbers(offset)} m (x, y, z) in the median of "
            f"{len(pairs)} objects; their IoU is {iou:.2f}, so AP is low because of that",
            fix="labels of the training and of these frames have another origin or height",
            frames=frames,
        )
    ratio = np.median([sight.ratio for sight in pairs], axis=0)
    if max(ratio.max(), 1 / max(ratio.min(), 1e-6)) > OFF_SIZE:
        yield Finding(
            CHECK,
            Severity.ERROR,
            WHERE,
            f"sizes of detections are {numbers(ratio)} times those of the labels (length, width, "
            f"height); their IoU is {iou:.2f}",
            fix="compare the order and the unit of the sizes in both sets of labels",
            frames=frames,
        )
    yield from _headings(pairs, iou, frames)


def _headings(pairs: Sequence[Sight], iou: float, frames: tuple[str, ...]) -> Iterator[Finding]:
    long = [sight for sight in pairs if sight.labelled.box[3] > OFF_SIZE * sight.labelled.box[4]]
    if len(long) < LEAST:
        return
    turn = np.abs([sight.turn_rad for sight in long])
    across = float(((turn > QUARTER) & (turn < 3 * QUARTER)).mean())
    backwards = float((turn >= 3 * QUARTER).mean())
    if across > MOST_TURNED:
        yield Finding(
            CHECK,
            Severity.ERROR,
            WHERE,
            f"{percent(across)} of {len(long)} detections stand across their object; their IoU is "
            f"{iou:.2f}: the headings have another convention than in the training",
            fix="compare the conventions of the headings in both sets of labels",
            frames=frames,
        )
    elif backwards > MOST_TURNED:
        yield Finding(
            CHECK,
            Severity.WARNING,
            WHERE,
            f"{percent(backwards)} of {len(long)} detections point backwards: AP does not see it, "
            "but the orientation is wrong",
            fix="check DIR_OFFSET and the directions in the labels",
            frames=frames,
        )


def _classes(case: Case, seen: Seen) -> Iterator[Finding]:
    """Classes that are taken for another one."""
    for name in case.class_names:
        pairs = [s for s in seen.sights if s.labelled.name == name and s.score >= SCORE]
        if len(pairs) < LEAST:
            continue
        counts = Counter(sight.name for sight in pairs)
        other, number = counts.most_common(1)[0]
        if other == name or number <= len(pairs) / 2:
            continue
        yield Finding(
            CHECK,
            Severity.ERROR,
            f"{WHERE}, class {name}",
            f"{number} of {len(pairs)} '{name}' are detected as '{other}': CLASS_NAMES may have "
            f"had another order in the training than {listed(case.class_names, 10)}",
            fix="write CLASS_NAMES in the order of the training",
        )
