"""KITTI evaluation: cases computed by hand, rules of the protocol, a naive oracle, bad input."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
from naive_kitti import Thing, precision_curve

from pcdet_distill.errors import DataError
from pcdet_distill.evaluation.kitti import KittiResult, kitti_eval

CAR = {
    "name": "Car",
    "bbox": (100, 100, 200, 150),
    "location": (2, 1.7, 20),
    "dimensions": (4, 1.5, 1.6),
    "rotation_y": 0.3,
    "alpha": 0.5,
    "truncated": 0,
    "occluded": 0,
    "score": 0.9,
}
COLUMNS = {
    "bbox": 4,
    "location": 3,
    "dimensions": 3,
    "rotation_y": None,
    "alpha": None,
    "truncated": None,
    "occluded": None,
    "score": None,
}


def frame(*things: dict) -> dict[str, np.ndarray]:
    """An annotation dict of the given objects."""
    anno = {"name": np.array([thing["name"] for thing in things], dtype="U16")}
    for key, width in COLUMNS.items():
        values = np.array([thing[key] for thing in things], dtype=np.float32)
        anno[key] = values.reshape(-1, width) if width else values
    return anno


def detected(*things: dict) -> dict[str, np.ndarray]:
    """``frame`` with every box displaced by millimetres.

    OpenPCDet's overlap of two equal boxes is not reliable.
    """
    anno = frame(*things)
    anno["location"] += np.array([[0.004, 0.002, 0.003]], np.float32)
    anno["rotation_y"] += np.float32(0.002)
    return anno


def car(**changes: object) -> dict:
    return {**CAR, **changes}


def shifted(thing: dict, metres: float) -> dict:
    """The same object elsewhere: far enough from itself in the image and on the ground."""
    x1, y1, x2, y2 = thing["bbox"]
    x, y, z = thing["location"]
    return {
        **thing,
        "bbox": (x1 + 40 * metres, y1, x2 + 40 * metres, y2),
        "location": (x + metres, y, z),
    }


def ap(
    result: KittiResult,
    metric: str = "3d",
    recall: str = "R40",
    level: str = "moderate",
    name: str = "Car",
    overlaps: str = "strict",
) -> float:
    return result.metrics()[name][overlaps][metric][recall][level]


def precision_at_0(result: KittiResult, metric: str = "bbox", difficulty: int = 1) -> float:
    return result.precision[metric][0, difficulty, 0, 0]


@pytest.mark.parametrize(
    ("objects", "r11", "r40"),
    [
        (1, 100 / 11, 0.0),
        (2, 100 / 11, 2.5),
        (40, 1000 / 11, 97.5),
        (41, 100.0, 100.0),
        (500, 100.0, 100.0),
    ],
)
def test_perfect_detections(objects: int, r11: float, r40: float) -> None:
    """One recall point per true positive until there are 41: few objects cannot reach 100."""
    truth = [frame(CAR) for _ in range(objects)]
    detections = [detected(car(score=1 - k / 1000)) for k in range(objects)]
    result = kitti_eval(truth, detections, ["Car"])
    for metric in ("bbox", "bev", "3d", "aos"):
        assert ap(result, metric, "R11") == pytest.approx(r11)
        assert ap(result, metric, "R40") == pytest.approx(r40)


def test_toy_precision_curve() -> None:
    """Four objects, hits at .9 and .7, false positives at .8 and .6.

    The precision is 1 at the first recall point, then 2/3.
    """
    things = [shifted(CAR, 10.0 * k) for k in range(4)]
    found = [
        car(score=0.9),
        {**things[1], "score": 0.7},
        {**shifted(CAR, 55), "score": 0.8},
        {**shifted(CAR, 65), "score": 0.6},
    ]
    result = kitti_eval([frame(*things)], [detected(*found)], ["Car"])
    for metric in ("bbox", "bev", "3d"):
        curve = result.precision[metric][0, 1, 0]
        np.testing.assert_allclose(curve, [1, 2 / 3] + [0] * 39)
        assert ap(result, metric, "R11") == pytest.approx(100 / 11)
        assert ap(result, metric, "R40") == pytest.approx(200 / 3 / 40)


def test_precision_is_the_best_from_each_recall_on() -> None:
    things = [shifted(CAR, 10.0 * k) for k in range(3)]
    hits = [{**thing, "score": 0.9 - k / 10} for k, thing in enumerate(things)]
    false_positive = {**shifted(CAR, 55), "score": 1.0}
    result = kitti_eval([frame(*things)], [detected(false_positive, *hits)], ["Car"])
    np.testing.assert_allclose(result.precision["3d"][0, 1, 0, :4], [3 / 4, 3 / 4, 3 / 4, 0])


def test_overlaps_of_hand_made_boxes() -> None:
    """A box moved by a sixth of its length has IoU 5/7 = 0.714 on the ground."""
    straight = car(rotation_y=0.0, dimensions=(6, 2, 2), location=(0, 2, 20))
    near = {**straight, "location": (1, 2, 20)}
    result = kitti_eval([frame(straight)], [detected(near)], ["Car"])
    assert precision_at_0(result, "bev") == precision_at_0(result, "3d") == 1
    further = {**straight, "location": (1.1, 2, 20)}  # 4.9 / 7.1 = 0.690
    result = kitti_eval([frame(straight)], [detected(further)], ["Car"])
    assert precision_at_0(result, "bev") == 0
    assert result.precision["bev"][0, 1, 1, 0] == 1
    # 1.6 / 2.4 = 0.667 of the height, all of the ground
    sunk = {**straight, "location": (0, 2.4, 20)}
    result = kitti_eval([frame(straight)], [detected(sunk)], ["Car"])
    assert precision_at_0(result, "bev") == 1
    assert precision_at_0(result, "3d") == 0


def test_rotation_counts_on_the_ground() -> None:
    """A square turned by 45 degrees shares an octagon with itself: IoU 0.707, just above 0.7."""
    square = car(rotation_y=0.0, dimensions=(2, 2, 2))
    for angle_rad in (math.pi / 4, math.pi / 2, -3 * math.pi / 4):
        turned = detected({**square, "rotation_y": angle_rad})
        assert precision_at_0(kitti_eval([frame(square)], [turned], ["Car"]), "bev") == 1
    along = car(rotation_y=0.0, dimensions=(4, 2, 2))
    across = car(rotation_y=math.pi / 2, dimensions=(4, 2, 2))
    assert precision_at_0(kitti_eval([frame(along)], [detected(across)], ["Car"]), "bev") == 0


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({}, (True, True, True)),
        ({"occluded": 1}, (False, True, True)),
        ({"occluded": 2}, (False, False, True)),
        ({"occluded": 3}, (False, False, False)),
        ({"truncated": 0.2}, (False, True, True)),
        ({"truncated": 0.4}, (False, False, True)),
        ({"truncated": 0.6}, (False, False, False)),
        ({"bbox": (100, 100, 200, 140)}, (False, True, True)),  # height 40: must be more
        ({"bbox": (100, 100, 200, 125)}, (False, False, False)),  # height 25: must be more
    ],
)
def test_difficulties(changes: dict, counted: tuple[bool, bool, bool]) -> None:
    """Finding an object that does not count at a difficulty changes nothing."""
    thing = car(**changes)
    result = kitti_eval([frame(thing)], [detected(thing)], ["Car"])
    for difficulty, counts in enumerate(counted):
        assert precision_at_0(result, "3d", difficulty) == counts


def test_detecting_an_object_of_a_neutral_class_is_no_mistake() -> None:
    van = {**shifted(CAR, 10), "name": "Van"}
    found = [CAR, {**van, "name": "Car", "score": 0.95}]
    assert precision_at_0(kitti_eval([frame(CAR, van)], [detected(*found)], ["Car"])) == 1
    truck = {**van, "name": "Truck"}
    assert precision_at_0(kitti_eval([frame(CAR, truck)], [detected(*found)], ["Car"])) == 0.5
    person = {**CAR, "name": "Pedestrian"}
    sitting = {**van, "name": "Person_sitting"}
    found = [person, {**sitting, "name": "Pedestrian", "score": 0.95}]
    result = kitti_eval([frame(person, sitting)], [detected(*found)], ["Pedestrian"])
    assert precision_at_0(result) == 1


def test_dontcare_regions_excuse_false_positives_in_the_image_only() -> None:
    false_positive = {**shifted(CAR, 10), "score": 0.95}
    x1, y1, x2, y2 = false_positive["bbox"]
    region = car(
        name="DontCare",
        bbox=(x1 - 500, y1 - 20, x2 - 10, y2 + 20),
        location=(-1000, -1000, -1000),
        dimensions=(-1, -1, -1),
        occluded=-1,
        truncated=-1,
    )
    result = kitti_eval([frame(CAR, region)], [detected(CAR, false_positive)], ["Car"])
    assert precision_at_0(result, "bbox") == 1
    assert precision_at_0(result, "3d") == 0.5
    # Covers 60 % of the false positive; more than 70 % are needed.
    slim = {**region, "bbox": (x1, y1, x1 + 60, y2)}
    result = kitti_eval([frame(CAR, slim)], [detected(CAR, false_positive)], ["Car"])
    assert precision_at_0(result) == 0.5


def test_low_detections_of_any_class_are_ignored() -> None:
    """An ignored detection is never false. But an object may take it, and is then no hit."""

    def precision_with(other: dict) -> float:
        result = kitti_eval([frame(CAR)], [detected(CAR, other)], ["Car"])
        return precision_at_0(result, "3d")

    low_car = car(bbox=(100, 100, 200, 120), score=0.95)
    elsewhere = {**shifted(low_car, 10), "score": 0.95}
    assert precision_with(elsewhere) == 1
    low_pedestrian = {**low_car, "name": "Pedestrian"}
    assert precision_with(low_pedestrian) == 0
    # At equal scores the first one is taken, and a detection that counts before an ignored one.
    equally_good = {**low_pedestrian, "score": CAR["score"]}
    assert precision_with(equally_good) == 1
    high_pedestrian = car(name="Pedestrian", score=0.95)
    assert precision_with(high_pedestrian) == 1


def test_a_second_detection_of_the_same_object_is_false() -> None:
    again = car(score=0.95, location=(2.1, 1.7, 20))
    result = kitti_eval([frame(CAR)], [detected(CAR, again)], ["Car"])
    # The threshold is the score of the hit; only the detection with that score reaches it.
    assert precision_at_0(result, "3d") == 1
    result = kitti_eval(
        [frame(CAR), frame(CAR)], [detected(CAR, again), detected(car(score=0.5))], ["Car"]
    )
    np.testing.assert_allclose(result.precision["3d"][0, 1, 0, :3], [1, 2 / 3, 0])


def test_orientation_similarity() -> None:
    for turn_rad, similarity in ((0, 1), (math.pi / 2, 0.5), (math.pi, 0)):
        result = kitti_eval([frame(CAR)], [detected(car(alpha=0.5 + turn_rad))], ["Car"])
        assert precision_at_0(result, "aos") == pytest.approx(similarity, abs=1e-6)
        assert precision_at_0(result, "bbox") == 1


def test_an_overlap_of_exactly_the_threshold_is_too_small() -> None:
    """Half of a pedestrian is found, half of a false one is in a DontCare region: too little."""
    walker = car(name="Pedestrian", bbox=(100, 100, 150, 200))
    other = shifted(walker, 10)
    half = {**other, "bbox": (other["bbox"][0], 100, other["bbox"][0] + 25, 200)}
    for scores, curve in (((0.9, 0.5), [1, 0, 0]), ((0.3, 0.9), [0.5, 0, 0])):
        found = [{**walker, "score": scores[0]}, {**half, "score": scores[1]}]
        result = kitti_eval([frame(walker, other)], [detected(*found)], ["Pedestrian"])
        np.testing.assert_allclose(result.precision["bbox"][0, 1, 0, :3], curve)
    region = {
        **half,
        "name": "DontCare",
        "location": (-1000, -1000, -1000),
        "dimensions": (-1, -1, -1),
    }
    found = [walker, {**other, "score": 0.95}]
    result = kitti_eval([frame(walker, region)], [detected(*found)], ["Pedestrian"])
    assert precision_at_0(result) == 0.5


def test_of_equally_good_detections_the_first_is_taken() -> None:
    """The second one is false then, so a similarity of 1 becomes one half."""
    backwards = car(alpha=CAR["alpha"] + math.pi)
    result = kitti_eval([frame(CAR)], [detected(CAR, backwards)], ["Car"])
    assert precision_at_0(result, "aos") == pytest.approx(0.5, abs=1e-6)
    result = kitti_eval([frame(CAR)], [detected(backwards, CAR)], ["Car"])
    assert precision_at_0(result, "aos") == pytest.approx(0, abs=1e-6)


def test_a_detection_of_just_the_height_counts() -> None:
    tall = car(bbox=(100, 100, 200, 141))
    result = kitti_eval([frame(tall)], [detected(car(bbox=(100, 101, 200, 141)))], ["Car"])
    assert precision_at_0(result, "bbox", difficulty=0) == 1


def test_without_observation_angle_there_is_no_orientation() -> None:
    result = kitti_eval([frame(CAR), frame(CAR)], [detected(), detected(car(alpha=-10))], ["Car"])
    assert "aos" not in result.precision and "aos" not in str(result)
    assert "aos" not in result.metrics()["Car"]["strict"]
    assert not any("aos" in key for key in result.ap_dict)
    assert "aos" in str(kitti_eval([frame(CAR)], [detected(CAR)], ["Car"]))


def scene(rng: np.random.Generator, count: int, names: tuple[str, ...]) -> list[dict]:
    """Objects whose image boxes often overlap; scores differ."""
    result = []
    for _ in range(count):
        x = rng.uniform(0, 300)
        y = rng.uniform(0, 60)
        width = rng.uniform(40, 90)
        height = rng.uniform(20, 70)
        result.append(
            car(
                name=str(rng.choice(names)),
                bbox=(x, y, x + width, y + height),
                score=float(rng.random()),
                location=tuple(rng.uniform((-8, 1, 8), (8, 2, 25))),
                rotation_y=float(rng.uniform(-3, 3)),
                occluded=int(rng.integers(0, 4)),
                truncated=float(rng.choice([0, 0.2, 0.4, 0.6])),
                alpha=float(rng.uniform(-3, 3)),
            )
        )
    return result


def blurred(things: list[dict], rng: np.random.Generator) -> list[dict]:
    """Detections near the objects, some of another class."""
    result = []
    for thing in things:
        if thing["name"] == "DontCare" or rng.random() < 0.2:
            continue
        box = tuple(np.array(thing["bbox"]) + rng.normal(0, 4, 4))
        place = tuple(np.array(thing["location"]) + rng.normal(0, 0.15, 3))
        name = thing["name"] if rng.random() < 0.8 else "Car"
        result.append(
            {**thing, "bbox": box, "location": place, "name": name, "score": float(rng.random())}
        )
    return result


def random_set(seed: int, frames: int = 12) -> tuple[list[list[dict]], list[list[dict]]]:
    """Objects and detections of every frame."""
    rng = np.random.default_rng(seed)
    names = ("Car", "Car", "Pedestrian", "Van", "Person_sitting", "DontCare")
    truth = [scene(rng, int(rng.integers(0, 9)), names) for _ in range(frames)]
    found = []
    for things in truth:
        hits = blurred(things, rng)
        false_positives = scene(rng, int(rng.integers(0, 4)), ("Car", "Pedestrian"))
        found.append(hits + false_positives)
    return truth, found


def annos(frames: list[list[dict]]) -> list[dict]:
    return [frame(*things) for things in frames]


def as_things(things: list[dict]) -> list[Thing]:
    """The same objects for the oracle."""
    return [
        Thing(
            thing["name"],
            tuple(np.float32(thing["bbox"]).tolist()),
            float(np.float32(thing["score"])),
            thing["occluded"],
            thing["truncated"],
        )
        for thing in things
    ]


@pytest.mark.parametrize("seed", range(8))
def test_image_curves_equal_the_naive_oracle(seed: int) -> None:
    truth, found = random_set(seed)
    result = kitti_eval(annos(truth), annos(found), ["Car", "Pedestrian"])
    frames = [(as_things(things), as_things(hits)) for things, hits in zip(truth, found)]
    min_overlaps = {"Car": 0.7, "Pedestrian": 0.5}
    for class_index, (name, min_overlap) in enumerate(min_overlaps.items()):
        for difficulty, level in enumerate(("easy", "moderate", "hard")):
            curve = result.precision["bbox"][class_index, difficulty, 0]
            expected = precision_curve(frames, name, level, min_overlap)
            np.testing.assert_allclose(curve, expected, atol=1e-12)
    assert result.precision["bbox"].max() > 0


def test_the_order_of_frames_and_of_classes_does_not_matter() -> None:
    truth, found = (annos(part) for part in random_set(20, frames=30))
    straight = kitti_eval(truth, found, ["Car", "Pedestrian"])
    back = kitti_eval(truth[::-1], found[::-1], ["Pedestrian", "Car"])
    assert straight.ap_dict == pytest.approx(back.ap_dict)


def moved(thing: dict, angle_rad: float, shift_m: tuple[float, float, float]) -> dict:
    """The object after a rotation of the whole scene around the camera, and a shift."""
    cos = math.cos(angle_rad)
    sin = math.sin(angle_rad)
    rotation = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    location = rotation @ np.array(thing["location"]) + np.array(shift_m)
    return {
        **thing,
        "location": tuple(location),
        "rotation_y": thing["rotation_y"] + angle_rad,
    }


def test_a_scene_seen_from_elsewhere_scores_the_same() -> None:
    """Rotating and shifting all ground boxes together keeps BEV and 3D precision."""
    truth, found = random_set(21, frames=30)

    def elsewhere(frames: list[list[dict]]) -> list[dict]:
        placed = []
        for things in frames:
            placed.append([moved(thing, 0.7, (3.0, 0.2, -2.0)) for thing in things])
        return annos(placed)

    here = kitti_eval(annos(truth), annos(found), ["Car", "Pedestrian"])
    there = kitti_eval(elsewhere(truth), elsewhere(found), ["Car", "Pedestrian"])
    for metric in ("bev", "3d"):
        assert here.precision[metric].max() > 0
        np.testing.assert_allclose(there.precision[metric], here.precision[metric], atol=1e-9)


def test_inputs_stay_as_they_are() -> None:
    truth, found = (annos(part) for part in random_set(22))
    before = copy.deepcopy((truth, found))
    kitti_eval(truth, found, ["Car"])
    for old, new in zip(before, (truth, found)):
        for one, two in zip(old, new):
            assert all(np.array_equal(one[key], two[key]) for key in one)


def test_frames_without_objects_and_without_detections() -> None:
    empty = frame()
    assert kitti_eval([], [], ["Car"]).map() == 0
    assert kitti_eval([empty, empty], [empty, empty], ["Car"]).map() == 0
    result = kitti_eval(
        [empty, frame(CAR), frame(CAR)],
        [detected(CAR), empty, detected(CAR)],
        ["Car", "Cyclist"],
    )
    np.testing.assert_allclose(result.precision["3d"][0, 1, 0, :2], [0.5, 0])
    assert not result.precision["3d"][1].any()


def test_a_frame_without_detections_as_openpcdet_writes_it() -> None:
    """There the names of no detections are an array of floats."""
    empty = {
        **{key: np.zeros(0) for key in ("name", "alpha", "rotation_y", "score")},
        "bbox": np.zeros((0, 4)),
        "dimensions": np.zeros((0, 3)),
        "location": np.zeros((0, 3)),
    }
    result = kitti_eval([frame(CAR), frame(CAR)], [empty, detected(CAR)], ["Car"])
    assert precision_at_0(result, "3d") == 1


def test_degenerate_boxes_do_not_break_anything() -> None:
    flat = car(dimensions=(0, 0, 0), bbox=(100, 100, 100, 100))
    result = kitti_eval([frame(flat, CAR)], [detected(flat, CAR)], ["Car"])
    assert np.isfinite(result.precision["3d"]).all()
    cube = car(dimensions=(2, 2, 2), rotation_y=0.0, location=(0, 2, 10))
    touching = {**cube, "location": (2, 2, 10)}
    result = kitti_eval([frame(cube)], [frame(touching)], ["Car"])
    assert precision_at_0(result, "bev") == 0


@pytest.fixture(scope="module")
def result() -> KittiResult:
    truth, found = random_set(30, frames=40)
    return kitti_eval(annos(truth), annos(found), ["Car", "Pedestrian"])


def test_metrics_are_plain_and_complete(result: KittiResult) -> None:
    metrics = json.loads(json.dumps(result.metrics()))
    assert metrics == result.metrics()
    assert set(metrics) == {"Car", "Pedestrian"}
    for name, metric, key in (
        ("Car", "3d", "3d"),
        ("Pedestrian", "bev", "bev"),
        ("Car", "bbox", "image"),
        ("Car", "aos", "aos"),
    ):
        for level, value in metrics[name]["strict"][metric]["R40"].items():
            assert result.ap_dict[f"{name}_{key}/{level}_R40"] == value
    strict = metrics["Car"]["strict"]
    loose = metrics["Car"]["loose"]
    assert loose["3d"]["R40"]["hard"] > strict["3d"]["R40"]["hard"]
    assert loose["bbox"] == strict["bbox"]
    assert strict["3d"]["R11"] != strict["3d"]["R40"]


def test_table_and_mean(result: KittiResult) -> None:
    rows = result.table()
    assert [row["class"] for row in rows] == ["Car", "Pedestrian", "mAP"]
    assert rows[0]["3d hard"] == ap(result, level="hard")
    assert rows[1]["bev easy"] == ap(result, "bev", level="easy", name="Pedestrian")
    assert rows[2]["3d moderate"] == pytest.approx(result.map())
    car_ap = ap(result, "bev", "R11", "hard")
    pedestrian_ap = ap(result, "bev", "R11", "hard", "Pedestrian")
    assert result.map("bev", "R11", "hard") == pytest.approx((car_ap + pedestrian_ap) / 2)
    loose = result.table(metrics=("bbox", "aos"), recall="R11", overlaps="loose")[0]
    assert loose["aos easy"] == ap(result, "aos", "R11", "easy", overlaps="loose")
    assert list(loose) == [
        "class",
        "bbox easy",
        "bbox moderate",
        "bbox hard",
        "aos easy",
        "aos moderate",
        "aos hard",
    ]


def test_text_table_is_aligned_and_holds_the_numbers(result: KittiResult) -> None:
    title, *lines = result.text_table().splitlines()
    assert title == "AP R40, strict overlaps"
    assert len({len(line) for line in lines}) == 1
    assert f"{ap(result, level='hard'):.2f}" in lines[1]


def test_unknown_classes_are_refused() -> None:
    with pytest.raises(
        DataError, match="unknown class 'car'; did you mean 'Car'.*Pedestrian.*Truck"
    ):
        kitti_eval([frame(CAR)], [detected(CAR)], ["car"])
    with pytest.raises(DataError, match="unknown class 'Zebra'; known: Car, Cyclist"):
        kitti_eval([frame(CAR)], [detected(CAR)], ["Car", "Zebra"])


def test_bad_annotations_are_named() -> None:
    with pytest.raises(DataError, match="detections of 1 frames, expected the 2 frames"):
        kitti_eval([frame(CAR), frame(CAR)], [detected(CAR)], ["Car"])
    lacking = frame(CAR)
    del lacking["score"]
    with pytest.raises(DataError, match="detections of frame number 1: key 'score' is missing"):
        kitti_eval([frame(CAR)] * 2, [detected(CAR), lacking], ["Car"])
    uneven = {**frame(CAR), "alpha": np.zeros(2)}
    with pytest.raises(
        DataError, match="ground truth of frame number 0: 'alpha' has 2 rows, expected 1"
    ):
        kitti_eval([uneven], [detected(CAR)], ["Car"])
    with pytest.raises(DataError, match="ground truth of frame number 0: no 'name'"):
        kitti_eval([{}], [detected(CAR)], ["Car"])
