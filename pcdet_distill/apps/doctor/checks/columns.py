"""The columns of the points: their number, NaN, constants, and the scale of the intensity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....datasets.readers.column_count import contradicted_by
from ....texts import listed
from ..case import Case
from ..finding import Finding, Severity, percent
from ..frames import Frame

CHECK = "columns"
FEW_FRAMES = 4
LEAST_POINTS = 500
FARTHEST_M = 600.0  # no LiDAR for cars sees so far
CLOSEST_M = 1.0  # a cloud that ends so near is not in metres
OTHER_UNIT = 30.0  # streets and halls differ by less; an inch is 39 times as many as a metre
CONSTANT = 1e-6
MAY_BE_CONSTANT = ("sensor", "timestamp", "time", "beam", "ring")


def check_columns(case: Case) -> Iterator[Finding]:
    """Whether the columns are what src_feature_list says."""
    features = list(case.spec.point_feature_encoder.src_feature_list)
    used = list(case.spec.point_feature_encoder.used_feature_list)
    for split in case.splits.values():
        frames = [frame for frame in split.frames if frame.num_points]
        wrong = [frame for frame in frames if frame.columns.shape[1] != len(features)]
        if wrong:
            found = wrong[0].columns.shape[1]
            yield _wrong_number(case, split.name, wrong, found, features)
            continue
        yield from _not_finite(split.name, frames, features)
        yield from _misread(case, split.name)
        yield from _not_metres(split.name, frames)
        yield from _constant(case, split.name, frames, features, used)


def _wrong_number(
    case: Case, split: str, wrong: list[Frame], found: int, features: list[str]
) -> Finding:
    names = features[:found]
    names += [f"column_{number}" for number in range(len(names), found)]
    key = case.key("POINT_FEATURE_ENCODING.src_feature_list")
    return Finding(
        CHECK,
        Severity.ERROR if found < len(features) else Severity.WARNING,
        f"{key}; split {split}, frame {listed(frame.name for frame in wrong)}",
        f"{len(wrong)} frames have points of {found} columns, but src_feature_list names "
        f"{len(features)}: {', '.join(features)}",
        fix="name every column of the files in src_feature_list, in their order",
        changes={key: names} if found > len(features) else {},
    )


def _not_finite(split: str, frames: list[Frame], features: list[str]) -> Iterator[Finding]:
    for column, name in enumerate(features):
        bad = [frame for frame in frames if frame.columns[5, column] > 0]
        if not bad:
            continue
        worst = max(frame.columns[5, column] for frame in bad)
        yield Finding(
            CHECK,
            Severity.ERROR,
            f"split {split}, column {name}, frame {listed(frame.name for frame in bad)}",
            f"{len(bad)} of {len(frames)} frames hold NaN or infinity in the column {name}, up to "
            f"{percent(worst)} of their points: the loss becomes NaN",
            fix="drop the points that are not finite when the files are converted",
        )


def _misread(case: Case, split_name: str) -> Iterator[Finding]:
    """Points that were written with another number of columns than they are read with."""
    width = len(case.spec.point_feature_encoder.src_feature_list)
    shown: list[int | None] = []
    for frame in case.splits[split_name].clouds[:FEW_FRAMES]:
        points = _unfiltered(case, split_name, frame)
        if len(points) >= LEAST_POINTS:
            shown.append(contradicted_by(points.ravel(), width))
    if not shown or None in shown:
        return
    yield Finding(
        CHECK,
        Severity.ERROR,
        f"{case.key('POINT_FEATURE_ENCODING.src_feature_list')}; split {split_name}",
        f"the point files seem to have {shown[0]} columns, but they are read with {width}: "
        "with these, x, y, z and intensity are mixed",
        fix=f"write the files with {width} columns, or read all {shown[0]} of them",
    )


def _unfiltered(case: Case, split_name: str, frame: Frame) -> np.ndarray:
    """The points of a frame as they stand in the file: without the view of the camera."""
    assert frame.points is not None
    item = case.splits[split_name].load(frame.index, whole=True)
    return frame.points if item is None else np.asarray(item["points"])


def _not_metres(split: str, frames: list[Frame]) -> Iterator[Finding]:
    reach = [float(np.abs(frame.columns[[1, 3], :2]).max()) for frame in frames]
    if not reach:
        return
    usual = float(np.median(reach))
    if CLOSEST_M < usual < FARTHEST_M:
        yield from _other_units(split, frames, reach, usual)
        return
    unit = "millimetres or centimetres" if usual >= FARTHEST_M else "kilometres or normalised"
    yield Finding(
        CHECK,
        Severity.ERROR,
        f"split {split}, columns x and y",
        f"the points reach {usual:.4g} from the sensor: they are not in metres, perhaps {unit}, or "
        "in the coordinates of a map",
        fix="convert points and boxes to metres, with the sensor at the origin",
    )


def _other_units(
    split: str, frames: list[Frame], reach: list[float], usual: float
) -> Iterator[Finding]:
    """Some clouds in centimetres among clouds in metres."""
    others = {}
    for frame, reach_of_frame in zip(frames, reach):
        if reach_of_frame > OTHER_UNIT * usual or 0 < reach_of_frame < usual / OTHER_UNIT:
            others[frame.name] = reach_of_frame
    if others:
        yield Finding(
            CHECK,
            Severity.ERROR,
            f"split {split}, columns x and y, frame {listed(others)}",
            f"the points of {len(others)} of {len(frames)} frames reach "
            f"{next(iter(others.values())):.4g} from the sensor, those of the others {usual:.4g}: "
            "they are in another unit",
            fix="convert the points of these frames to metres",
            frames=tuple(others)[:4],
        )


def _constant(
    case: Case, split: str, frames: list[Frame], features: list[str], used: list[str]
) -> Iterator[Finding]:
    for column, name in enumerate(features):
        if name not in used or name in MAY_BE_CONSTANT or not frames:
            continue
        lowest = min(frame.columns[0, column] for frame in frames)
        highest = max(frame.columns[4, column] for frame in frames)
        if highest - lowest > CONSTANT:
            continue
        is_place = column < 3
        rest = [feature for feature in used if feature != name]
        yield Finding(
            CHECK,
            Severity.ERROR if is_place else Severity.WARNING,
            f"split {split}, column {name}",
            f"the column {name} is {lowest:g} in every point, so it tells the model nothing",
            fix="check the conversion of the point files"
            if is_place
            else "write the real values into the files, or do not use the column",
            changes={}
            if is_place
            else {case.key("POINT_FEATURE_ENCODING.used_feature_list"): rest},
        )
