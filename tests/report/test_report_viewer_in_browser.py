"""The viewer in Chromium: what it computes, draws and answers. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browser import run_in_page

from pcdet_distill.ops.boxes import boxes_to_corners_3d
from pcdet_distill.report.viewer import ViewedBoxes, ViewedFrame, write_viewer

BOXES = np.array([[12.0, 4, -0.5, 4.2, 1.8, 1.5, 0.7], [20.0, -6, 0.1, 0.8, 0.6, 1.75, -2.5]])
TRUTH = ViewedBoxes(BOXES, ["Car", "Pedestrian"], np.array([90, 12]))
FOUND = ViewedBoxes(BOXES[:1] + 0.1, ["Car"], np.array([88]), np.array([0.2]))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    random = np.random.RandomState(0)
    points = random.uniform([0, -20, -2], [40, 20, 1], (5000, 3)).astype(np.float32)
    intensity = random.uniform(0, 1, 5000)
    frames = [
        ViewedFrame("first", points, intensity, {"truth": TRUTH, "student": FOUND}),
        ViewedFrame("second", points[:100], intensity[:100]),
        ViewedFrame("nothing", np.zeros((0, 3), np.float32), np.zeros(0)),
    ]
    return write_viewer(frames, tmp_path / "view.html", title="in a browser")


def test_corners_are_those_of_the_ops(page: Path):
    script = "return scene.frames[0].boxes.slice(0, 2).map((row) => cornersOf(row.box));"
    corners = np.array(run_in_page(page, script))
    np.testing.assert_allclose(corners, boxes_to_corners_3d(BOXES), atol=2e-3)


def test_points_and_boxes_are_drawn_and_switched_off(page: Path):
    """Pixels that are not background, as a share: with all, without boxes, and in no points."""
    script = """
    const share = () => {
      shapes = null;
      draw();
      const gl = painter.gl;
      const size = canvas.width * canvas.height;
      const bytes = new Uint8Array(4 * size);
      gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
      const paper = colours.ground.map((part) => Math.round(255 * part));
      let drawn = 0;
      for (let k = 0; k < size; k++) {
        if (paper.some((value, part) => Math.abs(bytes[4 * k + part] - value) > 8)) drawn++;
      }
      return drawn / size;
    };
    const all = share();
    state.shown = state.shown.map(() => false);
    const points = share();
    showFrame(2);
    return [all, points, share()];
    """
    everything, points, nothing = run_in_page(page, script)
    assert everything > points > nothing + 0.01
    assert nothing < 0.03, "rings alone"


def test_controls_show_frames_counts_and_scores(page: Path):
    script = """
    const text = (id) => byId(id).textContent || byId(id).value;
    const first = [text("frame-name"), text("count-truth"), text("count-student")];
    byId("score").value = 0.1;
    byId("score").oninput();
    const lower = text("count-student");
    byId("after").onclick();
    return [...first, lower, text("frame-name"), text("frame-number"), text("frame-notes")];
    """
    assert run_in_page(page, script) == [
        *("first", " 2", " 0 of 1", " 1", "second", "2 of 3", "100 points")
    ]


@pytest.mark.parametrize("from_above", [False, True])
def test_a_click_on_a_box_shows_its_numbers(page: Path, from_above: bool):
    script = f"""
    lookFrom({"true" if from_above else "false"});
    draw();
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    const matrix = camera.matrix(width / height, 4 * scene.reach + 100);
    const place = project(matrix, boxesOfFrame()[1].box.slice(0, 3), width, height);
    clicked(...place);
    const shown = byId("details").textContent;
    clicked(1, 1);
    return [shown, byId("details").hidden];
    """
    shown, is_closed = run_in_page(page, script)
    assert "Pedestrian" in shown
    assert "ground truth" in shown
    assert "20.00, -6.00, 0.10 m" in shown
    assert "216.8°" in shown, "-2.5 rad"
    assert is_closed


def test_a_drag_turns_and_keys_move(page: Path):
    script = """
    const at = () => [camera.yaw, camera.distance, camera.target[0]];
    const before = at();
    const drag = (type, x) => canvas.dispatchEvent(new PointerEvent(type,
      { pointerId: 1, clientX: x, clientY: 200, buttons: 1, bubbles: true }));
    canvas.setPointerCapture = () => {};
    drag("pointerdown", 200); drag("pointermove", 300); drag("pointerup", 300);
    for (const key of ["w", "+"]) document.dispatchEvent(new KeyboardEvent("keydown", { key }));
    return [before, at()];
    """
    before, after = run_in_page(page, script)
    assert after[0] != before[0]
    assert after[1] < before[1]
    assert after[2] > before[2]


def test_it_fits_a_phone(page: Path):
    script = "return [innerWidth, document.documentElement.scrollWidth, canvas.clientHeight];"
    inner, scrolled, height = run_in_page(page, script, width=500)
    assert scrolled <= inner
    assert height > 150


def test_without_webgl_a_sentence_says_so(page: Path):
    script = "return [byId('problem').hidden, byId('problem').textContent];"
    is_hidden, sentence = run_in_page(page, script, webgl=False)
    assert not is_hidden
    assert "WebGL" in sentence
