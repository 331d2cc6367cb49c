"""NuScenesDataset on the made-up scenes: items, labels, resampling, detections, wrong input."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_nuscenes import (
    CLASSES,
    MAX_SWEEPS,
    OBJECT_POINTS,
    TRAFFIC,
    TRAIN_SCENES,
    VAL_SCENES,
    TinyNuScenes,
)

from pcdet_distill.config.nuscenes_options import FEATURES
from pcdet_distill.datasets import NuScenesDataset, PointView, build_dataset
from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.evaluation.lidar import LidarResult
from pcdet_distill.ops.points import points_in_boxes_mask
from pcdet_distill.types import MutableConfig

TRAIN_FILE = f"nuscenes_infos_{MAX_SWEEPS}sweeps_train.pkl"


def make(
    config: MutableConfig, tiny: TinyNuScenes, training: bool = True, **options
) -> NuScenesDataset:
    config.DATA_PATH = str(tiny.data_path)
    dataset = build_dataset(config, CLASSES, training=training, **options)
    assert isinstance(dataset, NuScenesDataset)
    return dataset


def without_augmentation(config: MutableConfig) -> MutableConfig:
    config.DATA_AUGMENTOR.AUG_CONFIG_LIST = []
    return config


def change_infos(tiny: TinyNuScenes, change) -> None:
    """Rewrite the info file of the training split."""
    file = tiny.root / TRAIN_FILE
    infos = pickle.loads(file.read_bytes())
    file.write_bytes(pickle.dumps(change(infos)))


def with_changed_first(**entries):
    """A change of the first info; an entry of None is removed."""

    def change(infos: list[dict]) -> list[dict]:
        infos[0].update(entries)
        infos[0] = {key: value for key, value in infos[0].items() if value is not None}
        return infos

    return change


# ---- Items ----


def test_a_test_item(shared_nus: TinyNuScenes, nus_config) -> None:
    dataset = make(nus_config, shared_nus, training=False)
    assert len(dataset) == dataset.num_frames == 2
    item = dataset[1]
    info = dataset.infos[1]
    assert item["metadata"] == {"token": f"{VAL_SCENES[0]}-1"}
    assert item["frame_id"] == Path(info["lidar_path"]).stem == dataset.frame_name(1)
    assert item["gt_boxes"].dtype == np.float32
    # The animal is no class.
    labels = item["gt_boxes"][:, 9].tolist()
    assert [CLASSES[int(label) - 1] for label in labels] == [
        "car",
        "pedestrian",
        "barrier",
        "truck",
    ]
    kept = np.delete(info["gt_boxes"], 3, axis=0)
    np.testing.assert_allclose(item["gt_boxes"][:, :9], kept, rtol=1e-6)
    ages = np.unique(item["points"][:, 4])
    np.testing.assert_allclose(ages, [0, 0.05, 0.1, 0.15], atol=1e-6)


def test_all_points_of_the_sweeps_are_there(shared_nus: TinyNuScenes, nus_config) -> None:
    """In another order: the sweeps are drawn, and the points shuffled."""
    dataset = make(nus_config, shared_nus, training=False)
    expected = dataset.load_frame(1)["points"]
    inside = np.abs(expected[:, :2]).max(axis=1) <= 25.6
    found = dataset[1]["points"]
    np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(expected[inside], axis=0))
    assert not np.array_equal(found, expected[inside])


def test_a_training_item_has_pasted_objects(shared_nus: TinyNuScenes, nus_config) -> None:
    """LIMIT_WHOLE_SCENE: groups are filled up to four cars, a truck and two pedestrians.

    The first scene has no truck of its own.
    """
    dataset = make(nus_config, shared_nus)
    trucks = 0
    for epoch in range(3):
        dataset.set_epoch(epoch)
        for index in range(3):
            item = dataset[index]
            labels = item["gt_boxes"][:, 9].astype(int)
            counts = np.bincount(labels - 1, minlength=4)
            assert (counts <= [4, 1, 2, 1]).all()
            assert np.isfinite(item["gt_boxes"]).all()
            for truck in item["gt_boxes"][labels == 2]:
                trucks += 1
                inside = points_in_boxes_mask(item["points"], truck[None, :7])
                assert inside.sum() >= OBJECT_POINTS
                assert np.linalg.norm(truck[7:9]) == pytest.approx(
                    5 * item["noise_scale"], rel=1e-4
                )
    assert trucks > 0


def test_points_stay_in_their_boxes_with_their_velocities(
    shared_nus: TinyNuScenes, nus_config
) -> None:
    """Flips, rotation and scaling move points, boxes and velocities alike."""
    nus_config.DATA_AUGMENTOR.AUG_CONFIG_LIST = nus_config.DATA_AUGMENTOR.AUG_CONFIG_LIST[1:]
    dataset = make(nus_config, shared_nus)
    for index in (1, 2):
        item = dataset[index]
        for box in item["gt_boxes"]:
            moved = item["points"].copy()
            moved[:, :2] += box[7:9] * moved[:, 4:5]
            inside = points_in_boxes_mask(moved, box[None, :7])[0].astype(bool)
            from_sweeps = np.unique(moved[inside, 4])
            known = np.linalg.norm(box[7:9]) > 0 or box[9] == 4
            if known:
                assert len(from_sweeps) == MAX_SWEEPS
                assert inside.sum() >= MAX_SWEEPS * OBJECT_POINTS


def test_items_depend_on_seed_epoch_and_index_alone(shared_nus: TinyNuScenes, nus_config) -> None:
    nus_config.BALANCED_RESAMPLING = True
    first = make(nus_config, shared_nus, seed=3)
    second = make(nus_config, shared_nus, seed=3)
    second[4]
    np.testing.assert_array_equal(first[2]["points"], second[2]["points"])
    second.set_epoch(1)
    assert not np.array_equal(first[2]["noise_rot"], second[2]["noise_rot"])
    other = make(nus_config, shared_nus, seed=4)
    assert not np.array_equal(first[2]["noise_rot"], other[2]["noise_rot"])


def test_the_dataset_can_be_sent_to_another_process(shared_nus: TinyNuScenes, nus_config) -> None:
    dataset = make(nus_config, shared_nus)
    copied = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copied[1]["points"], dataset[1]["points"])


# ---- Labels ----


def labels_of(config, tiny: TinyNuScenes, frame: int = 1) -> np.ndarray:
    dataset = make(without_augmentation(config), tiny)
    random = np.random.RandomState(0)
    item = dataset.prepare_data(dataset.draw_frame(frame, random), random)
    assert item is not None
    return item["gt_boxes"]


def test_unknown_velocities(shared_nus: TinyNuScenes, nus_config) -> None:
    """The last car of frame 1 is labelled once."""
    boxes = labels_of(nus_config, shared_nus)
    assert boxes[-1, 7:9].tolist() == [0, 0]
    nus_config.SET_NAN_VELOCITY_TO_ZEROS = False
    assert np.isnan(labels_of(nus_config, shared_nus)[-1, 7:9]).all()


def test_boxes_without_velocities(shared_nus: TinyNuScenes, nus_config) -> None:
    with_velocity = labels_of(nus_config, shared_nus)
    nus_config.PRED_VELOCITY = False
    plain = labels_of(nus_config, shared_nus)
    assert plain.shape[1] == 8
    np.testing.assert_array_equal(plain, np.delete(with_velocity, [7, 8], axis=1))
    dataset = make(nus_config, shared_nus)
    assert len(dataset.box_fields) == 7
    assert dataset[0]["gt_boxes"].shape[1] == 8


@pytest.mark.parametrize(("least", "cars"), [(0, 3), (1, 2), (21, 0)])
def test_boxes_with_few_points_are_left_out(
    shared_nus: TinyNuScenes, nus_config, least: int, cars: int
) -> None:
    """One of the cars is seen by the radar alone."""
    nus_config.FILTER_MIN_POINTS_IN_GT = least
    dataset = make(nus_config, shared_nus)
    names = dataset.load_frame(1)["gt_names"].tolist()
    assert names.count("car") == cars
    # A teacher's predictions are stored for every labelled object.
    assert len(dataset.recorded_frame(1)["gt_boxes"]) == 6


# ---- Resampling ----


def test_frames_of_rare_classes_come_more_often(shared_nus: TinyNuScenes, nus_config) -> None:
    """Two of five frames hold the truck; they are drawn by the share of a class of four."""
    nus_config.BALANCED_RESAMPLING = True
    dataset = make(nus_config, shared_nus)
    each = (5 + 2 + 5 + 5) // 4
    assert len(dataset) == dataset.num_items == 4 * each
    assert dataset.num_frames == 5
    frames = [dataset.frame_of_item(index) for index in range(len(dataset))]
    assert set(frames[each : 2 * each]) <= {3, 4}
    shown = without_random_frames(dataset)
    assert shown == [dataset.frame_name(frame) for frame in frames]


def without_random_frames(dataset: NuScenesDataset) -> list[str]:
    return [dataset[index]["frame_id"] for index in range(len(dataset))]


def test_validation_is_not_resampled(shared_nus: TinyNuScenes, nus_config) -> None:
    nus_config.BALANCED_RESAMPLING = True
    assert len(make(nus_config, shared_nus, training=False)) == 2


def test_merged_epochs_repeat_the_resampled_frames(shared_nus: TinyNuScenes, nus_config) -> None:
    nus_config.BALANCED_RESAMPLING = True
    dataset = make(nus_config, shared_nus)
    once = len(dataset)
    dataset.merge_all_iters_to_one_epoch(3)
    assert len(dataset) == 3 * once
    first = dataset[1]
    again = dataset[1 + once]
    assert first["frame_id"] == again["frame_id"]
    assert first["noise_rot"] != again["noise_rot"]


def test_a_class_that_the_data_lack(shared_nus: TinyNuScenes, nus_config) -> None:
    nus_config.BALANCED_RESAMPLING = True
    nus_config.DATA_PATH = str(shared_nus.data_path)
    with pytest.raises(DataError, match="BALANCED_RESAMPLING: no frame holds a trailer"):
        build_dataset(nus_config, [*CLASSES, "trailer"], training=True)


# ---- Student and teacher ----


def test_a_student_sees_the_key_frame_and_its_teacher_all_sweeps(
    shared_nus: TinyNuScenes, nus_config
) -> None:
    """Both see the same augmented scene."""
    teacher_config = copy.deepcopy(nus_config)
    newest = {"NAME": "select_sweeps", "MAX_AGE_S": 0.0}
    nus_config.DATA_PROCESSOR = [newest, *nus_config.DATA_PROCESSOR]
    dataset = make(nus_config, shared_nus)
    dataset.add_view("teacher", PointView(teacher_config, FEATURES, training=True))
    item = dataset[1]
    seen = item["points"]
    all_points = item["teacher"]["points"]
    assert np.unique(seen[:, 4]).tolist() == [0.0]
    # Pasted objects come from frames whose sweeps are a microsecond older or younger.
    assert len(np.unique(np.round(all_points[:, 4], 3))) == MAX_SWEEPS
    of_key_frame = all_points[all_points[:, 4] == 0]
    np.testing.assert_array_equal(np.sort(seen, axis=0), np.sort(of_key_frame, axis=0))


# ---- Detections ----


def nearly_perfect(dataset: NuScenesDataset, output_path: Path | None = None) -> list[dict]:
    """The labels as detections."""
    annos = []
    for index in range(len(dataset)):
        item = dataset[index]
        batch = dataset.collate_batch([item])
        prediction = {
            "pred_boxes": torch.from_numpy(item["gt_boxes"][:, :9]),
            "pred_scores": torch.full((len(item["gt_boxes"]),), 0.9),
            "pred_labels": torch.from_numpy(item["gt_boxes"][:, 9]).long(),
        }
        annos += dataset.generate_prediction_dicts(batch, [prediction], CLASSES, output_path)
    return annos


def test_detections_carry_the_token_of_their_sample(shared_nus: TinyNuScenes, nus_config) -> None:
    dataset = make(nus_config, shared_nus, training=False)
    anno = nearly_perfect(dataset)[1]
    assert anno["metadata"] == {"token": f"{VAL_SCENES[0]}-1"}
    assert anno["frame_id"] == dataset.frame_name(1)
    assert anno["name"].tolist() == ["car", "pedestrian", "barrier", "truck"]
    assert anno["boxes_lidar"].shape == (4, 9)
    assert anno["pred_labels"].tolist() == [1, 3, 4, 2]


def test_labels_as_detections_are_found(shared_nus: TinyNuScenes, nus_config) -> None:
    """Four of ten classes are in the data, so the mean over all is 0.4."""
    dataset = make(nus_config, shared_nus, training=False)
    result = dataset.evaluate(nearly_perfect(dataset))
    assert result.ap_dict["mAP"] == pytest.approx(0.4, abs=1e-6)
    assert result.ap_dict["trans_err"] == pytest.approx(0.6, abs=1e-3)
    assert result.primary is not None
    text, numbers = dataset.evaluation(nearly_perfect(dataset), CLASSES)
    assert "***car error@trans, scale, orient, vel, attr" in text
    assert numbers == result.ap_dict


def test_the_result_file_is_written_on_request(
    shared_nus: TinyNuScenes, nus_config, tmp_path: Path
) -> None:
    dataset = make(nus_config, shared_nus, training=False)
    dataset.evaluate(nearly_perfect(dataset))
    assert not list(tmp_path.iterdir())
    dataset.evaluate(nearly_perfect(dataset, tmp_path))
    results = json.loads((tmp_path / "results_nusc.json").read_text())["results"]
    assert {token: len(boxes) for token, boxes in results.items()} == {
        f"{VAL_SCENES[0]}-0": 4,
        f"{VAL_SCENES[0]}-1": 4,
    }


def test_the_text_has_the_classes_of_the_yaml(shared_nus: TinyNuScenes, nus_config) -> None:
    dataset = make(nus_config, shared_nus, training=False)
    lines = dataset.evaluate(nearly_perfect(dataset)).text.splitlines()
    named = [line[3:].split(" ")[0] for line in lines if line.startswith("***")]
    assert named == CLASSES


def test_own_classes_are_scored_in_lidar_coordinates(shared_nus: TinyNuScenes, nus_config) -> None:
    """nuScenes' benchmark has no class of that name."""
    nus_config.DATA_PATH = str(shared_nus.data_path)
    dataset = build_dataset(nus_config, [*CLASSES, "vehicle.forklift"], training=False)
    assert isinstance(dataset, NuScenesDataset)
    result = dataset.evaluate(nearly_perfect(dataset))
    assert isinstance(result, LidarResult)


def test_an_evaluation_block_asks_for_lidar_coordinates(
    shared_nus: TinyNuScenes, nus_config
) -> None:
    nus_config.EVALUATION = {"DEFAULT_IOU": [0.3]}
    dataset = make(nus_config, shared_nus, training=False)
    assert isinstance(dataset.evaluate(nearly_perfect(dataset)), LidarResult)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"DEFAULT_IOUS": [0.3]}, "DATA_CONFIG.EVALUATION.*did you mean 'DEFAULT_IOU'"),
        ({"IOU": {"cars": [0.5]}}, "'cars' is none of the evaluated classes.*'car'"),
    ],
)
def test_an_evaluation_block_is_checked_before_training(
    shared_nus: TinyNuScenes, nus_config, block: dict, words: str
) -> None:
    nus_config.EVALUATION = block
    with pytest.raises(ConfigError, match=words):
        make(nus_config, shared_nus, training=True)


def test_frames_that_were_not_evaluated_are_told(
    shared_nus: TinyNuScenes, nus_config, caplog: pytest.LogCaptureFixture
) -> None:
    nus_config.EVALUATION = {"DEFAULT_IOU": [0.3]}
    dataset = make(nus_config, shared_nus, training=False)
    result = dataset.evaluate(nearly_perfect(dataset)[:1])
    assert "evaluated on 1 of 2 frames: the rest has no detections" in caplog.text
    assert isinstance(result, LidarResult)
    assert result.num_frames == 1


def test_a_frame_without_detections(shared_nus: TinyNuScenes, nus_config) -> None:
    dataset = make(nus_config, shared_nus, training=False)
    batch = dataset.collate_batch([dataset[0]])
    nothing = {
        "pred_boxes": torch.zeros(0, 9),
        "pred_scores": torch.zeros(0),
        "pred_labels": torch.zeros(0, dtype=torch.long),
    }
    anno = dataset.generate_prediction_dicts(batch, [nothing], CLASSES)[0]
    assert len(anno["boxes_lidar"]) == len(anno["name"]) == len(anno["score"]) == 0
    assert dataset.evaluate([anno, *nearly_perfect(dataset)[1:]]).ap_dict["mAP"] < 0.4


# ---- Wrong input ----


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("VERSION", "v1.0-trainval", "there is no folder v1.0-trainval, it holds v1.0-mini"),
        ("MAX_SWEEPS", 10, "holds 3 sweeps before the key frame, but MAX_SWEEPS needs 9"),
        ("MAX_SWEEPS", 0, "MAX_SWEEPS: expected a whole number from 1 up"),
        ("INFO_PATH", {"train": ["missing.pkl"]}, "missing.pkl: this info file does not exist"),
        ("INFO_PATH", {"test": ["x.pkl"]}, "INFO_PATH.train is missing"),
        ("COMMON_CLOUD", {"NAME": "two"}, "COMMON_CLOUD joins the sensors"),
    ],
)
def test_bad_config_is_named(shared_nus: TinyNuScenes, nus_config, key, value, words) -> None:
    nus_config[key] = value
    with pytest.raises((ConfigError, DataError), match=words):
        make(nus_config, shared_nus)


def test_missing_info_files_name_the_command(shared_nus: TinyNuScenes, nus_config) -> None:
    nus_config.INFO_PATH = {"train": "missing.pkl"}
    with pytest.raises(DataError, match="pcdet-distill data nuscenes CFG --version v1.0-mini"):
        make(nus_config, shared_nus)


def test_other_point_features_are_refused(shared_nus: TinyNuScenes, nus_config) -> None:
    nus_config.POINT_FEATURE_ENCODING.src_feature_list = ["x", "y", "z", "intensity"]
    nus_config.POINT_FEATURE_ENCODING.used_feature_list = ["x", "y", "z", "intensity"]
    with pytest.raises(ConfigError, match="the points of nuScenes have .*'timestamp'"):
        make(nus_config, shared_nus)


def test_classes_that_the_data_lack(shared_nus: TinyNuScenes, nus_config) -> None:
    nus_config.DATA_PATH = str(shared_nus.data_path)
    with pytest.raises(DataError, match="holds a Car / Pedestrian; they hold barrier, car"):
        build_dataset(nus_config, ["Car", "Pedestrian"], training=True)


def test_a_class_that_no_frame_holds_is_told(
    shared_nus: TinyNuScenes, nus_config, caplog: pytest.LogCaptureFixture
) -> None:
    nus_config.DATA_PATH = str(shared_nus.data_path)
    nus_config.BALANCED_RESAMPLING = False
    nus_config.DATA_AUGMENTOR.AUG_CONFIG_LIST = []
    build_dataset(nus_config, ["car", "pedestrians"], training=True)
    assert "holds a 'pedestrians'; did you mean 'pedestrian'?" in caplog.text
    assert "'car'" not in caplog.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_changed_first(sweeps=None), "entry 0 is no info of nuScenes, it lacks sweeps"),
        (with_changed_first(token=None), "it lacks token"),
        (with_changed_first(num_lidar_pts=None), "it lacks num_lidar_pts"),
        (
            with_changed_first(gt_names=np.array(["car"])),
            r"gt_names is <U3 \(1,\), .* M = 5 as in gt_boxes",
        ),
        (
            with_changed_first(gt_boxes=np.zeros((6, 7))),
            r"gt_boxes is float64 \(6, 7\), .*\(M, 9\)",
        ),
        (
            with_changed_first(sweeps=[{"lidar_path": "x"}] * 3),
            r"lacks sweeps\[0\].transform_matrix",
        ),
        (with_changed_first(sweeps="none"), "its sweeps is 'none', expected a list"),
        (
            lambda infos: {"infos": infos, "metadata": {}},
            "expected a list .* found a file of mmdetection3d",
        ),
        (lambda infos: {"car": infos}, "expected a list of nuScenes infos, .* writes it; make it"),
        (lambda infos: [1, 2], "entry 0 is no info of nuScenes, but a int"),
        (lambda infos: [], "hold no frames"),
    ],
)
def test_bad_info_files_are_named(filled_nus: TinyNuScenes, nus_config, change, words) -> None:
    change_infos(filled_nus, change)
    with pytest.raises(DataError, match=words):
        make(nus_config, filled_nus)


def test_a_missing_sweep_names_frame_and_file(filled_nus: TinyNuScenes, nus_config) -> None:
    path = sorted(filled_nus.root.glob(f"sweeps/LIDAR_TOP/{VAL_SCENES[0]}*"))[-1]
    path.unlink()
    dataset = make(nus_config, filled_nus, training=False)
    words = f"frame {dataset.frame_name(1)}: .*{path.name}: this point file does not exist"
    with pytest.raises(DataError, match=words):
        dataset[1]


def test_a_frame_with_a_missing_sweep_is_skipped_on_request(
    filled_nus: TinyNuScenes, nus_config, caplog: pytest.LogCaptureFixture
) -> None:
    sorted(filled_nus.root.glob(f"sweeps/LIDAR_TOP/{TRAIN_SCENES[1]}*"))[-1].unlink()
    dataset = make(nus_config, filled_nus, skip_bad_frames=True)
    assert dataset[4]["frame_id"] != dataset.frame_name(4)
    assert "skipped" in caplog.text


def test_infos_of_old_pickles(filled_nus: TinyNuScenes, nus_config) -> None:
    """As Python 2's protocol and numpy 1 wrote them, with numpy's scalars in between."""
    before = make(nus_config, filled_nus)[0]["points"]
    file = filled_nus.root / TRAIN_FILE
    infos = pickle.loads(file.read_bytes())
    infos[0]["timestamp"] = np.float64(infos[0]["timestamp"])
    infos[0]["token"] = np.str_(infos[0]["token"])
    content = pickle.dumps(infos, protocol=2).replace(b"numpy._core", b"numpy.core")
    file.write_bytes(content)
    np.testing.assert_array_equal(make(nus_config, filled_nus)[0]["points"], before)


def test_a_pickle_with_code_is_refused(filled_nus: TinyNuScenes, nus_config) -> None:
    change_infos(filled_nus, lambda infos: [Path("x")])
    with pytest.raises(DataError, match="refused, or no info file"):
        make(nus_config, filled_nus)


def test_a_split_without_labels(filled_nus: TinyNuScenes, nus_config) -> None:
    labels = ("gt_boxes", "gt_names", "gt_boxes_velocity", "num_lidar_pts", "num_radar_pts")

    def change(infos: list[dict]) -> list[dict]:
        return [{key: info[key] for key in info if key not in labels} for info in infos]

    change_infos(filled_nus, change)
    nus_config.INFO_PATH.test = nus_config.INFO_PATH.train
    item = make(nus_config, filled_nus, training=False)[0]
    assert "gt_boxes" not in item
    with pytest.raises(DataError, match="no frame of .* holds a car"):
        make(nus_config, filled_nus)


def test_the_traffic_is_complete() -> None:
    """The tests above count on these categories."""
    names = [thing.category.rpartition(".")[2] for thing in TRAFFIC]
    assert names == ["car", "adult", "barrier", "animal"]
