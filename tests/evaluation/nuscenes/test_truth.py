"""Labels from the tables, and sentences about tables that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_tables import VERSION, TinyTables, detections, tokens_of

from pcdet_distill.errors import DataError
from pcdet_distill.evaluation.nuscenes import Tables, nuscenes_eval, read_truth
from pcdet_distill.evaluation.nuscenes.filters import filtered, in_rack
from pcdet_distill.evaluation.result import PlainResult

NUM_SAMPLES = 5
TOKENS = tokens_of("scene-0103", NUM_SAMPLES)
INFOS = [{"token": token} for token in TOKENS]


@pytest.fixture
def tables() -> TinyTables:
    tables = TinyTables()
    tables.add_scene("scene-0103", NUM_SAMPLES)
    return tables


def test_velocities(tables: TinyTables, tmp_path: Path) -> None:
    """2 m in 0.5 s, then 4 m: the middle label uses both, those at the ends one neighbour."""
    places = [[100.0, 50, 0], [102.0, 50, 0], [106.0, 50, 0]]
    tables.add_object("vehicle.car", TOKENS[:3], places)
    tables.add_object("vehicle.car", TOKENS[:1], places[:1])
    tables.add_object("vehicle.car", [TOKENS[0], TOKENS[4]], places[:2])
    boxes = read_truth(Tables(tables.write(tmp_path), VERSION), TOKENS).boxes
    assert boxes.sample.tolist() == [0, 0, 0, 1, 2, 4]
    expected = [4.0, np.nan, np.nan, 6.0, 8.0, np.nan]  # 2 s are too long for a velocity
    np.testing.assert_allclose(boxes.velocity[:, 0], expected)


def test_unscored_categories_are_left_out(tables: TinyTables, tmp_path: Path) -> None:
    tables.add_object("animal", TOKENS[:1], [[100.0, 50, 0]])
    tables.add_object("vehicle.bus.bendy", TOKENS[:1], [[100.0, 50, 0]], attribute="vehicle.moving")
    boxes = read_truth(Tables(tables.write(tmp_path), VERSION), TOKENS).boxes
    assert boxes.name.tolist() == ["bus"]
    assert boxes.attribute.tolist() == ["vehicle.moving"]
    assert boxes.num_points.tolist() == [5]


def test_what_counts(tables: TinyTables, tmp_path: Path) -> None:
    """Of each pair one counts: by range, by points, and by the bicycle rack."""
    ego = np.array([100.0, 50.0, 0.0])
    tables.add_object("vehicle.car", TOKENS[:1], [ego + [49.9, 0, 0]])
    tables.add_object("vehicle.car", TOKENS[:1], [ego + [50.0, 0, 0]])
    tables.add_object("movable_object.barrier", TOKENS[:1], [ego + [0, 29.9, 0]])
    tables.add_object("movable_object.barrier", TOKENS[:1], [ego + [0, 30, 0]])
    tables.add_object("human.pedestrian.adult", TOKENS[:1], [ego + [5, 0, 0]])
    tables.add_object("human.pedestrian.child", TOKENS[:1], [ego + [5, 0, 0]], num_points=0)
    rack = {"size": (1.0, 6.0, 2.0), "yaw": np.pi / 2}  # six metres along y
    tables.add_object("static_object.bicycle_rack", TOKENS[:1], [ego + [10, 0, 0]], **rack)
    tables.add_object("vehicle.bicycle", TOKENS[:1], [ego + [10, 2.9, 0]])
    tables.add_object("vehicle.motorcycle", TOKENS[:1], [ego + [12.9, 0, 0]])
    tables.add_object("vehicle.bicycle", TOKENS[1:2], [ego + [10, 2.9, 0]])
    for row in tables.rows["sample_annotation"]:
        row["translation"] = [float(value) for value in row["translation"]]
    truth = read_truth(Tables(tables.write(tmp_path), VERSION), TOKENS)
    assert in_rack(truth.boxes, truth.racks).sum() == 1
    kept = filtered(truth.boxes, truth)
    names = ["car", "barrier", "pedestrian", "motorcycle", "bicycle"]
    assert kept.name.tolist() == names
    assert kept.sample.tolist() == [0, 0, 0, 0, 1]


def test_the_test_version_has_no_labels(tables: TinyTables, tmp_path: Path) -> None:
    root = tables.write(tmp_path / "data")
    (root / VERSION).rename(root / "v1.0-test")
    found = detections(TOKENS[0], ["car"], score=np.ones(1), boxes_lidar=np.ones((1, 7)))
    result = nuscenes_eval(INFOS, [found], root, "v1.0-test", output_path=tmp_path / "out")
    assert isinstance(result, PlainResult)
    assert result.ap_dict == {}
    assert "send" in result.text
    written = json.loads((tmp_path / "out" / "results_nusc.json").read_text())
    assert [len(written["results"][token]) for token in TOKENS] == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("table", "text", "message"),
    [
        ("sample", None, r"sample.json: nuScenes' table cannot be read \(No such file"),
        ("sample", "[{", "sample.json: this is no complete json file"),
        ("category", '{"a": 1}', "category.json: expected a list of rows that each have a 'token'"),
        ("category", "[]", "category.json: no row has the token 'vehicle.car'"),
        ("ego_pose", "[]", "ego_pose.json: no row has the token 'LIDAR_TOP-scene-0103-0'"),
        ("sample_data", "[]", "the sample 'scene-0103-0' has no key frame of LIDAR_TOP"),
        ("sample_annotation", "[]", "sample_annotation.json: this version has no annotations"),
    ],
)
def test_a_table_that_cannot_be_used(
    tables: TinyTables, tmp_path: Path, table: str, text: str | None, message: str
) -> None:
    tables.add_object("vehicle.car", TOKENS[:2], [[100.0, 50, 0]] * 2)
    root = tables.write(tmp_path)
    path = root / VERSION / f"{table}.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        nuscenes_eval(INFOS, [], root, VERSION)


def test_a_version_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="v1.0-trainval: this folder of nuScenes' tables does not"):
        nuscenes_eval(INFOS, [], tmp_path, "v1.0-trainval")


def test_two_attributes(tables: TinyTables, tmp_path: Path) -> None:
    tables.add_object("vehicle.car", TOKENS[:1], [[100.0, 50, 0]], attribute="vehicle.moving")
    tables.rows["sample_annotation"][0]["attribute_tokens"] *= 2
    with pytest.raises(DataError, match="has 2 attributes, expected at most one"):
        read_truth(Tables(tables.write(tmp_path), VERSION), TOKENS)


def test_detections_without_token(tables: TinyTables, tmp_path: Path) -> None:
    root = tables.write(tmp_path)
    with pytest.raises(DataError, match="detections of frame 7: expected metadata.token"):
        nuscenes_eval(INFOS, [{"frame_id": "7"}], root, VERSION)


@pytest.mark.parametrize(
    ("infos", "message"),
    [
        ([], "the evaluated split holds no samples"),
        ([{"frame_id": "000001"}], "info 0 of the split has no 'token'"),
    ],
)
def test_infos_that_are_none_of_nuscenes(tmp_path: Path, infos: list[dict], message: str) -> None:
    with pytest.raises(DataError, match=message):
        nuscenes_eval(infos, [], tmp_path, VERSION)


def test_a_sample_that_comes_twice_counts_once(tables: TinyTables, tmp_path: Path) -> None:
    """A sampler pads the last batch of several processes; of its detections the first count."""
    tables.add_object("vehicle.car", TOKENS[:1], [[110.0, 50, 1.8]])
    root = tables.write(tmp_path)
    # The car stands 9.1 m ahead of the sensor, whose x axis looks to the right.
    box = np.array([[0.0, 9.1, 0.0, 4.0, 2.0, 1.5, np.pi / 2]])
    right = detections(TOKENS[0], ["car"], score=np.ones(1), boxes_lidar=box)
    wrong = detections(TOKENS[0], ["car"], score=np.ones(1), boxes_lidar=box + 5.0)
    result = nuscenes_eval([*INFOS, INFOS[0]], [right, wrong], root, VERSION, use_devkit=False)
    assert result.ap_dict["mAP"] == pytest.approx(0.1)


def test_detections_of_another_split(tables: TinyTables, tmp_path: Path) -> None:
    root = tables.write(tmp_path)
    found = detections("elsewhere", [], score=np.zeros(0), boxes_lidar=np.zeros((0, 7)))
    with pytest.raises(DataError, match="the sample 'elsewhere' do not belong to the evaluated"):
        nuscenes_eval(INFOS, [found], root, VERSION)
