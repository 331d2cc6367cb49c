"""Our numbers against those of nuscenes-devkit, on the same random scenes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from random_drive import NUM_SAMPLES, OTHER_SCENE, SCENES, random_detections, random_tables
from tiny_tables import VERSION, TinyTables, tokens_of

from pcdet_distill.evaluation.nuscenes import NuScenesResult, Tables, nuscenes_eval, read_truth
from pcdet_distill.evaluation.nuscenes.devkit import devkit_version, matching_split
from pcdet_distill.evaluation.nuscenes.filters import in_rack, in_range
from pcdet_distill.evaluation.nuscenes.result import OWN_RULES

pytest.importorskip("nuscenes.eval.detection.evaluate", reason="needs nuscenes-devkit")

INFOS = [{"token": token} for scene in SCENES for token in tokens_of(scene, NUM_SAMPLES)]


def flat(values: object, path: str = "") -> dict[str, float]:
    """Numbers of nested dicts by their path."""
    if not isinstance(values, dict):
        return {path: values} if isinstance(values, (int, float)) else {}
    numbers: dict[str, float] = {}
    for key, value in values.items():
        numbers |= flat(value, f"{path}/{key}")
    return numbers


@pytest.mark.parametrize("seed", range(4))
def test_all_numbers_are_the_devkit_s(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    tables = random_tables(random)
    root = tables.write(tmp_path)
    det_annos = random_detections(tables, random)
    official = nuscenes_eval(INFOS, det_annos, root, VERSION)
    own = nuscenes_eval(INFOS, det_annos, root, VERSION, use_devkit=False)
    assert isinstance(official, NuScenesResult)
    assert isinstance(own, NuScenesResult)
    assert official.computed_by == f"nuscenes-devkit {devkit_version()}, split mini_val"
    assert own.computed_by == OWN_RULES
    expected = flat(official.metrics())
    numbers = flat(own.metrics())
    assert numbers.keys() == expected.keys()
    assert numbers["/mean_ap"] > 0.05
    for key, value in expected.items():
        assert numbers[key] == pytest.approx(value, abs=1e-12, nan_ok=True), key


def test_the_filters_have_something_to_do(tmp_path: Path) -> None:
    """Range, points and racks each remove labels of the random scenes above."""
    tables = random_tables(np.random.default_rng(0))
    root = tables.write(tmp_path)
    truth = read_truth(Tables(root, VERSION), [info["token"] for info in INFOS])
    boxes = truth.boxes
    assert 0 < in_range(boxes, truth.poses.ego_translation).mean() < 1
    assert in_rack(boxes, truth.racks).any()
    assert (boxes.num_points == 0).any()
    assert np.isnan(boxes.velocity).any()


def test_samples_that_are_no_official_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(5)
    tables = random_tables(random)
    root = tables.write(tmp_path)
    some = random_detections(tables, random)[:-1]
    with caplog.at_level(logging.INFO):
        result = nuscenes_eval(INFOS[:-1], some, root, VERSION)
    assert isinstance(result, NuScenesResult)
    assert result.computed_by == OWN_RULES
    assert "the 7 evaluated samples are no official split" in caplog.text


def test_the_split_is_found_by_its_samples(tmp_path: Path) -> None:
    root = random_tables(np.random.default_rng(0)).write(tmp_path)
    tokens = frozenset(tokens_of(OTHER_SCENE, NUM_SAMPLES))
    assert matching_split(str(root), VERSION, tokens) == "mini_train"


def test_a_folder_that_the_devkit_cannot_open(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the maps, which are a download of their own, the numbers are still there."""
    random = np.random.default_rng(6)
    tables = random_tables(random)
    root = tables.write(tmp_path)
    (root / "maps" / "none.png").unlink()
    with caplog.at_level(logging.INFO):
        result = nuscenes_eval(INFOS, random_detections(tables, random), root, VERSION)
    assert isinstance(result, NuScenesResult)
    assert result.computed_by == OWN_RULES
    assert "cannot open" in caplog.text


def test_no_detections_at_all(tmp_path: Path) -> None:
    """The devkit stops there; a network in its first epochs may well find nothing."""
    tables = TinyTables()
    for scene in SCENES:
        tables.add_scene(scene, NUM_SAMPLES)
    tables.add_object("vehicle.car", [INFOS[0]["token"]], [[110.0, 50.0, 1.0]])
    result = nuscenes_eval(INFOS, [], tables.write(tmp_path), VERSION)
    assert result.ap_dict["mAP"] == 0
    assert result.ap_dict["NDS"] == 0
