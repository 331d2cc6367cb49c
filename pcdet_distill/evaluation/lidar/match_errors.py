"""How far matched detections are from their objects: position, size, heading, velocity.

For a match with centres c and c', sizes s = (dx, dy, dz) and s', headings a and a', velocities v
and v':

* position: |c - c'| on the ground, in metres, and the height z' - z of the centre, with its sign.
* size: 1 - IoU of the two boxes with centres and headings made equal, as nuScenes measures it.
* heading: the smallest angle between a and a', 0 to pi, in radians.
* velocity: |v - v'|, in m/s, over the objects whose velocity is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ops.boxes import limit_period
from .frames import SIZES

VELOCITY = slice(7, 9)


@dataclass(frozen=True)
class MatchErrors:
    """Means over the matches of one class; None without matches.

    Attributes:
        num_matches: matches that position, size and heading are means over.
        num_velocities: matches that the velocity is a mean over.
        position_m, height_m, size, heading_rad, velocity_mps: see the top of the file.
        turned: percent of the matches whose heading is wrong by more than 90 degrees.
    """

    num_matches: int
    num_velocities: int = 0
    position_m: float | None = None
    height_m: float | None = None
    size: float | None = None
    heading_rad: float | None = None
    turned: float | None = None
    velocity_mps: float | None = None


def match_errors(found: np.ndarray, truth: np.ndarray) -> MatchErrors:
    """The errors of boxes (M, 9) against the boxes (M, 9) of their objects."""
    if len(found) == 0:
        return MatchErrors(0)
    offset = found[:, :3] - truth[:, :3]
    heading_rad = np.abs(limit_period(found[:, 6] - truth[:, 6], 0.5, 2 * np.pi))
    velocity_mps = np.linalg.norm(found[:, VELOCITY] - truth[:, VELOCITY], axis=1)
    velocity_mps = velocity_mps[np.isfinite(velocity_mps)]
    return MatchErrors(
        num_matches=len(found),
        num_velocities=len(velocity_mps),
        position_m=float(np.hypot(offset[:, 0], offset[:, 1]).mean()),
        height_m=float(offset[:, 2].mean()),
        size=float(_size_errors(found[:, SIZES], truth[:, SIZES]).mean()),
        heading_rad=float(heading_rad.mean()),
        turned=100 * float((heading_rad > np.pi / 2).mean()),
        velocity_mps=float(velocity_mps.mean()) if len(velocity_mps) else None,
    )


def _size_errors(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """1 - IoU (M,) of sizes (M, 3) around the same centre, not turned."""
    shared = np.minimum(found, truth).clip(min=0).prod(axis=1)
    union = found.prod(axis=1) + truth.prod(axis=1) - shared
    return 1 - shared / union
