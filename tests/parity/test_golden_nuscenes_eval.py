"""nuScenes' metric, result file and text against numbers recorded from nuscenes-devkit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nuscenes_recording import Recording

from pcdet_distill.evaluation.nuscenes import (
    NuScenesResult,
    Tables,
    nuscenes_eval,
    protocol,
    read_poses,
    submission,
)
from pcdet_distill.evaluation.nuscenes.boxes import EvalBoxes, boxes_of_samples
from pcdet_distill.evaluation.nuscenes.devkit import devkit_version
from pcdet_distill.evaluation.nuscenes.score import class_curves, score_boxes

TOLERANCE = 1e-12
VERSION = "v1.0-mini"
# Order of the classes in OpenPCDet's yaml, which the recorded labels count.
CLASSES = [
    *("car", "truck", "construction_vehicle", "bus", "trailer"),
    *("barrier", "motorcycle", "bicycle", "pedestrian", "traffic_cone"),
]
RESULT_KEYS = (
    *("label_aps", "mean_dist_aps", "mean_ap", "label_tp_errors"),
    *("tp_errors", "tp_scores", "nd_score"),
)

SETTINGS = {
    "class_range": protocol.CLASS_RANGE_M,
    "dist_fcn": "center_distance",
    "dist_ths": list(protocol.MATCH_DISTANCES_M),
    "dist_th_tp": protocol.TP_DISTANCE_M,
    "min_recall": protocol.MIN_RECALL,
    "min_precision": protocol.MIN_PRECISION,
    "max_boxes_per_sample": protocol.MAX_BOXES_PER_SAMPLE,
    "mean_ap_weight": protocol.MAP_WEIGHT,
}


def check_equal(found: Any, recorded: Any, where: str = "") -> None:
    """Nested dicts and lists hold the same numbers; the text "nan" stands for NaN."""
    if isinstance(recorded, dict):
        assert found.keys() == recorded.keys(), where
        for key, value in recorded.items():
            check_equal(found[key], value, f"{where}/{key}")
    elif isinstance(recorded, list):
        assert len(found) == len(recorded), where
        for number, value in enumerate(recorded):
            check_equal(found[number], value, f"{where}/{number}")
    elif isinstance(recorded, str) and recorded != "nan":
        assert found == recorded, where
    else:
        assert found == pytest.approx(float(recorded), abs=TOLERANCE, nan_ok=True), where


@cache
def recorded_set(file: Path) -> tuple[Mapping[str, Any], EvalBoxes, EvalBoxes]:
    """A recorded set with its labelled and detected boxes."""
    golden = json.loads(file.read_text())
    truths = boxes_of_samples([_with_nan(rows) for rows in golden["gt"].values()])
    samples = [golden["results"][token] for token in golden["gt"]]
    return golden, truths, boxes_of_samples([_with_nan(rows) for rows in samples])


def _with_nan(rows: list[dict]) -> list[dict]:
    """Boxes whose unknown velocities are NaN."""
    return [row | {"velocity": [float(value) for value in row["velocity"]]} for row in rows]


@pytest.mark.golden("nuscenes_eval/*.json")
def test_metric(golden_file: Path) -> None:
    golden, truths, found = recorded_set(golden_file)
    metrics = score_boxes(truths, found).metrics()
    for key in RESULT_KEYS:
        check_equal(metrics[key], golden[key], key)


@pytest.mark.golden("nuscenes_eval/*.json")
def test_curves_at_two_metres(golden_file: Path) -> None:
    golden, truths, found = recorded_set(golden_file)
    step = golden["curves_at_2m_step"]
    for name, recorded in golden["curves_at_2m"].items():
        curves = class_curves(truths, found, name)[2.0]
        expected = dict(recorded)
        assert curves.last_point == expected.pop("max_recall_ind")
        values = {"precision": curves.precision, "confidence": curves.score, **curves.errors}
        thinned = {key: value[::step].tolist() for key, value in values.items()}
        check_equal(thinned, expected, name)


@pytest.mark.golden("nuscenes_eval/*.json")
def test_settings(golden_file: Path) -> None:
    golden, truths, found = recorded_set(golden_file)
    assert golden["config"] == protocol.CONFIG_NAME
    check_equal(SETTINGS, golden["cfg"])
    counts = {"samples": len(golden["gt"]), "gt": len(truths), "det": len(found)}
    assert counts == golden["counts"]


class Pipeline:
    """The recorded way from detections of a made-up data set to its NDS."""

    def __init__(self, recorded: Recording) -> None:
        folder = recorded.folder / "pipeline"
        self.root = folder / "fake_nuscenes" / VERSION
        self.infos = json.loads((folder / "fake_nuscenes_infos_val.json").read_text())
        self.tokens = [info["token"] for info in self.infos]
        self.det_annos = [self._detections(recorded, k) for k in range(len(self.infos))]

    def _detections(self, recorded: Recording, number: int) -> dict[str, Any]:
        return {
            "name": np.array(CLASSES)[recorded.array(f"pred_labels_{number}") - 1],
            "score": recorded.array(f"pred_scores_{number}"),
            "boxes_lidar": recorded.array(f"pred_boxes_{number}"),
            "frame_id": Path(self.infos[number]["lidar_path"]).stem,
            "metadata": {"token": self.tokens[number]},
        }

    def result(self, use_devkit: bool) -> NuScenesResult:
        result = nuscenes_eval(
            self.infos,
            self.det_annos,
            self.root,
            VERSION,
            classes=CLASSES,
            use_devkit=use_devkit,
        )
        assert isinstance(result, NuScenesResult)
        return result


@pytest.mark.recorded("pred_*", "submission", "submission_tokens_in_order")
def test_result_file(recorded: Recording) -> None:
    pipeline = Pipeline(recorded)
    poses = read_poses(Tables(pipeline.root, VERSION), pipeline.tokens)
    content = submission(pipeline.det_annos, pipeline.tokens, poses)
    check_equal(content, recorded.number("submission"))
    assert list(content["results"]) == recorded.number("submission_tokens_in_order")


@pytest.mark.recorded("pred_*", "metrics_summary", "evaluation_dict", "evaluation_text")
@pytest.mark.parametrize("use_devkit", [False, True])
def test_numbers_and_text(recorded: Recording, use_devkit: bool) -> None:
    """The made-up data set has far boxes, boxes without points and unknown velocities."""
    if use_devkit and devkit_version() is None:
        pytest.skip("needs nuscenes-devkit")
    result = Pipeline(recorded).result(use_devkit)
    assert result.computed_by.startswith("nuscenes-devkit") == use_devkit
    metrics = result.metrics()
    summary = recorded.number("metrics_summary")
    for key in RESULT_KEYS:
        check_equal(metrics[key], summary[key], key)
    check_equal(SETTINGS, summary["cfg"])
    assert summary["meta"]["use_lidar"]
    check_equal(result.ap_dict, recorded.number("evaluation_dict"))
    recorded_text = recorded.number("evaluation_text")
    assert without_last_digits(result.text) == without_last_digits(recorded_text)


def without_last_digits(text: str) -> list[str]:
    """Lines in which the unformatted mean APs have twelve digits."""
    lines = []
    for line in text.splitlines():
        head, mark, value = line.partition("mean AP: ")
        lines.append(f"{head}{mark}{float(value):.12f}" if mark else line)
    return lines
