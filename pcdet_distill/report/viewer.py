"""The viewer: frames with boxes as one HTML file, which draws them with WebGL and loads nothing.

A point takes seven bytes in the file: x, y and z as 16-bit numbers between the lowest and the
highest of its frame, and the intensity as 8 bits. All seven go to the graphics card as they are.
The pages of ``assets/viewer*`` read what ``scene_of`` describes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..whole_files import whole_file

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = (
    "viewer_camera.js",
    "viewer_boxes.js",
    "viewer_draw.js",
    "viewer_controls.js",
    "viewer_labels.js",
    "viewer.js",
)
# Whose boxes there are: the name in the file and for the style sheet -> what the page calls it.
SOURCES = {"truth": "ground truth", "teacher": "teacher", "student": "student"}

STEPS = 2**16 - 1  # of a coordinate
LEVELS = 2**8 - 1  # of an intensity
SHOWN_SHARE = (1.0, 99.0)  # percentiles between which the colours run
SMALLEST_VIEW_M = 8.0
BOX_DECIMALS = 4


@dataclass(frozen=True)
class ViewedBoxes:
    """Boxes of one source in one frame.

    Attributes:
        boxes: (M, 7) x, y, z, dx, dy, dz in metres, heading in radians; (M, 9) with vx, vy.
        names: (M,) class of each.
        num_points: (M,) points inside each.
        scores: (M,) from 0 to 1; None for labels.
    """

    boxes: np.ndarray
    names: Sequence[str]
    num_points: np.ndarray
    scores: np.ndarray | None = None


@dataclass(frozen=True)
class ViewedFrame:
    """One frame to show.

    Attributes:
        name: of the frame.
        points: (N, 3) x, y, z in metres, all finite.
        intensity: (N,); None where there is none.
        boxes: by source, keys of ``SOURCES``.
        notes: what the page says about the frame, such as that it was thinned.
    """

    name: str
    points: np.ndarray
    intensity: np.ndarray | None = None
    boxes: Mapping[str, ViewedBoxes] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class PackedPoints:
    """Points as the file stores them.

    Attributes:
        low: (3,) x, y, z of the number 0.
        step: (3,) metres between two numbers, never 0.
        data: N times x, y, z as little-endian 16-bit numbers, then N intensities as bytes.
    """

    low: np.ndarray
    step: np.ndarray
    data: bytes


def write_viewer(
    frames: Sequence[ViewedFrame],
    path: Path,
    *,
    title: str,
    notes: Sequence[str] = (),
    score: float = 0.3,
    titles: Mapping[str, str] | None = None,
) -> Path:
    """Write the page; returns its path.

    Args:
        notes: sentences about the data, shown on request.
        score: detections below it are hidden at first.
        titles: other names for some of ``SOURCES``.

    Raises:
        ConfigError: there is no frame, or the file cannot be written.
    """
    if not frames:
        raise ConfigError(f"{path}: no frame to show; expected one or more")
    scene = scene_of(frames, title=title, notes=notes, score=score, titles=titles or {})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            partial.write_text(page_of(scene), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written ({error.strerror or error})") from None
    return path


def page_of(scene: Mapping[str, object]) -> str:
    """The text of the page."""
    data = json.dumps(scene, allow_nan=False, separators=(",", ":"))
    parts = {
        "title": escape(str(scene["title"])),
        "style": _asset("viewer.css"),
        "script": "\n".join(_asset(name) for name in SCRIPTS),
        # A name with "</script>" must not end the element.
        "data": data.replace("<", "\\u003c"),
    }
    # The template is cut first, so that nothing that is put in is taken for a place to fill.
    pieces = _asset("viewer.html").split("{{")
    text = [pieces[0]]
    for piece in pieces[1:]:
        name, rest = piece.split("}}", 1)
        text += [parts[name], rest]
    return "".join(text)


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def scene_of(
    frames: Sequence[ViewedFrame],
    *,
    title: str,
    notes: Sequence[str],
    score: float,
    titles: Mapping[str, str],
) -> dict[str, object]:
    """What the page shows, as plain containers for JSON."""
    sources = [key for key in SOURCES if any(key in frame.boxes for frame in frames)]
    classes = _classes_of(frames)
    ranges = _colour_ranges(frames)
    return {
        "title": title,
        "notes": list(notes),
        "sources": [{"id": key, "title": titles.get(key, SOURCES[key])} for key in sources],
        "classes": classes,
        "score": score,
        "has_scores": any(_has_scores(frame) for frame in frames),
        "ranges": ranges,
        **_view_of(frames),
        "frames": [_plain_frame(frame, sources, classes, ranges) for frame in frames],
    }


def _classes_of(frames: Sequence[ViewedFrame]) -> list[str]:
    """Every class that has a box, the most frequent first."""
    count_of: dict[str, int] = {}
    for frame in frames:
        for boxes in frame.boxes.values():
            for name in boxes.names:
                count_of[str(name)] = count_of.get(str(name), 0) + 1
    return sorted(count_of, key=lambda name: (-count_of[name], name))


def _has_scores(frame: ViewedFrame) -> bool:
    return any(boxes.scores is not None for boxes in frame.boxes.values())


def _colour_ranges(frames: Sequence[ViewedFrame]) -> dict[str, list[float] | None]:
    """The values between which the colours run, the same in all frames so that they compare.

    Few points are much higher or brighter than the rest; they share the last colour.
    """
    points = np.concatenate([frame.points for frame in frames])
    brightness = [frame.intensity for frame in frames if frame.intensity is not None]
    distance = np.hypot(points[:, 0], points[:, 1])
    intensity = np.concatenate(brightness) if brightness else np.zeros(0)
    return {
        "height": _middle_range(points[:, 2]),
        "intensity": _middle_range(intensity) if brightness else None,
        "distance": [0.0, _middle_range(distance)[1]],
    }


def _middle_range(values: np.ndarray) -> list[float]:
    """The values that all but the lowest and the highest percent lie between."""
    if len(values) == 0:
        return [0.0, 1.0]
    low, high = np.percentile(values, SHOWN_SHARE)
    return [float(low), float(high if high > low else low + 1.0)]


def _view_of(frames: Sequence[ViewedFrame]) -> dict[str, object]:
    """Where the camera looks first, and how far the points reach, in metres."""
    points = np.concatenate([frame.points for frame in frames])
    if len(points) == 0:
        points = np.zeros((1, 3), np.float32)
    low, high = np.percentile(points, (3, 97), axis=0)
    size = max(float(np.hypot(*(high - low)[:2])) / 2, SMALLEST_VIEW_M)
    ground = float(np.percentile(points[:, 2], 5))
    middle = (low + high) / 2
    return {
        "home": {"target": [float(middle[0]), float(middle[1]), ground], "distance": 1.8 * size},
        "ground": ground,
        "reach": float(np.percentile(np.hypot(points[:, 0], points[:, 1]), 99)),
    }


def _plain_frame(
    frame: ViewedFrame,
    sources: Sequence[str],
    classes: Sequence[str],
    ranges: Mapping[str, list[float] | None],
) -> dict[str, object]:
    packed = pack_points(frame.points, frame.intensity, ranges["intensity"] or (0.0, 1.0))
    boxes: list[dict[str, object]] = []
    for number, source in enumerate(sources):
        if source in frame.boxes:
            boxes += _plain_boxes(frame.boxes[source], number, classes)
    return {
        "name": frame.name,
        "notes": list(frame.notes),
        "count": len(frame.points),
        "low": packed.low.tolist(),
        "step": packed.step.tolist(),
        "points": base64.b64encode(packed.data).decode("ascii"),
        "boxes": boxes,
    }


def pack_points(
    points: np.ndarray, intensity: np.ndarray | None, intensity_range: Sequence[float]
) -> PackedPoints:
    """Points (N, 3) and intensities (N,) as numbers of 16 and 8 bits.

    A coordinate is off by half a step at most: 0.8 mm in a frame of 100 m.
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    low = points.min(axis=0) if len(points) else np.zeros(3)
    high = points.max(axis=0) if len(points) else np.zeros(3)
    step = np.where(high > low, (high - low) / STEPS, 1.0)
    places = np.round((points - low) / step).astype("<u2")
    darkest, brightest = intensity_range
    levels = np.zeros(len(points), np.uint8)
    if intensity is not None:
        share = (np.asarray(intensity, dtype=np.float64) - darkest) / (brightest - darkest)
        levels = np.round(np.clip(share, 0.0, 1.0) * LEVELS).astype(np.uint8)
    return PackedPoints(low, step, places.tobytes() + levels.tobytes())


def _plain_boxes(
    boxes: ViewedBoxes, source: int, classes: Sequence[str]
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for index, name in enumerate(boxes.names):
        box = boxes.boxes[index].tolist()
        rows.append(
            {
                "source": source,
                "kind": classes.index(str(name)),
                # Velocities may be NaN, which is unknown; JSON has no NaN.
                "box": [
                    round(value, BOX_DECIMALS) if np.isfinite(value) else None for value in box
                ],
                "score": None if boxes.scores is None else round(float(boxes.scores[index]), 4),
                "points": int(boxes.num_points[index]),
            }
        )
    return rows
