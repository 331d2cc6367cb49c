"""Read back what a page of the viewer holds, without the code that wrote it."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np

DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


def scene_of_page(page: Path) -> dict:
    """The data of a page."""
    found = DATA.findall(page.read_text(encoding="utf-8"))
    assert len(found) == 1
    return json.loads(found[0])


def points_of_frame(frame: dict) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) places in metres and (N,) intensities from 0 to 1."""
    data = base64.b64decode(frame["points"])
    count = frame["count"]
    assert len(data) == 7 * count
    places = np.frombuffer(data[: 6 * count], dtype="<u2").reshape(count, 3)
    levels = np.frombuffer(data[6 * count :], dtype=np.uint8)
    return places * np.array(frame["step"]) + np.array(frame["low"]), levels / 255


def boxes_of(scene: dict, number: int, source: str) -> list[dict]:
    """The boxes of one source in one frame."""
    ids = [entry["id"] for entry in scene["sources"]]
    place = ids.index(source)
    return [row for row in scene["frames"][number]["boxes"] if row["source"] == place]
