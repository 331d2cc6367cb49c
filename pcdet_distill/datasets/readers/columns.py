"""From the columns of a file to a PointCloud: names, order, and numbers that float32 can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError
from .cloud import BYTE_SCALE, UNIT_SCALE, PointCloud, scale_of_intensity
from .names import INTENSITY, PLACE, TIMESTAMP, feature_names, plain_name
from .times import times_in_seconds

# float32 resolves 1 mm there, and no LiDAR sees that far.
FARTHEST_M = 10_000.0
OFFSET_STEP_M = 1000.0
FEWEST_NUMBERS = 0.5  # share of finite values below which a column means nothing
MANY_AT_ORIGIN = 0.01  # share of points
SCALE_NOTE = "intensity looks like a scale of"
COLOURS = ("rgb", "rgba")  # PCL packs three bytes into the bits of one number

Columns = dict[str, np.ndarray]


def cloud_of_columns(
    columns: Mapping[str, np.ndarray], where: str | Path, notes: Sequence[str] = ()
) -> PointCloud:
    """The cloud of named columns (N,) of any number type.

    Args:
        columns: name in the file to values.
        where: the file, and for a bag the message, at the begin of messages.
        notes: sentences of the reader on the file.

    Raises:
        DataError: there is no x, y or z.
    """
    notes = list(notes)
    plain = _unpack_colours(columns)
    raw_of = dict(zip(feature_names(list(plain)), plain))
    values_of = {feature: plain[raw] for feature, raw in raw_of.items()}
    _check_place(raw_of, list(columns), where)
    notes.append(_note_of_origin(values_of))
    offset = _subtract_offset(values_of, notes)
    if TIMESTAMP in values_of:
        raw_name = plain_name(raw_of[TIMESTAMP])
        values_of[TIMESTAMP], note = times_in_seconds(raw_name, values_of[TIMESTAMP])
        notes.append(note)
    _leave_out_senseless(values_of, notes)
    features = _in_order(values_of)
    points = _stack([values_of[feature] for feature in features])
    if INTENSITY in features:
        notes.append(_intensity_note(points[:, features.index(INTENSITY)]))
    note = "; ".join(note for note in notes if note)
    return PointCloud(points, tuple(features), note, offset)


def _check_place(features: Mapping[str, str], found: Sequence[str], where: str | Path) -> None:
    missing = [name for name in PLACE if name not in features]
    if missing:
        raise DataError(
            f"{where}: has no {', '.join(missing)}; expected columns x, y, z, "
            f"found {', '.join(found) or 'none'}"
        )


def _in_order(columns: Mapping[str, np.ndarray]) -> list[str]:
    """x, y, z, intensity, then the others in the order of the file."""
    first = [name for name in (*PLACE, INTENSITY) if name in columns]
    return first + [name for name in columns if name not in first]


def _stack(columns: Sequence[np.ndarray]) -> np.ndarray:
    """(N, C) float32 of C columns (N,). A value beyond float32 becomes infinity."""
    points = np.empty((len(columns[0]), len(columns)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for number, column in enumerate(columns):
            points[:, number] = column
    return points


def _unpack_colours(columns: Mapping[str, np.ndarray]) -> Columns:
    """Packed colours become red, green and blue of 0..255.

    As a float32 the bits of a colour are a meaningless number, often NaN.
    """
    plain: Columns = {}
    for name, values in columns.items():
        if plain_name(name) not in COLOURS or values.dtype.itemsize != 4:
            plain[name] = values
            continue
        bits = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="))).view(np.uint32)
        for shift, colour in ((16, "red"), (8, "green"), (0, "blue")):
            plain[colour] = (bits >> shift) & 255
    return plain


def _note_of_origin(columns: Columns) -> str:
    """Say that many points lie in the sensor itself."""
    at_origin = (columns["x"] == 0) & (columns["y"] == 0) & (columns["z"] == 0)
    num_points = len(at_origin)
    count = int(at_origin.sum())
    if count <= MANY_AT_ORIGIN * num_points:
        return ""
    return f"{count} of {num_points} points lie at (0, 0, 0), as rays without return are written"


def _subtract_offset(columns: Columns, notes: list[str]) -> tuple[float, float, float]:
    """Move world coordinates near zero, in place; returns what was subtracted, in metres.

    float32 resolves 0.5 m at the 5,000,000 m of a UTM northing, so such a coordinate is moved
    before it is rounded. A round offset keeps the numbers readable.
    """
    offset = [_offset_m(columns[name]) for name in PLACE]
    for name, shift_m in zip(PLACE, offset):
        if shift_m:
            columns[name] = columns[name].astype(np.float64) - shift_m
    if any(offset):
        shown = ", ".join(f"{shift_m:.0f}" for shift_m in offset)
        notes.append(f"world coordinates: ({shown}) m is subtracted, float32 cannot hold them")
    _note_rest(columns, notes)
    return (offset[0], offset[1], offset[2])


def _offset_m(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    if len(finite) == 0 or np.abs(finite).max() <= FARTHEST_M:
        return 0.0
    if values.dtype.kind == "f" and values.dtype.itemsize <= 4:
        return 0.0  # already rounded: to move it would only hide that
    return float(np.round(np.median(finite) / OFFSET_STEP_M) * OFFSET_STEP_M)


def _note_rest(columns: Columns, notes: list[str]) -> None:
    """Say that coordinates are still too large for float32."""
    for name in PLACE:
        finite = columns[name][np.isfinite(columns[name])]
        farthest = float(np.abs(finite).max()) if len(finite) else 0.0
        if farthest > FARTHEST_M:
            step_m = float(np.spacing(np.float32(farthest)))
            notes.append(
                f"{name} reaches {farthest:,.0f} m, where float32 has steps of {step_m:.3g} m: "
                "expected metres from the sensor"
            )


def _leave_out_senseless(columns: Columns, notes: list[str]) -> None:
    """Drop further columns that hold hardly a number, or every point would count as bad.

    Points without a place are ignored: in an organised cloud they may be most, without any number.
    """
    has_place = np.ones(len(columns["x"]), dtype=bool)
    for name in PLACE:
        has_place &= np.isfinite(columns[name])
    if not has_place.any():
        return
    for name in [name for name in columns if name not in PLACE]:
        with np.errstate(over="ignore", invalid="ignore"):
            is_number = np.isfinite(columns[name][has_place].astype(np.float32))
        if is_number.mean() < FEWEST_NUMBERS:
            del columns[name]
            notes.append(f"{name} is left out, it holds hardly a finite number")


def _intensity_note(values: np.ndarray) -> str:
    scale = scale_of_intensity(values)
    if scale == UNIT_SCALE:
        return ""
    highest = float(values[np.isfinite(values)].max())
    shown = "0..255" if scale == BYTE_SCALE else "0..65535"
    return f"{SCALE_NOTE} {shown} (highest {highest:g})"
