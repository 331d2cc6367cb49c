"""The figures against a slow evaluation from the definitions, and against KITTI's evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from lidar_annos import CAR, Anno, detected, labels, moved, random_frames
from naive_lidar import (
    Fit,
    Frame,
    Thing,
    bev_iou,
    curve,
    exact_area,
    iou_3d,
    kitti_points,
    mean_percent,
    nearness,
    recall_percent,
)

from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.evaluation.kitti import KittiResult, kitti_eval
from pcdet_distill.evaluation.lidar import LidarEvalOptions, LidarResult, lidar_eval
from pcdet_distill.evaluation.lidar.curves import Figures
from pcdet_distill.evaluation.lidar.matching import Criterion

FITS: dict[str, Fit] = {"3d": iou_3d, "bev": bev_iou, "center": nearness}
EVERYTHING = LidarEvalOptions(min_points=0)


def naive_frames(truth: list[Anno], found: list[Anno], name: str, options: LidarEvalOptions):
    """The frames as the slow evaluation wants them."""
    frames: list[Frame] = []
    neutral = options.neutral_to(name)
    for gt, det in zip(truth, found):
        objects = []
        for gt_name, box, points in zip(gt["name"], gt["gt_boxes_lidar"], gt["num_points_in_gt"]):
            near = math.hypot(box[0], box[1]) <= (options.max_distance_m or math.inf)
            if gt_name == name:
                objects.append(Thing(tuple(box), bool(points >= options.min_points and near)))
            elif gt_name in neutral:
                objects.append(Thing(tuple(box), False))
        detections = []
        for det_name, box, score in zip(det["name"], det["boxes_lidar"], det["score"]):
            if det_name == name:
                near = math.hypot(box[0], box[1]) <= (options.max_distance_m or math.inf)
                detections.append(Thing(tuple(box), near, score))
        frames.append((objects, detections))
    return frames


def check_against_naive(figures: Figures, frames: Sequence[Frame], criterion: Criterion) -> None:
    sign = -1 if criterion.kind == "center" else 1
    points = curve(frames, FITS[criterion.kind], sign * criterion.threshold)
    num_objects = sum(thing.counts for objects, _ in frames for thing in objects)
    at_41 = kitti_points(points, num_objects)
    assert figures.num_objects == num_objects
    assert figures.area == pytest.approx(exact_area(points))
    assert figures.recall == pytest.approx(recall_percent(points))
    assert figures.average_precision("R40") == pytest.approx(mean_percent(at_41[1:]))
    assert figures.average_precision("R11") == pytest.approx(mean_percent(at_41[::4]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "options",
    [
        EVERYTHING,
        LidarEvalOptions(min_points=60),
        LidarEvalOptions(min_points=0, neutral={"Car": ["Van", "Bollard"]}),
        LidarEvalOptions(min_points=20, max_distance_m=7.0, iou={"Bollard": 0.6}),
    ],
    ids=["plain", "points", "neutral", "distance"],
)
def test_figures_are_those_of_the_definitions(seed: int, options: LidarEvalOptions) -> None:
    truth, found = random_frames(seed)
    result = lidar_eval(truth, found, ["Car", "Bollard"], options)
    for entry in result.classes:
        frames = naive_frames(truth, found, entry.name, options)
        for criterion, figures in entry.figures.items():
            check_against_naive(figures, frames, criterion)


def test_the_figures_of_a_part_are_those_of_its_objects() -> None:
    """By points: objects of other parts do not count. By distance: nor do far wrong detections."""
    truth, found = random_frames(9, num_frames=30)
    result = lidar_eval(truth, found, ["Car"], LidarEvalOptions(distance_edges_m=(6.0,)))
    entry = result.of_class("Car")
    only_sparse = LidarEvalOptions(min_points=200)
    frames = naive_frames(truth, found, "Car", only_sparse)
    dense = entry.by_points[-1]
    assert dense.label == "from 200 points"
    for criterion, figures in dense.figures.items():
        if criterion.kind != "center":  # there a detection may choose another object
            check_against_naive(figures, frames, criterion)
    near = entry.by_distance[0]
    num_near = 0
    for gt in truth:
        boxes = gt["gt_boxes_lidar"]
        counts = (gt["name"] == "Car") & (gt["num_points_in_gt"] > 0)
        num_near += int((np.hypot(boxes[:, 0], boxes[:, 1]) < 6)[counts].sum())
    criterion = Criterion("3d", 0.7)
    assert near.label == "0 to 6 m"
    assert near.figures[criterion].num_objects == num_near
    parts = [part.figures[criterion] for part in entry.by_distance]
    assert sum(part.num_detections for part in parts) == entry.num_detections


# ---- KITTI's evaluation, where both must agree ----


def spread_frames(seed: int, num_frames: int) -> tuple[list[Anno], list[Anno]]:
    """Objects 9 m apart, so that no detection fits two; several classes, some detections wrong."""
    rng = np.random.default_rng(seed)
    truth = []
    found = []
    for number in range(num_frames):
        named = []
        scored = []
        for cell in rng.permutation(12)[: rng.integers(1, 8)]:
            box = (10 + 9 * (cell % 4), -9 + 9 * (cell // 4), -1, 4, 1.7, 1.5, rng.uniform(-3, 3))
            name = str(rng.choice(["Car", "Pedestrian", "Van"]))
            named.append((name, box))
            if rng.random() < 0.85:
                noise = rng.normal(0, 0.06, 7)
                near = tuple(np.array(box) + noise)
                det_name = name if rng.random() < 0.8 else "Car"
                scored.append((det_name, rng.random(), near))
                if rng.random() < 0.3:
                    scored.append((det_name, rng.random(), moved(near, x=0.2)))
        if rng.random() < 0.5:
            scored.append(("Car", rng.random(), (60.0, *CAR[1:])))
        truth.append(labels(f"{number:06d}", *named))
        found.append(detected(f"{number:06d}", *scored))
    return truth, found


def to_kitti(annos: list[Anno], box_key: str) -> list[Anno]:
    """The same boxes in camera coordinates, all of one difficulty."""
    converted = []
    for anno in annos:
        x, y, z, length, width, height, heading = anno[box_key].T
        count = len(x)
        names = anno["name"] if count else np.zeros(0, dtype=str)
        converted.append(
            {
                "name": names,
                "truncated": np.zeros(count),
                "occluded": np.zeros(count),
                "alpha": np.zeros(count),
                "bbox": np.tile([0.0, 0.0, 100.0, 100.0], (count, 1)),
                "location": np.column_stack([-y, -(z - height / 2), x]),
                "dimensions": np.column_stack([length, height, width]),
                "rotation_y": -heading - np.pi / 2,
                "score": anno.get("score", np.zeros(count)),
            }
        )
    return converted


@pytest.fixture(scope="module", params=[0, 1, 2])
def both(request: pytest.FixtureRequest) -> tuple[KittiResult, LidarResult]:
    truth, found = spread_frames(request.param, num_frames=60)
    names = ["Car", "Pedestrian"]
    kitti = kitti_eval(to_kitti(truth, "gt_boxes_lidar"), to_kitti(found, "boxes_lidar"), names)
    options = LidarEvalOptions(neutral={"Car": ["Van"]})
    return kitti, lidar_eval(truth, found, names, options)


@pytest.mark.parametrize("name", ["Car", "Pedestrian"])
@pytest.mark.parametrize("kind", ["3d", "bev"])
@pytest.mark.parametrize("recall", ["R40", "R11"])
def test_kittis_evaluation_agrees(
    both: tuple[KittiResult, LidarResult], name: str, kind: str, recall: str
) -> None:
    kitti, lidar = both
    entry = lidar.of_class(name)
    for overlaps, criterion in zip(("strict", "loose"), entry.criteria(kind)):
        expected = kitti.metrics()[name][overlaps][kind][recall]["hard"]
        assert 5 < expected < 99
        assert entry.figures[criterion].average_precision(recall) == pytest.approx(expected)


# ---- The rules, one by one ----


def evaluate(truth: list, found: list, **options: object) -> LidarResult:
    return lidar_eval(truth, found, ["Car"], LidarEvalOptions(**options))


def figures_3d(result: LidarResult) -> Figures:
    return result.of_class("Car").figures[Criterion("3d", 0.7)]


def test_perfect_detections_of_few_objects_reach_100_by_the_exact_area_alone() -> None:
    truth = [labels("a", ("Car", CAR), ("Car", moved(CAR, x=10)))]
    found = [detected("a", ("Car", 0.9, CAR), ("Car", 0.8, moved(CAR, x=10)))]
    figures = figures_3d(evaluate(truth, found))
    assert figures.area == 100
    assert figures.average_precision("R40") == pytest.approx(2.5)
    assert figures.recall == 100


def test_a_second_detection_of_an_object_is_wrong() -> None:
    truth = [labels("a", ("Car", CAR))]
    found = [detected("a", ("Car", 0.9, moved(CAR, x=0.05)), ("Car", 0.8, CAR))]
    figures = figures_3d(evaluate(truth, found))
    assert figures.num_detections == 2
    assert figures.area == 100  # the better score found it; the second one comes after recall 1
    assert figures.best_score == 0.9


def test_equal_scores_do_not_depend_on_the_order_of_the_frames() -> None:
    truth = [labels("a", ("Car", CAR)), labels("b")]
    found = [detected("a", ("Car", 0.5, CAR)), detected("b", ("Car", 0.5, CAR))]
    forward = figures_3d(evaluate(truth, found))
    backward = figures_3d(evaluate(truth[::-1], found[::-1]))
    assert forward == backward
    assert forward.area == 50


def test_frames_are_paired_by_name_and_a_repeated_one_counts_once() -> None:
    truth = [labels("a", ("Car", CAR)), labels("b", ("Car", moved(CAR, y=3)))]
    found = [
        detected("b", ("Car", 0.5, moved(CAR, y=3))),
        detected("a", ("Car", 0.6, CAR)),
        detected("b", ("Car", 0.9, moved(CAR, y=20))),
    ]
    assert figures_3d(evaluate(truth, found)).area == 100


def test_a_labelled_frame_without_detections_is_left_out_and_logged(caplog) -> None:
    truth = [labels("a", ("Car", CAR)), labels("b", ("Car", CAR))]
    result = evaluate(truth, [detected("a", ("Car", 0.6, CAR))])
    assert result.num_frames == 1
    assert "evaluated on 1 of 2 frames" in caplog.text


def test_objects_and_detections_out_of_range_do_not_count() -> None:
    far = moved(CAR, x=100)
    truth = [labels("a", ("Car", CAR), ("Car", far))]
    found = [detected("a", ("Car", 0.6, CAR), ("Car", 0.9, moved(far, y=10)))]
    assert figures_3d(evaluate(truth, found)).recall == 50
    limits = (0, -40, -3, 70, 40, 1)
    for options in ({"range": limits}, {"max_distance_m": 70.0}):
        figures = figures_3d(evaluate(truth, found, **options))
        assert (figures.num_objects, figures.num_detections, figures.area) == (1, 1, 100)


def test_errors_are_means_over_the_matches() -> None:
    box = (*CAR, 3.0, 0.0)
    other = (*moved(CAR, x=20), math.nan, math.nan)
    truth = [labels("a", ("Car", box), ("Car", other))]
    turned = (*moved(CAR, x=20.6, y=0.8, z=-0.4, turn=math.pi - 0.1), 1.0, 1.0)
    near = (*moved(CAR, z=0.2, turn=2 * math.pi + 0.1), 3.0, 4.0)
    errors = (
        evaluate(truth, [detected("a", ("Car", 0.9, near), ("Car", 0.8, turned))])
        .of_class("Car")
        .errors
    )
    assert errors.num_matches == 2
    assert errors.position_m == pytest.approx(0.5)
    assert errors.height_m == pytest.approx(-0.1)
    assert errors.heading_rad == pytest.approx(math.pi / 2)
    assert errors.turned == 50
    assert errors.size == pytest.approx(0)
    assert errors.num_velocities == 1
    assert errors.velocity_mps == pytest.approx(4)


def test_size_error_is_one_minus_the_iou_of_equal_centres() -> None:
    larger = (*CAR[:3], 8.0, 1.8, 1.6, CAR[6])
    result = evaluate([labels("a", ("Car", CAR))], [detected("a", ("Car", 0.9, larger))])
    assert result.of_class("Car").errors.size == pytest.approx(0.5)


# ---- Wrong input ----


@pytest.mark.parametrize(
    ("gt", "det", "words"),
    [
        ({"name": ["Car"], "gt_boxes_lidar": [CAR]}, {}, "no 'frame_id' among its keys"),
        ({"frame_id": "b"}, {}, "frame a was detected, but has no labels"),
        ({"gt_boxes_lidar": [CAR[:6]]}, {}, r"'gt_boxes_lidar' has the shape \(1, 6\), expected 7"),
        ({"gt_boxes_lidar": [CAR, CAR]}, {}, "'gt_boxes_lidar' has 2 rows, expected 1"),
        ({"gt_boxes_lidar": [(*CAR[:6], math.nan)]}, {}, "holds NaN or infinity"),
        ({"gt_boxes_lidar": [(*CAR[:3], -4, 1, 1, 0)]}, {}, "a labelled box has a size of 0"),
        ({"num_points_in_gt": [1, 2, 3]}, {}, "'num_points_in_gt' has 3 rows, expected 1"),
        ({}, {"score": [0.1, 0.2]}, "'score' has 2 rows, expected 1"),
        ({"gt_boxes_lidar": [(*CAR[:6], math.inf)]}, {}, "a labelled box holds NaN or infinity"),
        ({}, {"boxes_lidar": [CAR[:6]]}, r"'boxes_lidar' has the shape \(1, 6\)"),
    ],
)
def test_wrong_annotations_are_one_sentence(gt: dict, det: dict, words: str) -> None:
    truth = {"frame_id": "a", "name": ["Car"], "gt_boxes_lidar": [CAR], **gt}
    if words.startswith("no 'frame_id'"):
        del truth["frame_id"]
    found = {"frame_id": "a", "name": ["Car"], "score": [0.5], "boxes_lidar": [CAR], **det}
    with pytest.raises(DataError, match=words):
        lidar_eval([truth], [found], ["Car"])


def test_detections_with_nan_are_left_out_with_a_warning() -> None:
    nan = (*CAR[:6], math.nan)
    found = [("Car", 0.9, nan), ("Car", math.nan, moved(CAR, x=9)), ("Car", 0.5, CAR)]
    result = evaluate([labels("a", ("Car", CAR))], [detected("a", *found)])
    assert figures_3d(result).area == 100
    assert result.remarks[0].startswith("2 detections hold NaN or infinity and are left out")
    assert result.remarks[0] in result.text


def test_names_must_be_there() -> None:
    truth = {"frame_id": "a", "gt_boxes_lidar": [CAR]}
    with pytest.raises(DataError, match="labels of frame a: no 'name' among its keys"):
        lidar_eval([truth], [detected("a")], ["Car"])


def test_classes_must_be_there() -> None:
    with pytest.raises(ConfigError, match="no classes to evaluate"):
        lidar_eval([labels("a", ("Car", CAR))], [detected("a")], [])


def test_a_frame_labelled_twice_is_refused() -> None:
    twice = [labels("a", ("Car", CAR)), labels("a", ("Car", CAR))]
    with pytest.raises(DataError, match="frame a is labelled twice"):
        lidar_eval(twice, [detected("a")], ["Car"])


def test_options_for_a_class_that_is_not_evaluated_are_refused() -> None:
    options = LidarEvalOptions(iou={"Cra": [0.7]})
    with pytest.raises(ConfigError, match=r"IOU\.Cra.*did you mean 'Car'"):
        lidar_eval([labels("a", ("Car", CAR))], [detected("a")], ["Car"], options)
