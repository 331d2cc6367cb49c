"""Rays against convex pieces: distances computed by hand, and a march along the ray."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdet_distill.datasets.synthetic.sensors.intersect import (
    crosses_box,
    hit_cylinder,
    hit_ellipsoid,
    hit_piece,
    hit_polytope,
)
from pcdet_distill.datasets.synthetic.sensors.raycast import SALT_PER_OBJECT
from pcdet_distill.datasets.synthetic.templates.library import ROAD_USERS, library
from pcdet_distill.datasets.synthetic.templates.more_road_users import FAMILIES
from pcdet_distill.datasets.synthetic.templates.shapes import (
    CYLINDER,
    ELLIPSOID,
    POLYTOPE,
    ShapeBuilder,
)

ANY = "masonry"  # the material does not matter here
ALONG_X = (1.0, 0.0, 0.0)
DOWN = (0.0, 0.0, -1.0)


def road_user_templates() -> list[str]:
    """The names of all templates that a road user may have."""
    names = {family.name for family in FAMILIES}
    for road_user in ROAD_USERS.values():
        names.update(road_user.templates)
    return sorted(names)


def test_every_piece_of_an_object_has_random_numbers_of_its_own() -> None:
    assert len(library().shapes.kinds) < SALT_PER_OBJECT


def only_piece(builder: ShapeBuilder) -> tuple[np.ndarray, int]:
    """The parameters of a template's one piece, and its number of planes."""
    template = builder.build()
    return template.params[0], int(template.num_planes[0])


def test_a_box_is_hit_at_its_faces() -> None:
    params, num_planes = only_piece(ShapeBuilder("box").box((-1, -2, 0), (1, 2, 3), ANY))
    hit = hit_polytope(params, num_planes, (-5.0, 0.5, 1.0), ALONG_X)
    assert (hit.t_in, hit.t_out) == (4.0, 6.0)
    assert hit.normal == (-1.0, 0.0, 0.0)
    # Enters the top at z = 3, y = 0: one unit down, three across.
    diagonal = (0.0, -3.0 / np.sqrt(10), -1.0 / np.sqrt(10))
    hit = hit_polytope(params, num_planes, (0.0, 3.0, 4.0), diagonal)
    assert hit.t_in == pytest.approx(np.sqrt(10))
    assert hit.normal == (0.0, 0.0, 1.0)
    beside = hit_polytope(params, num_planes, (-5.0, 2.5, 1.0), ALONG_X)
    behind_the_ray = hit_polytope(params, num_planes, (5.0, 0.0, 1.0), ALONG_X)
    assert beside.t_in == np.inf
    assert behind_the_ray.t_in == np.inf


def test_an_ellipsoid_is_hit_where_its_equation_holds() -> None:
    builder = ShapeBuilder("egg").ellipsoid((0, 0, 0), (2.0, 1.0, 0.5), ANY)
    params, _ = only_piece(builder)  # moved up by 0.5, to rest on z = 0
    hit = hit_ellipsoid(params, (-10.0, 0.0, 0.5), ALONG_X)
    assert (hit.t_in, hit.t_out) == pytest.approx((8.0, 12.0))
    assert hit.normal[0] < 0
    assert hit.normal[1] == 0
    assert hit.normal[2] == pytest.approx(0.0)
    hit = hit_ellipsoid(params, (-10.0, 0.6, 0.5), ALONG_X)
    assert hit.t_in == pytest.approx(10.0 - 2.0 * 0.8)  # x^2/4 + 0.36 = 1
    assert hit_ellipsoid(params, (-10.0, 1.01, 0.5), ALONG_X).t_in == np.inf


def test_a_pitched_ellipsoid_fills_its_bounding_box() -> None:
    builder = ShapeBuilder("egg")
    builder.ellipsoid((0, 0, 0), (2.0, 1.0, 0.5), ANY, pitch_rad=np.pi / 2)
    template = builder.build()
    np.testing.assert_allclose(template.size_m, [1.0, 2.0, 4.0], atol=1e-12)
    hit = hit_ellipsoid(template.params[0], (0.0, 0.0, 10.0), DOWN)
    assert (hit.t_in, hit.t_out) == pytest.approx((6.0, 10.0))


def test_a_cylinder_is_hit_on_its_side_and_on_its_end() -> None:
    params, _ = only_piece(ShapeBuilder("post").cylinder((0, 0, 0), (0, 0, 2), 0.5, ANY))
    hit = hit_cylinder(params, (-3.0, 0.3, 1.0), ALONG_X)
    assert (hit.t_in, hit.t_out) == pytest.approx((2.6, 3.4))
    assert hit.normal == pytest.approx((-0.4, 0.3, 0.0))
    hit = hit_cylinder(params, (0.2, 0.0, 5.0), DOWN)
    assert hit.t_in == 3.0
    assert hit.normal == (0.0, 0.0, 1.0)
    above = hit_cylinder(params, (-3.0, 0.3, 2.1), ALONG_X)
    beside = hit_cylinder(params, (-3.0, 0.6, 1.0), ALONG_X)
    assert above.t_in == np.inf
    assert beside.t_in == np.inf


def test_a_lying_cylinder_reaches_its_radius() -> None:
    template = ShapeBuilder("wheel").cylinder((0, -0.1, 0.3), (0, 0.1, 0.3), 0.3, ANY).build()
    np.testing.assert_allclose(template.size_m, [0.6, 0.2, 0.6], atol=1e-12)


def test_crosses_box_respects_the_limit() -> None:
    size = np.array([1.0, 1.0, 1.0])
    origin = (-3.0, 0.0, 0.5)
    assert crosses_box(size, origin, ALONG_X, 2.6)
    assert not crosses_box(size, origin, ALONG_X, 2.4)
    assert not crosses_box(size, (-3.0, 0.6, 0.5), ALONG_X, 99.0)


def test_a_profile_that_is_not_convex_is_refused() -> None:
    dent = [(1, 0), (1, 1), (0, 0.3), (-1, 1), (-1, 0)]
    with pytest.raises(AssertionError, match="not convex"):
        ShapeBuilder("dent").prism(dent, [ANY] * 5, 1.0, ANY)


def is_inside(kind: int, params: np.ndarray, num_planes: int, points: np.ndarray) -> np.ndarray:
    """(N,) bool, which points (N, 3) lie in a piece, from the definition of its kind."""
    if kind == POLYTOPE:
        planes = params[: 4 * num_planes].reshape(-1, 4)
        return (points @ planes[:, :3].T <= planes[:, 3]).all(axis=1)
    offset = points - params[:3]
    if kind == ELLIPSOID:
        to_unit_ball = params[3:12].reshape(3, 3)
        return np.linalg.norm(offset @ to_unit_ball.T, axis=1) <= 1.0
    assert kind == CYLINDER
    axis = params[3:6]
    half_length = params[6]
    radius = params[7]
    along = offset @ axis
    across = np.linalg.norm(offset - along[:, None] * axis, axis=1)
    return (np.abs(along) <= half_length) & (across <= radius)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_every_piece_agrees_with_a_march_along_the_ray(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = library().shapes
    row = int(rng.integers(len(shapes.kinds)))
    piece = (shapes.kinds[row], shapes.params[row], shapes.num_planes[row])
    origin = rng.normal(size=3) * 3 + [0, 0, 1]
    towards = rng.uniform([-2, -1, 0], [2, 1, 2]) - origin
    direction = towards / np.linalg.norm(towards)
    step = 0.002
    t = np.arange(0.0, 25.0, step)
    inside = is_inside(*piece, origin + t[:, None] * direction)
    hit = hit_piece(*piece, tuple(origin), tuple(direction))
    if inside[0]:  # a ray that starts inside counts as a miss
        assert hit.t_in == np.inf
    elif inside.any():
        first = t[inside.argmax()]
        last = t[inside.nonzero()[0][-1]]
        assert abs(hit.t_in - first) <= step + 1e-4
        assert abs(hit.t_out - last) <= step + 1e-4
    else:
        assert hit.t_in == np.inf or hit.t_out - hit.t_in < step + 1e-4


@numba.njit
def nearest_along_axis(
    kinds: np.ndarray, params: np.ndarray, num_planes: np.ndarray, axis: int, half: np.ndarray
) -> float:
    """Shortest distance of parallel rays from 10 m away on an axis to any piece."""
    nearest = np.inf
    origin = np.zeros(3)
    direction = np.zeros(3)
    direction[axis] = -1.0
    second_axis = (axis + 1) % 3
    third_axis = (axis + 2) % 3
    for second in range(161):
        for third in range(161):
            origin[axis] = 10.0
            origin[second_axis] = (second / 80 - 1) * half[second_axis]
            origin[third_axis] = (third / 80 - 1) * half[third_axis]
            if axis != 2:
                origin[2] += half[2]  # boxes stand on z = 0
            ray_origin = (origin[0], origin[1], origin[2])
            ray_direction = (direction[0], direction[1], direction[2])
            for row in range(len(kinds)):
                hit = hit_piece(kinds[row], params[row], num_planes[row], ray_origin, ray_direction)
                nearest = min(nearest, hit.t_in)
    return nearest


@pytest.mark.parametrize("name", road_user_templates())
def test_every_road_user_fills_its_box(name: str) -> None:
    """A template touches the front, left and top face of its box, and does not stick out."""
    shapes = library().shapes
    template = library().index[name]
    pieces = slice(shapes.starts[template], shapes.starts[template + 1])
    length, width, height = shapes.sizes_m[template]
    half = np.array([length, width, height]) / 2
    for axis, face in enumerate((length / 2, width / 2, height)):
        distance = nearest_along_axis(
            shapes.kinds[pieces], shapes.params[pieces], shapes.num_planes[pieces], axis, half
        )
        assert 10.0 - distance == pytest.approx(face, abs=0.02), axis
