"""Rays against convex pieces: hand-computed distances, and a brute-force march for shapes in general."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdet_distill.datasets.synthetic.intersect import (
    crosses_box,
    hit_cylinder,
    hit_ellipsoid,
    hit_piece,
    hit_polytope,
)
from pcdet_distill.datasets.synthetic.library import KINDS, library
from pcdet_distill.datasets.synthetic.shapes import CYLINDER, ELLIPSOID, POLYTOPE, ShapeBuilder

SOFT = "masonry"


def piece(builder: ShapeBuilder) -> tuple[np.ndarray, int]:
    template = builder.build()
    return template.params[0], int(template.counts[0])


def test_box_is_met_at_its_faces():
    params, count = piece(ShapeBuilder("box").box((-1, -2, 0), (1, 2, 3), SOFT))
    t_in, t_out, _, *normal = hit_polytope(params, count, -5.0, 0.5, 1.0, 1.0, 0.0, 0.0)
    assert (t_in, t_out) == (4.0, 6.0)
    assert normal == [-1.0, 0.0, 0.0]
    diagonal = np.array([0.0, -3.0, -1.0]) / np.sqrt(10)
    t_in, _, _, *normal = hit_polytope(params, count, 0.0, 3.0, 4.0, *diagonal)
    assert t_in == pytest.approx(
        np.sqrt(10)
    )  # enters the top at z = 3, y = 0: one unit down, three across
    assert normal == [0.0, 0.0, 1.0]
    assert hit_polytope(params, count, -5.0, 2.5, 1.0, 1.0, 0.0, 0.0)[0] == np.inf
    assert hit_polytope(params, count, 5.0, 0.0, 1.0, 1.0, 0.0, 0.0)[0] == np.inf  # behind the ray


def test_ellipsoid_is_met_where_its_equation_says():
    params, _ = piece(
        ShapeBuilder("egg").ellipsoid((0, 0, 0), (2.0, 1.0, 0.5), SOFT)
    )  # rests on z = 0
    t_in, t_out, _, *normal = hit_ellipsoid(params, -10.0, 0.0, 0.5, 1.0, 0.0, 0.0)
    assert (t_in, t_out) == pytest.approx((8.0, 12.0))
    assert normal[0] < 0 and normal[1] == 0 and normal[2] == pytest.approx(0.0)
    t_in, _, _, *_ = hit_ellipsoid(params, -10.0, 0.6, 0.5, 1.0, 0.0, 0.0)
    assert t_in == pytest.approx(10.0 - 2.0 * 0.8)  # x^2/4 + 0.36 = 1
    assert hit_ellipsoid(params, -10.0, 1.01, 0.5, 1.0, 0.0, 0.0)[0] == np.inf


def test_pitched_ellipsoid_fills_its_bounding_box():
    template = (
        ShapeBuilder("egg").ellipsoid((0, 0, 0), (2.0, 1.0, 0.5), SOFT, pitch_rad=np.pi / 2).build()
    )
    np.testing.assert_allclose(template.size_m, [1.0, 2.0, 4.0], atol=1e-12)
    t_in, t_out, *_ = hit_ellipsoid(template.params[0], 0.0, 0.0, 10.0, 0.0, 0.0, -1.0)
    assert (t_in, t_out) == pytest.approx((6.0, 10.0))


def test_cylinder_is_met_on_its_side_and_on_its_end():
    params, _ = piece(ShapeBuilder("post").cylinder((0, 0, 0), (0, 0, 2), 0.5, SOFT))
    t_in, t_out, _, *normal = hit_cylinder(params, -3.0, 0.3, 1.0, 1.0, 0.0, 0.0)
    assert (t_in, t_out) == pytest.approx((2.6, 3.4))
    assert normal == pytest.approx([-0.4, 0.3, 0.0])
    t_in, _, _, *normal = hit_cylinder(params, 0.2, 0.0, 5.0, 0.0, 0.0, -1.0)
    assert t_in == 3.0 and normal == [0.0, 0.0, 1.0]
    assert hit_cylinder(params, -3.0, 0.3, 2.1, 1.0, 0.0, 0.0)[0] == np.inf
    assert hit_cylinder(params, -3.0, 0.6, 1.0, 1.0, 0.0, 0.0)[0] == np.inf


def test_lying_cylinder_reaches_its_radius():
    template = ShapeBuilder("wheel").cylinder((0, -0.1, 0.3), (0, 0.1, 0.3), 0.3, SOFT).build()
    np.testing.assert_allclose(template.size_m, [0.6, 0.2, 0.6], atol=1e-12)


def test_crosses_box_respects_the_limit():
    args = (0.5, 0.5, 1.0, -3.0, 0.0, 0.5, 1.0, 0.0, 0.0)
    assert crosses_box(*args, 2.6) and not crosses_box(*args, 2.4)
    assert not crosses_box(0.5, 0.5, 1.0, -3.0, 0.6, 0.5, 1.0, 0.0, 0.0, 99.0)


def test_a_profile_that_is_not_convex_is_refused():
    dent = [(1, 0), (1, 1), (0, 0.3), (-1, 1), (-1, 0)]
    with pytest.raises(AssertionError, match="not convex"):
        ShapeBuilder("dent").prism(dent, [SOFT] * 5, 1.0, SOFT)


def inside(kind: int, params: np.ndarray, count: int, points: np.ndarray) -> np.ndarray:
    """Membership of points ``(N, 3)`` from the definition of each kind."""
    if kind == POLYTOPE:
        planes = params[: 4 * count].reshape(-1, 4)
        return (points @ planes[:, :3].T <= planes[:, 3]).all(axis=1)
    offset = points - params[:3]
    if kind == ELLIPSOID:
        return np.linalg.norm(offset @ params[3:12].reshape(3, 3).T, axis=1) <= 1.0
    assert kind == CYLINDER
    along = offset @ params[3:6]
    return (np.abs(along) <= params[6]) & (
        np.linalg.norm(offset - along[:, None] * params[3:6], axis=1) <= params[7]
    )


@settings(max_examples=60, deadline=None)
@given(number=st.integers(0, 10_000))
def test_every_piece_agrees_with_a_march_along_the_ray(number: int):
    rng, shapes = np.random.default_rng(number), library().shapes
    row = int(rng.integers(len(shapes.kinds)))
    origin = rng.normal(size=3) * 3 + [0, 0, 1]
    aim = rng.uniform([-2, -1, 0], [2, 1, 2]) - origin
    direction = aim / np.linalg.norm(aim)
    steps = np.arange(0.0, 25.0, 0.002)
    member = inside(
        shapes.kinds[row],
        shapes.params[row],
        shapes.counts[row],
        origin + steps[:, None] * direction,
    )
    t_in, t_out, *_ = hit_piece(
        shapes.kinds[row], shapes.params[row], shapes.counts[row], *origin, *direction
    )
    if member[0]:
        assert t_in == np.inf  # the ray starts inside
    elif member.any():
        assert abs(t_in - steps[member.argmax()]) <= 0.0021
        assert abs(t_out - steps[member.nonzero()[0][-1]]) <= 0.0021
    else:
        assert t_in == np.inf or t_out - t_in < 0.0021


@numba.njit
def nearest_along_axis(
    kinds: np.ndarray, params: np.ndarray, counts: np.ndarray, axis: int, half: np.ndarray
) -> float:
    """The shortest way from 10 m down an axis to any piece, over a grid of parallel rays."""
    nearest, origin, direction = np.inf, np.zeros(3), np.zeros(3)
    direction[axis] = -1.0
    a, b = (axis + 1) % 3, (axis + 2) % 3
    for first in range(161):
        for second in range(161):
            origin[axis], origin[a], origin[b] = (
                10.0,
                (first / 80 - 1) * half[a],
                (second / 80 - 1) * half[b],
            )
            if axis != 2:
                origin[2] += half[2]
            for row in range(len(kinds)):
                hit = hit_piece(
                    kinds[row],
                    params[row],
                    counts[row],
                    origin[0],
                    origin[1],
                    origin[2],
                    direction[0],
                    direction[1],
                    direction[2],
                )
                nearest = min(nearest, hit[0])
    return nearest


@pytest.mark.parametrize(
    "name", sorted({name for kind in KINDS.values() for name in kind.templates})
)
def test_every_road_user_fills_its_box(name: str):
    """The box of a template is tight: something lies at its front, left and top face, and nothing sticks out there."""
    shapes, row = library().shapes, library().index[name]
    rows = slice(shapes.starts[row], shapes.starts[row + 1])
    half = shapes.sizes_m[row] / 2
    for axis, face in enumerate((half[0], half[1], 2 * half[2])):
        reached = nearest_along_axis(
            shapes.kinds[rows], shapes.params[rows], shapes.counts[rows], axis, half
        )
        assert 10.0 - reached == pytest.approx(face, abs=0.02), axis
