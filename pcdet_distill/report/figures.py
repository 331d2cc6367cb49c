"""From the result of an evaluation to tables and curves of a record, by each benchmark's rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..evaluation.argoverse2.result import COLUMNS, Argoverse2Result
from ..evaluation.kitti.protocol import DIFFICULTIES, MIN_OVERLAP, OVERLAP_SETS
from ..evaluation.kitti.protocol import METRICS as KITTI_METRICS
from ..evaluation.kitti.result import KittiResult
from ..evaluation.lidar import LidarResult
from ..evaluation.lidar.result import TITLES, ClassResult, Part
from ..evaluation.nuscenes.protocol import ERRORS, MATCH_DISTANCES_M
from ..evaluation.nuscenes.result import NuScenesResult
from ..evaluation.result import EvaluationResult
from .record import ApTable, Division, PrecisionCurve

KITTI = "KITTI"
MOST_POINTS = 600  # of a curve; KITTI's have 41, nuScenes' 101
KITTI_TITLES = {"bev": "BEV", "3d": "3D"}
KITTI_RULE = "AP R40: the mean precision at the recalls 1/40, 2/40, ... 1."
NUSCENES_SHORT = {
    "trans_err": "place, m",
    "scale_err": "size",
    "orient_err": "heading, rad",
    "vel_err": "velocity, m/s",
    "attr_err": "attribute",
}


def benchmark_name(result: EvaluationResult | None) -> str:
    """Whose rules a result follows."""
    names: dict[type, str] = {
        KittiResult: KITTI,
        LidarResult: "AP in LiDAR coordinates",
        NuScenesResult: "nuScenes",
        Argoverse2Result: "Argoverse 2",
    }
    return names.get(type(result), "own evaluation")


def tables_of(result: EvaluationResult) -> list[ApTable]:
    """Every table of a result."""
    if isinstance(result, KittiResult):
        return [_kitti_table(result, metric) for metric in KITTI_TITLES]
    if isinstance(result, LidarResult):
        return [_lidar_table(result), _lidar_errors(result)]
    if isinstance(result, NuScenesResult):
        return [_nuscenes_table(result)]
    if isinstance(result, Argoverse2Result):
        return [_argoverse_table(result)]
    rows: list[list[object]] = [[name, value] for name, value in result.ap_dict.items()]
    return [
        ApTable("Figures", "The numbers of the data set's own evaluation.", ["", "value"], rows)
    ]


def curves_of(result: EvaluationResult, lidar: LidarResult | None) -> list[PrecisionCurve]:
    """Precision over recall by the result's own rules, else in LiDAR coordinates.

    Args:
        lidar: the same detections, scored in LiDAR coordinates; None without labels for it.
    """
    if isinstance(result, KittiResult):
        return _kitti_curves(result)
    if isinstance(result, NuScenesResult) and result.precision:
        return _nuscenes_curves(result)
    if isinstance(result, LidarResult):
        lidar = result
    return [] if lidar is None else _lidar_curves(lidar)


def divisions_of(lidar: LidarResult) -> list[Division]:
    """AP by distance and by number of points, at the first IoU threshold in 3D."""
    divisions = []
    for entry in lidar.classes:
        for by, parts in (("distance", entry.by_distance), ("points", entry.by_points)):
            if parts and entry.num_objects:
                divisions.append(_division(entry, by, parts))
    return divisions


def _division(entry: ClassResult, by: str, parts: Sequence[Part]) -> Division:
    criterion = entry.criteria("3d")[0]
    figures = [part.figures[criterion] for part in parts]
    return Division(
        class_name=entry.name,
        by=by,
        criterion=f"3D {criterion.label}",
        labels=[part.label for part in parts],
        ap=[each.area for each in figures],
        recall=[each.recall for each in figures],
        num_objects=[each.num_objects for each in figures],
    )


def _kitti_table(result: KittiResult, metric: str) -> ApTable:
    """AP of one metric at all difficulties, with the objects of each."""
    strict = OVERLAP_SETS.index("strict")
    values = result.average_precision(metric)[..., strict]
    rows: list[list[object]] = []
    for index, name in enumerate(result.classes):
        row: list[object] = [name, _kitti_overlap(name, metric), *map(float, values[index])]
        rows.append(row + _kitti_objects(result, index))
    means = [float(mean) for mean in values.mean(axis=0)]
    rows.append(["mAP", "", *means, *([""] * len(_kitti_objects(result, 0)))])
    counts = [] if result.num_objects is None else [f"objects {name}" for name in DIFFICULTIES]
    return ApTable(
        title=f"{KITTI_TITLES[metric]} AP",
        about=f"KITTI's rules, percent. {KITTI_RULE} Difficulty: by height in the image, "
        "occlusion and truncation; each level holds the easier ones.",
        header=["class", "IoU", *DIFFICULTIES, *counts],
        rows=rows,
        num_totals=1,
    )


def _kitti_objects(result: KittiResult, index: int) -> list[object]:
    return [] if result.num_objects is None else result.num_objects[index].tolist()


def _kitti_overlap(name: str, metric: str) -> str:
    return f"{MIN_OVERLAP[name]['strict'][KITTI_METRICS.index(metric)]:.2f}"


def _kitti_curves(result: KittiResult) -> list[PrecisionCurve]:
    """At moderate difficulty and the official overlaps."""
    moderate, strict = DIFFICULTIES.index("moderate"), OVERLAP_SETS.index("strict")
    recall = np.linspace(0, 1, result.precision["3d"].shape[-1]).tolist()
    curves = []
    for index, name in enumerate(result.classes):
        count = 0 if result.num_objects is None else int(result.num_objects[index, moderate])
        for metric, title in KITTI_TITLES.items():
            ap = result.average_precision(metric)[index, moderate, strict]
            curves.append(
                PrecisionCurve(
                    class_name=name,
                    criterion=f"{title}, moderate, IoU {_kitti_overlap(name, metric)}",
                    about=KITTI_RULE,
                    ap=float(ap),
                    num_objects=count,
                    recall=recall,
                    precision=result.precision[metric][index, moderate, strict].tolist(),
                )
            )
    return curves


def _lidar_table(result: LidarResult) -> ApTable:
    """AP of each class by every criterion."""
    header = ["class", "objects", *(f"{TITLES[kind]} AP" for kind in TITLES), "recall", "best F1"]
    rows: list[list[object]] = []
    for entry in result.classes:
        first = entry.figures[entry.criteria("3d")[0]]
        aps = [entry.average_precision(kind, "area") for kind in TITLES]
        rows.append([entry.name, entry.num_objects, *aps, first.recall, first.best_f1])
    means = [result.map(kind) for kind in TITLES]
    rows.append(["mAP", sum(entry.num_objects for entry in result.classes), *means, None, None])
    thresholds = ", ".join(
        f"{entry.name} {entry.criteria('3d')[0].label}" for entry in result.classes
    )
    return ApTable(
        title="AP in LiDAR coordinates",
        about=f"Percent; the exact area under the curve. 3D and BEV: {thresholds}. center: mean "
        "over the distances of the centres. Recall and F1: 3D.",
        header=header,
        rows=rows,
        num_totals=1,
    )


def _lidar_errors(result: LidarResult) -> ApTable:
    header = ["class", "pairs", "place, m", "height, m", "size", "heading, rad", "turned, %"]
    rows: list[list[object]] = []
    for entry in result.classes:
        errors = entry.errors
        rows.append(
            [entry.name, errors.num_matches, errors.position_m, errors.height_m]
            + [errors.size, errors.heading_rad, errors.turned]
        )
    return ApTable(
        title="How exact the boxes are",
        about=f"Means over the pairs of a detection and an object whose centres are within "
        f"{result.options.error_distance_m:g} m. Size: 1 - IoU with centre and heading made "
        "equal. Turned: heading wrong by more than 90 degrees.",
        header=header,
        rows=rows,
    )


def _lidar_curves(result: LidarResult) -> list[PrecisionCurve]:
    curves = []
    for entry in result.classes:
        if entry.num_objects == 0:
            continue
        for kind in ("bev", "3d"):
            criterion = entry.criteria(kind)[0]
            curve = entry.curves[criterion]
            recall, precision = _as_steps(curve.recall, curve.precision)
            curves.append(
                PrecisionCurve(
                    class_name=entry.name,
                    criterion=f"{TITLES[kind]}, {criterion.label}",
                    about="AP is the area below the curve.",
                    ap=float(entry.figures[criterion].area or 0.0),
                    num_objects=entry.num_objects,
                    recall=recall,
                    precision=precision,
                )
            )
    return curves


def _as_steps(recall: np.ndarray, precision: np.ndarray) -> tuple[list[float], list[float]]:
    """The corners of the steps: precision holds from the last recall to the next.

    Corners on a straight line are left out; a curve that is longer still is thinned.
    """
    xs = [0.0]
    ys = [float(precision[0]) if len(precision) else 0.0]
    changes = np.flatnonzero(np.diff(precision)) if len(precision) else np.zeros(0, dtype=int)
    for number in changes:
        xs += [float(recall[number])] * 2
        ys += [float(precision[number]), float(precision[number + 1])]
    if len(recall):
        xs += [float(recall[-1])] * 2
        ys += [float(precision[-1]), 0.0]
    if len(xs) > MOST_POINTS:
        kept = np.linspace(0, len(xs) - 1, MOST_POINTS).round().astype(int)
        xs, ys = [xs[place] for place in kept], [ys[place] for place in kept]
    return [round(x, 5) for x in xs], [round(y, 5) for y in ys]


def _nuscenes_table(result: NuScenesResult) -> ApTable:
    header = ["class", "objects", "AP", *(f"AP {distance:g} m" for distance in MATCH_DISTANCES_M)]
    header += [NUSCENES_SHORT[name] for name in ERRORS]
    rows: list[list[object]] = []
    for name in result.classes:
        by_distance = [100 * result.ap[name][distance] for distance in MATCH_DISTANCES_M]
        row: list[object] = [name, result.num_objects[name], 100 * result.class_ap(name)]
        errors = [result.errors[name][error] for error in ERRORS]
        rows.append([*row, *by_distance, *(None if np.isnan(one) else one for one in errors)])
    blanks = [""] * len(MATCH_DISTANCES_M)
    means = list(result.mean_errors.values())
    total = sum(result.num_objects.values())
    rows.append(["mean", total, 100 * result.mean_ap, *blanks, *means])
    return ApTable(
        title=f"nuScenes: NDS {100 * result.detection_score:.1f}, mAP {100 * result.mean_ap:.1f}",
        about="AP in percent, the mean over four distances of the centres. The mean errors of "
        "matched boxes (smaller is better); NDS is made from mAP and these errors. "
        f"Computed by {result.computed_by}.",
        header=header,
        rows=rows,
        num_totals=1,
    )


def _nuscenes_curves(result: NuScenesResult) -> list[PrecisionCurve]:
    """At 2 m, by which the errors are measured too."""
    distance = 2.0
    recall = np.linspace(0, 1, 101).round(2).tolist()
    curves = []
    for name in result.classes:
        if result.num_objects[name] == 0:
            continue
        curves.append(
            PrecisionCurve(
                class_name=name,
                criterion="centre within 2 m",
                about="AP: the mean over recalls above 10 % of the precision above 10 %, from 0 "
                "to 100.",
                ap=100 * result.ap[name][distance],
                num_objects=result.num_objects[name],
                recall=recall,
                precision=result.precision[name][distance].tolist(),
            )
        )
    return curves


def _argoverse_table(result: Argoverse2Result) -> ApTable:
    rows: list[list[object]] = []
    for entry in result.categories:
        values = [float(getattr(entry, attribute)) for attribute in COLUMNS.values()]
        has_objects = entry.num_objects > 0
        rows.append([entry.name, entry.num_objects, *(values if has_objects else [None] * 5)])
    means = list(result.means().values())
    total = sum(entry.num_objects for entry in result.categories)
    rows.append(["mean of those with objects", total, *means])
    return ApTable(
        title="Argoverse 2",
        about="AP and CDS from 0 to 1; ATE, ASE, AOE: mean errors of place (m), size and heading "
        "(rad) of matched boxes, smaller is better.",
        header=["category", "objects", *COLUMNS],
        rows=rows,
        num_totals=1,
    )
