"""The names of columns: every maker of sensors has its own for intensity, ring and time."""

from __future__ import annotations

from collections.abc import Sequence

PLACE = ("x", "y", "z")
INTENSITY = "intensity"
RING = "ring"
TIMESTAMP = "timestamp"

# Our name to the names in files, the best first: of two that a file has, the first gets our name.
OTHER_NAMES = {
    "x": ("x", "pos_x", "position_x", "point_x", "coord_x"),
    "y": ("y", "pos_y", "position_y", "point_y", "coord_y"),
    "z": ("z", "pos_z", "position_z", "point_z", "coord_z"),
    INTENSITY: (
        "intensity",
        "i",
        "intensities",
        "reflectivity",
        "reflectance",
        "reflection",
        "remission",
        "remissions",
        "signal",
    ),
    RING: (
        "ring",
        "channel",
        "laser_number",
        "laser_id",
        "laserid",
        "laser",
        "ring_id",
        "ring_index",
        "beam",
        "beam_id",
        "line",
    ),
    TIMESTAMP: (
        "timestamp",
        "time_stamp",
        "time",
        "t",
        "offset_ns",
        "offset_time",
        "time_offset",
        "timeoffset",
        "timestamp_ns",
        "timestamp_us",
        "time_ns",
        "time_us",
        "t_ns",
        "t_us",
        "relative_time",
        "point_time",
        "gps_time",
        "gpstime",
    ),
}
PREFIXES = ("scalar_", "vertex_")  # CloudCompare's scalar fields, and others'


def feature_names(raw_names: Sequence[str]) -> list[str]:
    """One lower-case feature name for each name of a file, all different.

    >>> feature_names(["X", "Y", "Z", "reflectivity", "laser_number"])
    ['x', 'y', 'z', 'intensity', 'ring']
    >>> feature_names(["x", "y", "z", "reflectivity", "intensity"])
    ['x', 'y', 'z', 'reflectivity', 'intensity']
    """
    names = [plain_name(raw) for raw in raw_names]
    for ours, others in OTHER_NAMES.items():
        present = [name for name in others if name in names]
        if present:
            names[names.index(present[0])] = ours
    return _without_repeats(names)


def plain_name(raw: str) -> str:
    """A name in lower case, without spaces and without the prefix of a program."""
    name = "_".join(raw.strip().lower().split())
    for prefix in PREFIXES:
        if name.startswith(prefix) and len(name) > len(prefix):
            name = name[len(prefix) :]
    return name


def _without_repeats(names: Sequence[str]) -> list[str]:
    """The names, where the second ``a`` is called ``a_2``."""
    unique: list[str] = []
    for name in names:
        free = name
        number = 2
        while free in unique:
            free = f"{name}_{number}"
            number += 1
        unique.append(free)
    return unique
