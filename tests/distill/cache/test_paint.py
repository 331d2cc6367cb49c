"""Painting against a twin in plain loops, and by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from pcdet_distill.distill.cache.paint import (
    Lattice,
    MovedRows,
    Painter,
    logits_of,
    share_of_change,
)
from pcdet_distill.distill.predictions import ABSENT_LOGIT, PositionKind, PredictionGrid
from pcdet_distill.errors import ConfigError

CAR = ("Car",)


def grid(
    columns: int, lines: int, pitch: float, headings: tuple[float, ...] = (0.0,), start: float = 0.0
) -> PredictionGrid:
    """Anchors of one size on a regular grid, all headings at each place."""
    kinds = [PositionKind(CAR, (-1.0, 4.0, 1.6, 1.5, heading)) for heading in headings]
    places = []
    index = []
    for line in range(lines):
        for column in range(columns):
            for number in range(len(headings)):
                places.append([start + column * pitch, start + line * pitch])
                index.append(number)
    return PredictionGrid(torch.tensor(places), torch.tensor(index), kinds)


def rows(places, scores, axes=None, headings=None, turns=None, kinds=None, is_pasted=None):
    """Rows of one frame and one class."""
    count = len(places)
    boxes = torch.zeros(count, 7)
    boxes[:, 0] = torch.arange(count)  # so that a box tells its row
    boxes[:, 6] = torch.zeros(count) if headings is None else torch.tensor(headings)
    return MovedRows(
        frame_index=torch.zeros(count, dtype=torch.long),
        places=torch.tensor(places, dtype=torch.float32).reshape(-1, 2),
        axes=torch.tensor(
            [[1.0, 0.0]] * count if axes is None else axes, dtype=torch.float32
        ).reshape(-1, 2),
        kinds=torch.zeros(count, dtype=torch.long) if kinds is None else torch.tensor(kinds),
        turns=torch.zeros(count) if turns is None else torch.tensor(turns),
        logits=torch.logit(torch.tensor(scores))[:, None],
        boxes=boxes,
        is_pasted=torch.zeros(count, dtype=torch.bool)
        if is_pasted is None
        else torch.tensor(is_pasted),
    )


def painter(student: PredictionGrid, teacher: PredictionGrid, background: float = 0.01) -> Painter:
    made = Painter(student, None, teacher, "DISTILL.TERMS.X")
    logits = torch.logit(torch.tensor(background)).expand(len(teacher.kinds), 1)
    made.set_background(logits)
    return made


def painted_scores(made: Painter, moved: MovedRows, positions: int) -> np.ndarray:
    painted = made.paint(moved, 1)
    scores = np.full(positions, np.nan)
    scores[painted.slots.numpy()] = painted.logits[:, 0].sigmoid().numpy()
    return scores


def test_an_unmoved_row_is_its_own_position() -> None:
    same = grid(4, 3, 0.5)
    painted = painter(same, same).paint(rows([[0.5, 0.5], [1.0, 0.5]], [0.8, 0.3]), 1)
    assert painted.slots.tolist() == [5, 6]
    assert painted.logits.sigmoid().flatten().tolist() == pytest.approx([0.8, 0.3])
    assert painted.boxes[:, 0].tolist() == [0, 1]


def test_half_a_cell_aside_by_hand() -> None:
    same = grid(4, 1, 0.5)
    # The position between the rows has half of each; those outside have half background.
    scores = painted_scores(painter(same, same), rows([[0.25, 0], [0.75, 0]], [0.8, 0.4]), 4)
    expected = [0.4 + 0.005, 0.6, 0.2 + 0.005]
    np.testing.assert_allclose(scores[:3], expected, rtol=1e-5)
    assert np.isnan(scores[3])


def test_the_box_is_that_of_the_strongest_row() -> None:
    same = grid(3, 1, 1.0)
    painted = painter(same, same).paint(rows([[0.6, 0], [1.6, 0]], [0.9, 0.3]), 1)
    # Position 1 has 0.6 of row 0 (0.6 * 0.9) and 0.4 of row 1 (0.4 * 0.3).
    assert dict(zip(painted.slots.tolist(), painted.boxes[:, 0].tolist())) == {0: 0, 1: 0, 2: 1}


def test_where_a_pasted_object_and_the_scene_meet_the_larger_score_counts() -> None:
    same = grid(3, 1, 1.0)
    moved = rows([[1, 0], [1, 0], [2, 0]], [0.3, 0.8, 0.2], is_pasted=[False, True, False])
    painted = painter(same, same).paint(moved, 1)
    assert painted.slots.tolist() == [1, 2]
    assert painted.logits.sigmoid().flatten().tolist() == pytest.approx([0.8, 0.2])
    assert painted.boxes[:, 0].tolist() == [1, 2]


def plain_paint(student, teacher_pitch, moved, background):
    """The formula of the module in loops: score of every position of a student without kinds."""
    result = []
    for place in student.places_m.numpy():
        total = 0.0
        weighted = 0.0
        for number in range(len(moved.places)):
            axis = moved.axes[number].numpy()
            scale = math.hypot(*axis)
            cosine, sine = axis / scale
            dx, dy = place - moved.places[number].numpy()
            u = (dx * cosine + dy * sine) / scale / teacher_pitch
            v = (dy * cosine - dx * sine) / scale / teacher_pitch
            weight = max(0, 1 - abs(u)) * max(0, 1 - abs(v))
            total += weight
            weighted += weight * moved.logits[number, 0].sigmoid().item()
        result.append((weighted + max(0, 1 - total) * background) / max(1, total))
    return np.array(result)


@pytest.mark.parametrize("seed", range(4))
def test_turned_and_scaled_grids_of_other_cells_against_plain_loops(seed: int) -> None:
    random = np.random.RandomState(seed)
    student = grid(9, 8, random.uniform(0.3, 0.8), start=1.0)
    pitch = random.uniform(0.3, 0.8)
    teacher = grid(12, 12, pitch)
    angle = random.uniform(-3, 3)
    scale = random.uniform(0.9, 1.1)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    kept = random.rand(144) < 0.7
    places = (teacher.places_m.numpy()[kept] - 3) @ turn.T + 3
    axes = np.tile(turn[:, 0], (kept.sum(), 1)).astype(np.float32)
    moved = rows(
        places.tolist(), random.uniform(0.05, 0.95, kept.sum()).tolist(), axes=axes.tolist()
    )
    scores = painted_scores(painter(student, teacher), moved, 72)
    expected = plain_paint(student, pitch, moved, 0.01)
    np.testing.assert_allclose(np.where(np.isnan(scores), 0.01, scores), expected, atol=2e-3)


@pytest.mark.parametrize("seed", range(6))
def test_the_compiled_version_equals_the_plain_one(seed: int) -> None:
    random = np.random.RandomState(seed)
    crossed = grid(9, 8, random.uniform(0.3, 0.8), headings=(0.0, 1.57), start=1.0)
    made = painter(crossed, grid(8, 8, random.uniform(0.3, 0.8), headings=(0.0, 1.57)))
    count = 300
    angle = random.uniform(-3, 3)
    axes = [[np.cos(angle), np.sin(angle)]] * count
    moved = rows(
        random.uniform(0, 7, (count, 2)).tolist(),
        random.uniform(0.05, 0.95, count).tolist(),
        axes=axes,
        headings=random.uniform(-3, 3, count).tolist(),
        turns=random.uniform(0, 1.57, count).tolist(),
        kinds=random.randint(0, 2, count).tolist(),
        is_pasted=(random.rand(count) < 0.3).tolist(),
    )
    moved = dataclasses.replace(moved, frame_index=torch.tensor(random.randint(0, 3, count)))
    compiled = made.paint(moved, 3)
    plain = made.paint_plain(moved)
    assert torch.equal(compiled.slots, plain.slots)
    torch.testing.assert_close(compiled.logits, plain.logits, rtol=1e-4, atol=1e-4)
    assert (compiled.boxes[:, 0] == plain.boxes[:, 0]).float().mean() > 0.995


def test_a_batch_without_rows() -> None:
    same = grid(3, 2, 1.0)
    made = painter(same, same)
    nothing = rows([], [])
    for painted in (made.paint(nothing, 1), made.paint_plain(nothing)):
        assert len(painted.slots) == len(painted.boxes) == 0


def test_an_object_that_turns_by_a_quarter_changes_to_the_other_anchor() -> None:
    crossed = grid(2, 1, 1.0, headings=(0.0, 1.57))
    made = painter(crossed, crossed)
    # Anchor 0 lies along the box (turn 0), anchor 1 across it; then the box turns by 80 degrees.
    moved = rows(
        [[0, 0], [0, 0]],
        [0.9, 0.1],
        headings=[1.4, 1.4],
        turns=[0.0, 1.57],
        kinds=[0, 1],
        axes=[[0.17, 0.985]] * 2,
    )
    scores = painted_scores(made, moved, 4)
    np.testing.assert_allclose(scores[:2], [0.1, 0.9], atol=1e-3)


def test_shares() -> None:
    degrees = torch.tensor([0.0, 36.0, 45.0, 54.0, 90.0])
    shares = share_of_change(torch.deg2rad(degrees))
    assert shares.tolist() == pytest.approx([1, 1, 0.5, 0, 0], abs=1e-5)


def test_classes_without_a_prediction_stay_absent() -> None:
    logits = logits_of(torch.tensor([0.0, 1e-12, 0.5, 1.0]))
    assert logits[0] == logits[1] == ABSENT_LOGIT
    assert logits[2] == pytest.approx(0, abs=1e-6)
    assert logits[3].isfinite() and logits[3] > 10


def test_places_that_the_teacher_has_not_seen() -> None:
    made = painter(grid(5, 5, 1.0), grid(5, 5, 1.0))
    shifted = torch.eye(4)
    shifted[0, 3] = 2  # the scene moves by 2 m: columns 0 and 1 were outside
    seen = made.seen(torch.stack([torch.eye(4), shifted]))
    assert seen[0].all()
    assert seen[1].reshape(5, 5).all(dim=0).tolist() == [False, False, True, True, True]
    assert not seen[1].reshape(5, 5)[:, :2].any()


def test_background_is_that_of_the_matching_kinds() -> None:
    student = grid(1, 1, 1.0, headings=(0.0, 1.57))
    teacher = grid(1, 1, 1.0, headings=(0.0, 1.57))
    made = Painter(student, None, teacher, "X")
    made.set_background(torch.tensor([[-4.0], [-6.0]]))
    assert made.background.flatten().tolist() == [-5, -5]


def test_lattice_of_float32_places() -> None:
    places = torch.arange(0, 70.4, 0.4).float()[:, None].repeat(1, 2)
    index = torch.zeros(len(places), dtype=torch.long)
    lattice = Lattice(PredictionGrid(places, index, [PositionKind(CAR)]))
    assert lattice.size == (176, 176)
    assert lattice.pitch.tolist() == pytest.approx([0.4, 0.4], rel=1e-6)
    assert lattice.table[0].diagonal().tolist() == list(range(176))


def test_other_anchors_are_refused() -> None:
    truck = PredictionGrid(
        torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), [PositionKind(CAR, (0, 9, 2, 2, 0))]
    )
    with pytest.raises(ConfigError, match=r"X: no prediction of the student has a counterpart"):
        Painter(grid(1, 1, 1.0), None, truck, "X")
