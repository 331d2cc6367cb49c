"""The viewer's page: what is in it, how exact it is, and how large."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from viewer_reader import boxes_of, points_of_frame, scene_of_page

from pcdet_distill.errors import ConfigError
from pcdet_distill.report.viewer import (
    ASSETS,
    SCRIPTS,
    ViewedBoxes,
    ViewedFrame,
    pack_points,
    write_viewer,
)

CARS = ViewedBoxes(
    boxes=np.array([[10.0, 5, -1, 4, 2, 1.5, 0.3], [20.0, -5, -1, 4.2, 1.9, 1.6, -2.0]]),
    names=["Car", "Car"],
    num_points=np.array([120, 7]),
)
FOUND = ViewedBoxes(
    boxes=np.array([[10.2, 5.1, -1, 4, 2, 1.5, 0.3, 1.5, np.nan]]),
    names=["Pedestrian"],
    num_points=np.array([118]),
    scores=np.array([0.87654]),
)


def cloud(num_points: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points of a range of 140 x 80 x 4 m and intensities of 0..255."""
    random = np.random.RandomState(seed)
    points = random.uniform([-70, -40, -3], [70, 40, 1], (num_points, 3))
    return points.astype(np.float32), random.uniform(0, 255, num_points)


def frame(name: str = "000001", num_points: int = 500, **boxes: ViewedBoxes) -> ViewedFrame:
    points, intensity = cloud(num_points)
    return ViewedFrame(name, points, intensity, boxes)


def written(folder: Path, *frames: ViewedFrame, **options) -> dict:
    return scene_of_page(write_viewer(frames, folder / "view.html", title="test", **options))


def test_points_come_back_to_half_a_step(tmp_path: Path):
    points, intensity = cloud(5000)
    scene = written(tmp_path, ViewedFrame("a", points, intensity))
    places, levels = points_of_frame(scene["frames"][0])
    step = np.ptp(points, axis=0) / 65535
    assert (np.abs(places - points) <= 0.5 * step + 1e-6).all()
    assert np.abs(places - points).max() < 0.0012, "half of 140 m / 65535"
    low, high = scene["ranges"]["intensity"]
    share = np.clip((intensity - low) / (high - low), 0, 1)
    assert np.abs(levels - share).max() <= 0.5 / 255 + 1e-9


def test_a_single_point_and_a_flat_cloud_keep_their_place():
    for points in (np.array([[3.0, -4.0, 1.5]]), np.array([[0.0, 1.0, 2.0], [5.0, 1.0, 2.0]])):
        packed = pack_points(points, None, (0, 1))
        numbers = np.frombuffer(packed.data[: 6 * len(points)], dtype="<u2").reshape(-1, 3)
        np.testing.assert_allclose(numbers * packed.step + packed.low, points, atol=1e-9)
        assert (packed.step > 0).all()


def test_a_frame_without_points_can_be_written(tmp_path: Path):
    nothing = ViewedFrame("empty", np.zeros((0, 3), np.float32), np.zeros(0))
    scene = written(tmp_path, nothing)
    assert scene["frames"][0]["count"] == 0
    assert np.isfinite(scene["home"]["target"]).all()
    assert scene["home"]["distance"] > 1


def test_colours_run_over_the_middle_of_all_frames(tmp_path: Path):
    """One mast of 300 m in one of two frames does not make everything else one colour."""
    points, intensity = cloud(2000)
    mast = points.copy()
    mast[0, 2] = 300.0
    scene = written(
        tmp_path, ViewedFrame("a", points, intensity), ViewedFrame("b", mast, intensity)
    )
    low, high = scene["ranges"]["height"]
    assert -3.1 < low < -2.8
    assert 0.8 < high < 1.1


def test_without_intensities_there_is_no_such_colour(tmp_path: Path):
    points, _ = cloud(50)
    assert written(tmp_path, ViewedFrame("a", points))["ranges"]["intensity"] is None


def test_boxes_keep_source_class_score_and_unknown_velocity(tmp_path: Path):
    scene = written(tmp_path, frame(truth=CARS, student=FOUND), frame("000002"))
    assert [entry["id"] for entry in scene["sources"]] == ["truth", "student"]
    assert scene["classes"] == ["Car", "Pedestrian"]
    truth = boxes_of(scene, 0, "truth")
    np.testing.assert_allclose([row["box"] for row in truth], CARS.boxes, atol=1e-4)
    assert [row["points"] for row in truth] == [120, 7]
    assert [row["score"] for row in truth] == [None, None]
    (found,) = boxes_of(scene, 0, "student")
    assert scene["classes"][found["kind"]] == "Pedestrian"
    assert found["score"] == pytest.approx(0.8765, abs=1e-4)
    assert found["box"][7:] == [1.5, None]
    assert scene["frames"][1]["boxes"] == []


def test_a_source_may_have_another_title(tmp_path: Path):
    scene = written(tmp_path, frame(student=FOUND), titles={"student": "detections"})
    assert scene["sources"] == [{"id": "student", "title": "detections"}]


def test_fifty_frames_of_20000_points_are_small(tmp_path: Path):
    points, intensity = cloud(20_000)
    frames = [ViewedFrame(str(number), points, intensity) for number in range(50)]
    page = write_viewer(frames, tmp_path / "view.html", title="size")
    assert page.stat().st_size < 10e6
    assert page.stat().st_size > 50 * 20_000 * 7 * 4 / 3


def test_the_page_loads_nothing_and_names_cannot_break_it(tmp_path: Path):
    evil = ViewedBoxes(CARS.boxes[:1], ["</script><b>{{data}}"], np.array([1]))
    page = write_viewer([frame(truth=evil)], tmp_path / "v.html", title="a < b {{style}}")
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=|url\(|@import|https?://", text)
    assert text.count("<script") == text.count("</script>") == 2
    assert "<title>a &lt; b {{style}}</title>" in text
    assert scene_of_page(page)["classes"] == ["</script><b>{{data}}"]


def test_the_page_has_all_scripts_once(tmp_path: Path):
    text = write_viewer([frame()], tmp_path / "v.html", title="t").read_text(encoding="utf-8")
    for name in SCRIPTS:
        assert text.count((ASSETS / name).read_text(encoding="utf-8")) == 1
    assert "{{" not in text


def test_every_element_that_the_script_asks_for_is_there(tmp_path: Path):
    text = write_viewer([frame()], tmp_path / "v.html", title="t").read_text(encoding="utf-8")
    asked = set(re.findall(r'byId\("([^"]+)"\)', text))
    assert len(asked) > 20
    for name in asked:
        assert f'id="{name}"' in text


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match=r"--out .*view\.html: cannot be written \("):
        write_viewer([frame()], tmp_path / "file" / "view.html", title="t")
    with pytest.raises(ConfigError, match="no frame to show"):
        write_viewer([], tmp_path / "view.html", title="t")
    assert not list(tmp_path.glob("*.html"))
