"""The scale of the intensity: 0 to 1, 0 to 255, or a mixture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....datasets.doubts import BYTE_INTENSITY, MIXED_SCALES, UNIT_DATASETS, UNIT_INTENSITY
from ....datasets.facts import INTENSITY_NAMES
from ....texts import listed
from ..case import Case
from ..finding import Finding, Severity

CHECK = "intensity"


def check_intensity(case: Case) -> Iterator[Finding]:
    """Whether all frames have the same scale, and the one that is expected."""
    features = list(case.spec.point_feature_encoder.src_feature_list)
    column = next((features.index(name) for name in INTENSITY_NAMES if name in features), None)
    if column is None:
        return
    tops: dict[str, np.ndarray] = {}
    for name, split in case.splits.items():
        frames = [f for f in split.frames if f.num_points and f.columns.shape[1] > column]
        tops[name] = np.array([frame.columns[3, column] for frame in frames])
        yield from _mixed(name, [frame.name for frame in frames], tops[name])
        lowest = min((float(frame.columns[1, column]) for frame in frames), default=0.0)
        if lowest < -1e-3:
            yield Finding(
                CHECK,
                Severity.WARNING,
                f"split {name}, column {features[column]}",
                f"more than one in a hundred intensities are negative, down to {lowest:.3g}; "
                "this column may be something else",
                fix="compare src_feature_list with the order of the columns in the files",
            )
    usual = {name: float(np.median(top)) for name, top in tops.items() if len(top)}
    yield from _different(usual)
    yield from _scale(case, usual, features[column])


def _mixed(split: str, names: list[str], tops: np.ndarray) -> Iterator[Finding]:
    if len(tops) < 2:
        return
    large = tops > UNIT_INTENSITY
    if large.all() or not large.any():
        return
    factor = float(np.median(tops[large]) / max(np.median(tops[~large]), 1e-6))
    if factor < MIXED_SCALES:
        return
    rarer = large if large.sum() <= len(tops) / 2 else ~large
    frames = [name for name, is_rare in zip(names, rarer) if is_rare]
    yield Finding(
        CHECK,
        Severity.ERROR,
        f"split {split}, frame {listed(frames)}",
        f"{len(frames)} of {len(names)} frames have intensities on another scale than the rest, by "
        f"a factor of about {factor:.0f}",
        fix="divide the intensities of 0 to 255 by 255 when the files are converted",
        frames=tuple(frames[:4]),
    )


def _different(usual: dict[str, float]) -> Iterator[Finding]:
    if len(usual) < 2 or min(usual.values()) <= 0:
        return
    low, high = sorted(usual, key=lambda name: usual[name])
    if usual[high] / usual[low] < MIXED_SCALES:
        return
    yield Finding(
        CHECK,
        Severity.ERROR,
        f"splits {low} and {high}",
        f"intensities reach {usual[low]:.3g} in {low} and {usual[high]:.3g} in {high}: the model "
        "is tested on another scale than it is trained on",
        fix="write both splits with the same scale, 0 to 1",
    )


def _scale(case: Case, usual: dict[str, float], name: str) -> Iterator[Finding]:
    top = max(usual.values(), default=0.0)
    if top <= UNIT_INTENSITY:
        return
    dataset = str(case.data.get("DATASET"))
    scale = "0 to 255" if top <= BYTE_INTENSITY else f"0 to about {top:.0f}"
    what = f"intensities are on a scale of {scale} (99 % lie below {top:.0f})"
    if dataset in UNIT_DATASETS:
        yield Finding(
            CHECK,
            Severity.WARNING,
            f"column {name}",
            f"{what}; {dataset} and its published weights expect 0 to 1, and with larger numbers a "
            "detector gives confident nonsense",
            fix="divide the intensities by 255 when the files are written",
        )
    elif top > BYTE_INTENSITY:
        yield Finding(
            CHECK,
            Severity.WARNING,
            f"column {name}",
            f"{what}, far more than coordinates in metres: they drown the other inputs",
            fix="scale the intensities to 0 to 1 when the files are written",
        )
    else:
        yield Finding(
            CHECK,
            Severity.NOTE,
            f"column {name}",
            f"{what}; that works when everything is trained on it, but weights that were trained "
            "on 0 to 1 do not fit",
        )
