"""The values of the yaml: KITTI's own for boxes like KITTI's, and rules at their limits."""

from __future__ import annotations

import numpy as np
import pytest

from pcdet_distill.apps.custom_data.settings import (
    Grid,
    choose_anchor,
    choose_grid,
    choose_sampling,
    choose_schedule,
    choose_voxel_limits,
    covered_share,
)
from pcdet_distill.apps.custom_data.survey import ClassStats


def objects(
    name: str, size: tuple[float, float, float], places: np.ndarray, points: int = 50
) -> ClassStats:
    """Objects of one size at places (M, 2) that stand at z -1.7, turned by their number."""
    boxes = np.zeros((len(places), 7))
    boxes[:, :2] = places
    boxes[:, 2] = -1.7 + size[2] / 2
    boxes[:, 3:6] = size
    boxes[:, 6] = 0.1 * np.arange(len(places))
    return ClassStats(name, boxes, np.full(len(places), points), len(places))


def forward(count: int, far_m: float = 68.0, side_m: float = 38.0) -> np.ndarray:
    """(count, 2) places in front of the sensor, on both sides, the corners included."""
    random = np.random.default_rng(0)
    places = random.uniform([2, -side_m], [far_m, side_m], (count, 2))
    places[:2] = [[far_m, side_m], [far_m, -side_m]]
    return places


def around(count: int, reach_m: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(-reach_m, reach_m, (count, 2))


CAR = (3.9, 1.6, 1.56)
PERSON = (0.8, 0.6, 1.73)


def test_boxes_like_kittis_give_kittis_values() -> None:
    classes = [objects("Car", CAR, forward(100)), objects("Pedestrian", PERSON, forward(50))]
    grid = choose_grid(classes)
    assert grid.pillar_m == 0.16
    assert grid.flip_axes == ("x",)
    x0, y0, z0, x1, y1, z1 = grid.limits
    assert -3 < x0 < 2
    assert 69 < x1 < 73
    assert y0 == -y1
    assert 39 < y1 < 42
    assert z0 < -1.7
    assert z1 > 0.03
    anchors = [choose_anchor(entry, grid.pillar_m) for entry in classes]
    assert [anchor.size for anchor in anchors] == [CAR, PERSON]
    assert [anchor.bottom_m for anchor in anchors] == [-1.7, -1.7]
    assert [anchor.matched for anchor in anchors] == [0.6, 0.5]
    assert [anchor.unmatched for anchor in anchors] == [0.45, 0.35]


@pytest.mark.parametrize("reach_m", [5.0, 30.0, 70.0])
def test_a_grid_holds_all_boxes_in_whole_pillars(reach_m: float) -> None:
    classes = [objects("Car", CAR, around(80, reach_m))]
    grid = choose_grid(classes)
    nx, ny = grid.shape
    assert nx % 16 == 0
    assert ny % 16 == 0
    assert nx * grid.pillar_m == pytest.approx(grid.limits[3] - grid.limits[0], abs=0.01)
    assert nx * ny <= 600 * 600
    assert grid.flip_axes == ("x", "y")
    assert covered_share(classes, grid) == 1


def test_far_boxes_are_given_up_before_pillars_become_too_coarse() -> None:
    places = np.concatenate([around(95, 40), [[400.0, 300.0], [-400.0, -300.0]]])
    classes = [objects("Person", PERSON, places)]
    grid = choose_grid(classes)
    assert grid.pillar_m <= 0.32
    assert 0.9 < covered_share(classes, grid) < 1


def test_boxes_without_points_do_not_widen_the_range() -> None:
    near = objects("Car", CAR, around(50, 20))
    empty = objects("Car", CAR, around(50, 150), points=0)
    both = ClassStats(
        "Car",
        np.concatenate([near.boxes, empty.boxes]),
        np.concatenate([near.num_points, empty.num_points]),
        100,
    )
    assert choose_grid([both]).limits == choose_grid([near]).limits
    assert choose_grid([empty]).limits[3] > 100  # where all are empty they are all there is


def test_a_sensor_at_a_wall_is_not_mirrored() -> None:
    places = np.random.default_rng(0).uniform([5, 1], [30, 20], (60, 2))
    grid = choose_grid([objects("Car", CAR, places)])
    assert grid.flip_axes == ()
    assert grid.limits[1] > -4


def test_classes_of_many_sizes_and_tiny_objects_match_more_easily() -> None:
    sizes = 9.0 * 2.0 ** np.linspace(-2, 2, 41)
    trucks = objects("Truck", (9.0, 2.5, 3.0), around(41, 30))
    trucks.boxes[:, 3] = sizes
    trucks.boxes[:, 6] = np.pi / 4
    anchor = choose_anchor(trucks, 0.16)
    assert anchor.matched < 0.6
    cones = choose_anchor(objects("Cone", (0.3, 0.3, 0.7), around(41, 30)), 0.16)
    assert 0.3 <= cones.matched < 0.5
    assert cones.unmatched == pytest.approx(cones.matched - 0.15)


def test_pillars_and_their_points_are_counted() -> None:
    grid = Grid((0, 0, -1, 16, 16, 1), 1.0, ())
    cells = np.stack(np.meshgrid(np.arange(16), np.arange(16)), axis=-1).reshape(-1, 2)
    places = np.repeat(cells + 0.5, 20, axis=0)
    full = np.column_stack([places, np.zeros(len(places))])
    outside = full + [0, 0, 5]
    limits = choose_voxel_limits([np.concatenate([full, outside]), full[:40]], grid)
    assert limits.most == 256
    assert limits.max_points == 20
    assert limits.train == limits.test == 2000  # the least
    fine = Grid((0, 0, -1, 16, 16, 1), 0.01, ())
    many = np.random.default_rng(0).uniform([0, 0, -1], [16, 16, 1], (40_000, 3))
    limits = choose_voxel_limits([many], fine)
    assert 35_000 < limits.most <= 40_000
    assert limits.most * 1.3 <= limits.train < limits.most * 1.3 + 1000
    assert limits.max_points == 10  # the least


def test_pasted_objects_exist_and_have_points() -> None:
    few = choose_sampling(objects("Car", CAR, around(6, 20), points=3))
    assert few.count == 3
    assert few.min_points == 3
    many = choose_sampling(objects("Car", CAR, around(600, 20)))
    assert many.count == 15
    assert many.min_points == 5
    none = choose_sampling(objects("Car", CAR, around(6, 20), points=0))
    assert none.min_points == 1


def test_epochs_shrink_with_the_data() -> None:
    assert choose_schedule(16).epochs == 80
    assert choose_schedule(16).is_short
    assert choose_schedule(200).epochs == 40
    large = choose_schedule(10_000)
    assert (large.batch_size, large.epochs, large.is_short) == (4, 20, False)
