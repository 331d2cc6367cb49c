"""Each option of the scenes changes what it says, and leaves the rest of the frame as it is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from pcdet_distill.datasets.synthetic.labels import frame_labels
from pcdet_distill.datasets.synthetic.scenes.builder import Scene
from pcdet_distill.datasets.synthetic.scenes.lookalikes import LOOKALIKES
from pcdet_distill.datasets.synthetic.scenes.options import (
    EASY,
    LookalikeOptions,
    SceneOptions,
    ShapeOptions,
    StreetOptions,
    SurfaceOptions,
    TiltOptions,
    TrafficOptions,
    WeatherOptions,
    read_scenes,
)
from pcdet_distill.datasets.synthetic.sensors.camera import Camera
from pcdet_distill.datasets.synthetic.sensors.lidar import Sweep
from pcdet_distill.datasets.synthetic.sensors.weather import IN_THE_AIR
from pcdet_distill.datasets.synthetic.templates.library import ROAD_USERS, library
from pcdet_distill.datasets.synthetic.templates.more_road_users import FAMILIES
from pcdet_distill.datasets.synthetic.writer import simulate_frame

SEED = 21
FRAMES = range(12)
KEPT = {family.name for family in FAMILIES if family.is_kept}
FURTHER = {family.name for family in FAMILIES if not family.is_kept}


def simulate(
    frame: int, scenes: SceneOptions = EASY, for_evaluation: bool = False
) -> tuple[Scene, Sweep]:
    return simulate_frame(SEED, frame, scenes=scenes, for_evaluation=for_evaluation)


def names_of(scene: Scene) -> list[str]:
    """The template of every object."""
    names = list(library().index)
    return [names[template] for template in scene.instances.template]


def assert_begins_with(scene: Scene, easy: Scene) -> None:
    """The objects of the easy scene come first, unchanged."""
    count = len(easy.labels)
    assert scene.labels[:count] == easy.labels
    for found, expected in zip(scene.instances, easy.instances):
        np.testing.assert_array_equal(found[:count], expected)
    assert scene.ground == easy.ground


def added_names(scenes: SceneOptions) -> Counter[str]:
    """The templates of the objects that an option adds to the easy scenes."""
    added: Counter[str] = Counter()
    for frame in FRAMES:
        scene, _ = simulate(frame, scenes)
        easy, _ = simulate(frame)
        assert_begins_with(scene, easy)
        added.update(names_of(scene)[len(easy.labels) :])
    return added


# Shapes


def used_shapes(options: ShapeOptions, for_evaluation: bool) -> Counter[str]:
    """The templates of the road users; place, class and shade must be those of easy scenes."""
    used: Counter[str] = Counter()
    for frame in FRAMES:
        scene, _ = simulate(frame, SceneOptions(shapes=options), for_evaluation)
        easy, _ = simulate(frame)
        np.testing.assert_array_equal(scene.instances.poses, easy.instances.poses)
        np.testing.assert_array_equal(scene.instances.shade, easy.instances.shade)
        assert scene.labels == easy.labels
        for name, label in zip(names_of(scene), scene.labels):
            if label in ("Car", "Pedestrian", "Cyclist"):
                used[name] += 1
    return used


def test_training_frames_have_further_shapes_but_none_that_is_kept() -> None:
    used = used_shapes(ShapeOptions(families="many", kept_share=0.5), for_evaluation=False)
    assert not KEPT & set(used)
    assert len(FURTHER & set(used)) > 0.8 * len(FURTHER)
    further = sum(used[name] for name in FURTHER)
    assert 0.3 < further / used.total() < 0.65  # 5 of 12 cars, 6 of 12 people, 4 of 9 cyclists


def test_frames_for_evaluation_have_the_kept_share_of_kept_shapes() -> None:
    used = used_shapes(ShapeOptions(kept_share=0.4), for_evaluation=True)
    assert not FURTHER & set(used)
    assert sum(used[name] for name in KEPT) / used.total() == pytest.approx(0.4, abs=0.12)
    assert not KEPT & set(used_shapes(ShapeOptions(families="many"), for_evaluation=True))


def test_every_class_has_shapes_of_both_kinds() -> None:
    for label in ("Car", "Pedestrian", "Cyclist"):
        kinds = {family.is_kept for family in FAMILIES if family.label == label}
        assert kinds == {True, False}
    assert not {name for user in ROAD_USERS.values() for name in user.templates} & (KEPT | FURTHER)


# Look-alikes


@pytest.mark.parametrize("group", list(LOOKALIKES))
def test_lookalikes_of_a_class_are_added_where_there_is_room(group: str) -> None:
    kinds = {kind.name for kind in LOOKALIKES[group]}
    added = added_names(SceneOptions(lookalikes=LookalikeOptions(**{group: 6.0})))
    assert set(added) <= kinds
    assert len(added) > len(kinds) / 2
    assert 2.0 < added.total() / len(FRAMES) < 8.0


def test_lookalikes_have_no_label_and_keep_away_from_road_users() -> None:
    scenes = SceneOptions(lookalikes=LookalikeOptions(people=10.0))
    for frame in FRAMES:
        scene, _ = simulate(frame, scenes)
        is_lookalike = np.isin(names_of(scene), [kind.name for kind in LOOKALIKES["people"]])
        is_person = np.array([label == "Pedestrian" for label in scene.labels])
        assert not (is_lookalike & is_person).any()
        places = scene.instances.poses[:, :2]
        gaps = places[is_lookalike][:, None] - places[is_person][None]
        assert (np.linalg.norm(gaps, axis=-1) > 0.4).all()


# Company


@pytest.mark.parametrize(
    ("options", "templates"),
    [
        (TrafficOptions(groups=1.0), set(ROAD_USERS["Pedestrian"].templates)),
        (TrafficOptions(parked_bicycles=3.0), {"bicycle"}),
        (TrafficOptions(large_neighbours=1.0), {"van", "truck"}),
    ],
)
def test_company_adds_its_own_kind_alone(options: TrafficOptions, templates: set[str]) -> None:
    added = added_names(SceneOptions(traffic=options))
    assert set(added) == templates
    assert added.total() > len(FRAMES)


def test_people_of_a_group_walk_close_together() -> None:
    for frame in FRAMES:
        scene, _ = simulate(frame, SceneOptions(traffic=TrafficOptions(groups=1.0)))
        easy, _ = simulate(frame)
        is_person = np.array([label == "Pedestrian" for label in scene.labels])
        places = scene.instances.poses[:, :2]
        is_companion = is_person & (np.arange(len(is_person)) >= len(easy.labels))
        first = places[is_person & ~is_companion]
        for place in places[is_companion]:
            assert np.linalg.norm(first - place, axis=1).min() < 3.5


def test_kittis_frequencies() -> None:
    counts: Counter[str] = Counter()
    num_frames = 60
    scenes = SceneOptions(traffic=TrafficOptions(frequencies="kitti"))
    for frame in range(num_frames):
        scene, sweep = simulate(frame, scenes)
        easy, _ = simulate(frame)
        assert [name for name in scene.labels if name is None] == [
            name for name in easy.labels if name is None
        ]
        labels = frame_labels(scene, sweep, Camera.standard())
        counts.update(label.name for label in labels)
    assert counts["Car"] / num_frames == pytest.approx(3.84, abs=1.0)
    assert counts["Pedestrian"] / num_frames == pytest.approx(0.60, abs=0.3)
    assert counts["Cyclist"] / num_frames == pytest.approx(0.22, abs=0.2)


@pytest.mark.parametrize("label", ["Pedestrian", "Cyclist"])
def test_a_share_of_a_class_stays(label: str) -> None:
    options = TrafficOptions(**{f"{label.lower()}s": 0.5})
    num_left = 0
    num_easy = 0
    for frame in range(40):
        scene, _ = simulate(frame, SceneOptions(traffic=options))
        easy, _ = simulate(frame)
        others = [name for name in scene.labels if name != label]
        assert others == [name for name in easy.labels if name != label]
        num_left += scene.labels.count(label)
        num_easy += easy.labels.count(label)
    assert num_left / num_easy == pytest.approx(0.5, abs=0.12)


# Surfaces


def test_black_cars_are_darker_and_nothing_else_changes() -> None:
    scenes = SceneOptions(surfaces=SurfaceOptions(black_cars=1.0))
    for frame in FRAMES:
        scene, sweep = simulate(frame, scenes)
        easy, easy_sweep = simulate(frame)
        is_vehicle = np.array([label in ("Car", "Van", "Truck") for label in scene.labels])
        assert (scene.instances.shade[is_vehicle] <= 0.1).all()
        others = scene.instances.shade[~is_vehicle]
        np.testing.assert_array_equal(others, easy.instances.shade[~is_vehicle])
        np.testing.assert_array_equal(scene.instances.poses, easy.instances.poses)
        np.testing.assert_array_equal(sweep.visible, easy_sweep.visible)
        assert returns_of(sweep, is_vehicle) < 0.9 * returns_of(easy_sweep, is_vehicle) + 1


def returns_of(sweep: Sweep, is_counted: np.ndarray) -> int:
    """The number of points on some of the objects."""
    owner = sweep.owner[sweep.owner >= 0]
    return int(is_counted[owner].sum())


def test_polished_cars_lose_half_of_their_points_or_more() -> None:
    scenes = SceneOptions(surfaces=SurfaceOptions(polished_cars=1.0))
    num_points = 0
    num_easy = 0
    for frame in FRAMES:
        scene, sweep = simulate(frame, scenes)
        _, easy = simulate(frame)
        is_vehicle = np.array([label in ("Car", "Van", "Truck") for label in scene.labels])
        num_points += returns_of(sweep, is_vehicle)
        num_easy += returns_of(easy, is_vehicle)
        assert returns_of(sweep, ~is_vehicle) == returns_of(easy, ~is_vehicle)
        assert (sweep.owner < 0).sum() == (easy.owner < 0).sum()
    assert 0.1 * num_easy < num_points < 0.5 * num_easy


# Weather


def rows(points: np.ndarray) -> set[bytes]:
    """Every point as one hashable thing."""
    return {row.tobytes() for row in points}


@pytest.mark.parametrize(
    "weather",
    [WeatherOptions(rain=1.0), WeatherOptions(dust=1.0), WeatherOptions(dropped_beams=3.0)],
)
def test_weather_takes_points_and_adds_none_but_in_the_air(weather: WeatherOptions) -> None:
    num_in_air = 0
    for frame in FRAMES:
        scene, sweep = simulate(frame, SceneOptions(weather=weather))
        easy_scene, easy = simulate(frame)
        assert_begins_with(scene, easy_scene)
        in_air = sweep.owner == IN_THE_AIR
        num_in_air += int(in_air.sum())
        assert rows(sweep.points[~in_air]) <= rows(easy.points)
        assert len(sweep.points) <= len(easy.points)
        assert (sweep.points[in_air, 3] <= 0.06 + 1e-6).all()
    if weather.rain or weather.dust:
        assert num_in_air > 20 * len(FRAMES)
    else:
        assert num_in_air == 0


def test_rain_loses_far_points_and_shows_near_drops() -> None:
    kept = np.zeros(2)
    total = np.zeros(2)
    for frame in FRAMES:
        _, sweep = simulate(frame, SceneOptions(weather=WeatherOptions(rain=1.0)))
        _, easy = simulate(frame)
        ranges_m = np.linalg.norm(sweep.points[:, :3], axis=1)
        in_air = sweep.owner == IN_THE_AIR
        assert np.median(ranges_m[in_air]) < 7.0
        easy_ranges_m = np.linalg.norm(easy.points[:, :3], axis=1)
        for place, (low, high) in enumerate([(0.0, 10.0), (30.0, 80.0)]):
            kept[place] += ((ranges_m > low) & (ranges_m < high) & ~in_air).sum()
            total[place] += ((easy_ranges_m > low) & (easy_ranges_m < high)).sum()
    near_share, far_share = kept / total
    assert near_share > far_share + 0.1


def test_a_dropped_beam_is_missing_as_a_whole() -> None:
    for frame in FRAMES:
        _, sweep = simulate(frame, SceneOptions(weather=WeatherOptions(dropped_beams=3.0)))
        _, easy = simulate(frame)
        before = beams_of(easy.points)
        after = beams_of(sweep.points)
        gone = set(before) - set(after)
        assert sum(before[beam] for beam in gone) == len(easy.points) - len(sweep.points)
        assert all(after[beam] == before[beam] for beam in after)


def beams_of(points: np.ndarray) -> Counter[int]:
    """The number of points of each elevation; beams are a third of a degree apart or more."""
    elevation = np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))
    nearest = np.round(np.rad2deg(elevation) * 12.0).astype(int)
    return Counter(nearest.tolist())


# Tilt


def test_a_tilted_car_turns_points_and_boxes_together() -> None:
    scenes = SceneOptions(tilt=TiltOptions(pitch_deg=1.0, roll_deg=1.0))
    camera = Camera.standard()
    angles = []
    for frame in FRAMES:
        scene, sweep = simulate(frame, scenes)
        easy, _ = simulate(frame)
        assert_begins_with(replace(scene, tilt=None), easy)
        assert scene.tilt is not None
        np.testing.assert_allclose(scene.tilt @ scene.tilt.T, np.eye(3), atol=1e-12)
        angles.append(np.rad2deg(np.arccos(scene.tilt[2, 2])))
        assert camera.sees(sweep.points[:, :3], margin_px=0.5).all()
        upright = sweep.points[:, :3].astype(float) @ scene.tilt
        for label in frame_labels(scene, sweep, camera):
            if label.is_ignored:
                continue
            own = sweep.points[sweep.owner == label.number, :3].astype(float)
            own_rect = camera.to_rect(own)
            half_height = label.size_m[2] / 2
            middle = label.location - [0.0, half_height, 0.0]
            reach_m = np.linalg.norm(label.size_m) / 2
            assert (np.linalg.norm(own_rect - middle, axis=1) < reach_m + 0.1).all()
        ground = upright[sweep.owner == -2]
        height_m = np.asarray(scene.ground.height(ground[:, 0], ground[:, 1]))
        assert np.abs(height_m - ground[:, 2]).mean() < 0.03
    assert 0.6 < np.mean(angles) < 2.2


# Streets


def test_other_streets_are_for_evaluation_alone() -> None:
    scenes = SceneOptions(streets=StreetOptions(other_in_evaluation=True))
    lanes = 0
    for frame in FRAMES:
        scene, sweep = simulate(frame, scenes, for_evaluation=False)
        easy, easy_sweep = simulate(frame)
        assert_begins_with(scene, easy)
        np.testing.assert_array_equal(sweep.points, easy_sweep.points)
        other, _ = simulate(frame, scenes, for_evaluation=True)
        assert other.ground != easy.ground
        lanes += other.ground.half_width_m < 2.7  # narrower than every street of training
    assert lanes >= 2


# All together


def test_hard_frames_are_the_same_whenever_they_are_made() -> None:
    hard = read_scenes("hard")
    first, first_sweep = simulate(5, hard, for_evaluation=True)
    for frame in (3, 4):
        simulate(frame, hard)
    again, again_sweep = simulate(5, hard, for_evaluation=True)
    assert_begins_with(again, first)
    np.testing.assert_array_equal(first_sweep.points, again_sweep.points)
    np.testing.assert_array_equal(first.tilt, again.tilt)
