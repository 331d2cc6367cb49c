"""Tables and curves of a record say what the evaluation printed: the area of a curve is its AP."""

from __future__ import annotations

import numpy as np
import pytest
from toy_evaluation import CLASSES, random_evaluation, toy_evaluation

from pcdet_distill.evaluation.argoverse2.protocol import Argoverse2Protocol
from pcdet_distill.evaluation.argoverse2.score import argoverse2_eval
from pcdet_distill.evaluation.kitti.result import KittiResult
from pcdet_distill.evaluation.lidar import lidar_eval
from pcdet_distill.evaluation.nuscenes.protocol import DETECTION_NAMES, ERRORS, MATCH_DISTANCES_M
from pcdet_distill.evaluation.nuscenes.result import NuScenesResult
from pcdet_distill.evaluation.result import PlainResult
from pcdet_distill.report.collect import collect
from pcdet_distill.report.figures import curves_of, divisions_of, tables_of


def area(curve) -> float:
    """Percent below a curve of straight lines; steps are lines that stand upright."""
    heights = np.array(curve.precision)
    return 100 * float((np.diff(curve.recall) * (heights[1:] + heights[:-1]) / 2).sum())


def kitti_result() -> KittiResult:
    rng = np.random.default_rng(0)
    shape = (2, 3, 2, 41)
    curves = {metric: -np.sort(-rng.uniform(size=shape)) for metric in ("bbox", "bev", "3d")}
    return KittiResult(["Car", "Cyclist"], curves, np.array([[9, 20, 30], [4, 5, 6]]))


def test_kittis_curve_has_the_ap_that_is_printed():
    result = kitti_result()
    printed = {row["class"]: row for row in result.table()}
    curves = curves_of(result, None)
    assert len(curves) == 4
    for curve in curves:
        metric = curve.criterion.split(",")[0].lower()
        r40 = 100 * np.mean(curve.precision[1:])
        assert r40 == pytest.approx(printed[curve.class_name][f"{metric} moderate"])
        assert curve.ap == pytest.approx(r40)
    assert {(curve.class_name, curve.num_objects) for curve in curves} == {
        ("Car", 20),
        ("Cyclist", 5),
    }


def test_kittis_tables_have_every_difficulty_and_the_objects():
    result = kitti_result()
    bev, volume = tables_of(result)
    assert bev.header[2:5] == ["easy", "moderate", "hard"]
    by_class = {row[0]: row for row in volume.rows}
    values = result.average_precision("3d")[..., 0]
    np.testing.assert_allclose(by_class["Car"][2:5], values[0])
    assert by_class["Car"][5:] == [9, 20, 30]
    assert by_class["mAP"][3] == pytest.approx(result.map("3d"))


def test_the_area_below_a_curve_in_lidar_coordinates_is_its_ap():
    gt, det = random_evaluation(num_frames=80)
    result = lidar_eval(gt, det, ["Car"])
    curves = curves_of(result, None)
    assert [curve.criterion for curve in curves] == ["BEV, IoU 0.70", "3D, IoU 0.70"]
    for curve, kind in zip(curves, ("bev", "3d")):
        assert 20 < curve.ap < 95
        assert area(curve) == pytest.approx(curve.ap, abs=0.05)
        assert curve.ap == pytest.approx(result.ap_dict[f"Car_{kind}/iou0.7_area"])
        assert curve.recall == sorted(curve.recall)
        assert curve.precision == sorted(curve.precision, reverse=True)


def test_divisions_hold_all_objects_and_their_own_ap():
    gt, det = random_evaluation()
    result = lidar_eval(gt, det, CLASSES)
    by_distance, by_points = divisions_of(result)  # no part of the pedestrians, who do not occur
    assert by_distance.class_name == by_points.class_name == "Car"
    assert sum(by_distance.num_objects) == sum(by_points.num_objects) == 150
    near = [anno["gt_boxes_lidar"][:, :2] for anno in gt]
    is_near = np.hypot(*np.concatenate(near).T) < 20
    assert by_distance.num_objects[0] == int(is_near.sum())
    expected = result.metrics()["Car"]["by_distance"]["0 to 20 m"]["3d"]["iou0.7"]["area"]
    assert by_distance.ap[0] == pytest.approx(expected)


def nuscenes_result() -> NuScenesResult:
    ap = {name: dict.fromkeys(MATCH_DISTANCES_M, 0.25) for name in DETECTION_NAMES}
    errors = {name: dict.fromkeys(ERRORS, 0.5) for name in DETECTION_NAMES}
    errors["traffic_cone"]["vel_err"] = float("nan")
    counts = dict.fromkeys(DETECTION_NAMES, 7)
    counts["bus"] = 0
    precision = np.where(np.arange(101) <= 40, 1.0, 0.0)
    curves = {name: dict.fromkeys(MATCH_DISTANCES_M, precision) for name in DETECTION_NAMES}
    return NuScenesResult(ap, errors, counts, precision=curves)


def test_nuscenes_has_a_table_of_errors_and_curves_of_classes_with_objects():
    (table,) = tables_of(nuscenes_result())
    rows = {row[0]: row for row in table.rows}
    assert rows["car"][:3] == ["car", 7, 25.0]
    assert rows["traffic_cone"][table.header.index("velocity, m/s")] is None
    assert rows["mean"][1] == 63
    curves = curves_of(nuscenes_result(), None)
    assert len(curves) == 9 and "bus" not in {curve.class_name for curve in curves}
    assert sum(curves[0].precision) == 41


def test_argoverse_and_own_evaluations_have_a_table():
    gt, det = random_evaluation(num_frames=3)
    result = argoverse2_eval(gt, det, ["Car", "Bus"], Argoverse2Protocol())
    (table,) = tables_of(result)
    assert table.rows[0][2] == pytest.approx(result.of_category("Car").ap)
    assert table.rows[1] == ["Bus", 0, None, None, None, None, None]
    (own,) = tables_of(PlainResult("text", {"score": 0.5}))
    assert own.rows == [["score", 0.5]]


def test_a_record_of_argoverse_has_curves_in_lidar_coordinates():
    gt, det = random_evaluation(num_frames=3)
    result = argoverse2_eval(gt, det, CLASSES, Argoverse2Protocol())
    record = collect(toy_evaluation(gt, det, result=result))
    assert record.benchmark == "Argoverse 2"
    assert {curve.criterion for curve in record.curves} == {"BEV, IoU 0.70", "3D, IoU 0.70"}
    assert record.scenes and record.divisions
