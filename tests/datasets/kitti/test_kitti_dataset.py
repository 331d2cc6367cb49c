"""Items of the KITTI dataset, detections in its format, and what happens to bad frames."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.safe_pickle import load_plain_pickle
from pcdet_distill.errors import ConfigError, DataError

CLASSES = ["Car", "Pedestrian", "Cyclist"]


def make(config, root: Path, training: bool = True, **options):
    config.DATA_PATH = str(root)
    return build_dataset(config, options.pop("classes", CLASSES), training=training, **options)


def stored_points(root: Path, frame_id: str) -> np.ndarray:
    """The points of a frame as they are on disk."""
    values = np.fromfile(root / f"training/velodyne/{frame_id}.bin", dtype=np.float32)
    return values.reshape(-1, 4)


def test_training_item(kitti_root: Path, data_config) -> None:
    item = make(data_config, kitti_root)[0]
    assert item["points"].dtype == np.float32
    assert item["points"].shape[1] == 4
    assert item["gt_boxes"].dtype == np.float32
    assert item["gt_boxes"].shape[1] == 8
    assert set(item["gt_boxes"][:, 7]) <= {1.0, 2.0, 3.0}
    assert {
        "flip_x",
        "noise_rot",
        "noise_scale",
        "lidar_aug_matrix",
        "voxels",
        "calib",
        "image_shape",
    } <= item.keys()
    assert not {"gt_names", "gt_boxes_mask", "road_plane"} & item.keys()


def test_sampled_objects_fill_the_scene_up(kitti_root: Path, data_config) -> None:
    data_config.DATA_AUGMENTOR.AUG_CONFIG_LIST = data_config.DATA_AUGMENTOR.AUG_CONFIG_LIST[:1]
    dataset = make(data_config, kitti_root)
    labels = [dataset[index]["gt_boxes"][:, 7].tolist() for index in range(6)]
    assert all(frame.count(1.0) <= 3 and frame.count(3.0) == 1 for frame in labels)
    assert any(frame.count(1.0) > 1 for frame in labels)


def test_test_item_is_the_frame_as_it_is(kitti_root: Path, data_config) -> None:
    item = make(data_config, kitti_root, training=False)[0]
    assert item["frame_id"] == "000006"
    np.testing.assert_allclose(
        item["gt_boxes"], [[20, 1, -1.73 + 0.75, 4, 1.6, 1.5, 0, 1]], atol=1e-5
    )
    np.testing.assert_array_equal(item["lidar_aug_matrix"], np.eye(4))
    stored = stored_points(kitti_root, "000006")
    kept = {tuple(point) for point in item["points"].tolist()}
    # The points that the camera does not see are missing.
    assert kept < {tuple(point) for point in stored.tolist()}
    pixels, depth_m = item["calib"].lidar_to_img(item["points"][:, :3])
    assert (pixels >= 0).all()
    assert (pixels < [1242, 375]).all()
    assert (depth_m > 0).all()


def test_no_augmentor_is_no_augmentation(kitti_root: Path, data_config) -> None:
    data_config.DATA_AUGMENTOR = None
    item = make(data_config, kitti_root)[0]
    np.testing.assert_array_equal(item["lidar_aug_matrix"], np.eye(4))


def test_fov_filter_can_be_switched_off(kitti_root: Path, data_config) -> None:
    data_config.FOV_POINTS_ONLY = False
    item = make(data_config, kitti_root, training=False)[0]
    np.testing.assert_array_equal(item["points"], stored_points(kitti_root, "000006"))


def test_frames_without_objects(kitti_root: Path, data_config) -> None:
    item = make(data_config, kitti_root, training=False)[2]
    assert item["gt_boxes"].shape == (0, 8)
    assert len(item["points"])


def test_training_draws_another_frame_where_no_object_is(filled, data_config) -> None:
    infos = load_plain_pickle(filled.root / "kitti_infos_train.pkl", "")
    empty = load_plain_pickle(filled.root / "kitti_infos_val.pkl", "")[2]
    (filled.root / "kitti_infos_train.pkl").write_bytes(pickle.dumps([empty, *infos]))
    data_config.DATA_AUGMENTOR.AUG_CONFIG_LIST = data_config.DATA_AUGMENTOR.AUG_CONFIG_LIST[1:]
    dataset = make(data_config, filled.root)
    drawn = dataset[0]["frame_id"]
    assert drawn != "000008"
    assert dataset[0]["frame_id"] == drawn
    others = set()
    for epoch in range(8):
        dataset.set_epoch(epoch)
        others.add(dataset[0]["frame_id"])
    assert len(others) > 1


def test_split_without_any_object_of_the_classes(kitti_root: Path, data_config) -> None:
    with pytest.raises(DataError, match="no frame .* Tram"):
        make(data_config, kitti_root, classes=["Tram"])


def test_items_depend_on_seed_epoch_and_index_alone(kitti_root: Path, data_config) -> None:
    one = make(data_config, kitti_root, seed=3)
    same = make(data_config, kitti_root, seed=3)
    other = make(data_config, kitti_root, seed=4)
    for index in (4, 1):
        assert one[index]
    np.testing.assert_array_equal(one[2]["points"], same[2]["points"])
    assert one[2]["noise_rot"] != other[2]["noise_rot"]
    one.set_epoch(1)
    assert one[2]["noise_rot"] != same[2]["noise_rot"]
    one.set_epoch(0)
    np.testing.assert_array_equal(one[2]["voxels"], same[2]["voxels"])


def test_dataset_can_be_sent_to_another_process(kitti_root: Path, data_config) -> None:
    dataset = make(data_config, kitti_root, seed=3)
    sent = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(sent[2]["voxels"], dataset[2]["voxels"])


def test_augmentations_end_at_an_epoch(kitti_root: Path, data_config) -> None:
    dataset = make(data_config, kitti_root)
    dataset.disable_augmentations(["gt_sampling", "random_world_rotation"], from_epoch=2)
    dataset.set_epoch(1)
    assert "noise_rot" in dataset[0]
    dataset.set_epoch(2)
    assert "noise_rot" not in dataset[0]
    assert "flip_x" in dataset[0]


def test_merged_epochs_repeat_the_frames_with_other_augmentation(
    kitti_root: Path, data_config
) -> None:
    dataset = make(data_config, kitti_root)
    dataset.merge_all_iters_to_one_epoch(3)
    assert len(dataset) == 18
    assert dataset[0]["frame_id"] == dataset[6]["frame_id"]
    assert dataset[0]["noise_rot"] != dataset[6]["noise_rot"]


def test_unreadable_frame_names_itself(filled, data_config) -> None:
    filled.path("velodyne", "000003").write_bytes(b"x" * 18)
    dataset = make(data_config, filled.root)
    with pytest.raises(DataError, match="frame 000003: .*000003.bin: 18 bytes"):
        dataset[3]


def test_unreadable_frame_is_skipped_on_request(filled, data_config, caplog) -> None:
    filled.path("velodyne", "000003").write_bytes(b"x" * 18)
    dataset = make(data_config, filled.root, skip_bad_frames=True)
    with caplog.at_level(logging.WARNING):
        first = dataset[3]
        again = dataset[3]
    assert first["frame_id"] == again["frame_id"] != "000003"
    assert [record.message for record in caplog.records if "000003 skipped" in record.message] != []
    assert len(caplog.records) == 1


def test_only_bad_frames_is_an_error_not_a_loop(filled, data_config) -> None:
    for number in range(6):
        filled.path("velodyne", f"{number:06d}").unlink()
    with pytest.raises(DataError, match="drawn in a row"):
        make(data_config, filled.root, skip_bad_frames=True)[0]


def test_road_planes(filled, data_config) -> None:
    data_config.DATA_AUGMENTOR.AUG_CONFIG_LIST[0].USE_ROAD_PLANE = True
    with pytest.raises(
        DataError, match="planes: USE_ROAD_PLANE.*--make_planes.*USE_ROAD_PLANE: False"
    ):
        make(data_config, filled.root)
    assert len(make(data_config, filled.root, training=False)) == 3  # testing needs none
    (filled.root / "training" / "planes").mkdir()
    for number in range(6):
        filled.path("planes", f"{number:06d}").write_text(
            "# Plane\nWidth 4\nHeight 1\n0 -1 0 2.65\n"
        )
    data_config.DATA_AUGMENTOR.AUG_CONFIG_LIST = data_config.DATA_AUGMENTOR.AUG_CONFIG_LIST[:1]
    dataset = make(data_config, filled.root)
    boxes = np.concatenate([dataset[index]["gt_boxes"] for index in range(6)])
    bottoms = {round(float(bottom), 3) for bottom in boxes[:, 2] - boxes[:, 5] / 2}
    # The frame's own boxes, and the sampled ones 1 m lower, since rect y = -z - 0.08.
    assert bottoms == {-1.73, -2.73}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config.update(DATASET="KitiDataset"), "did you mean 'KittiDataset'"),
        (lambda config: config.update(GET_ITEM_LIST=["points", "depth_maps"]), "depth_maps"),
        (
            lambda config: config.INFO_PATH.update(train=["other.pkl"]),
            "other.pkl.*pcdet-distill data kitti",
        ),
        (lambda config: config.pop("DATA_SPLIT"), "DATA_SPLIT"),
    ],
)
def test_bad_config_is_named(kitti_root: Path, data_config, change, words: str) -> None:
    change(data_config)
    with pytest.raises((ConfigError, DataError), match=words):
        make(data_config, kitti_root)


def test_test_frames_are_not_trained_on(kitti_root: Path, data_config) -> None:
    """Their numbers are those of other frames in training/, some of them of val."""
    data_config.INFO_PATH.train = ["kitti_infos_train.pkl", "kitti_infos_test.pkl"]
    with pytest.raises(ConfigError, match="INFO_PATH.train: kitti_infos_test.pkl lists frames"):
        make(data_config, kitti_root)


def test_missing_dataset_folder(tmp_path: Path, data_config) -> None:
    with pytest.raises(DataError, match="nowhere.*pcdet-distill data synthetic --out"):
        make(data_config, tmp_path / "nowhere")


def test_foreign_pickle_is_no_info_file(filled, data_config) -> None:
    (filled.root / "kitti_infos_train.pkl").write_bytes(pickle.dumps({"Car": []}))
    with pytest.raises(DataError, match="expected a list of KITTI infos"):
        make(data_config, filled.root)


@pytest.mark.parametrize(
    ("block", "value", "words"),
    [
        ("point_cloud", "000001", "entry 1 .* lacks point_cloud.lidar_idx"),
        ("calib", {}, "entry 1 .* lacks calib.P2"),
        ("annos", {}, "entry 1 .* lacks annos.name"),
        ("image", None, "entry 1 .* lacks image.image_shape"),
    ],
)
def test_incomplete_info_is_named(filled, data_config, block: str, value, words: str) -> None:
    path = filled.root / "kitti_infos_train.pkl"
    infos = load_plain_pickle(path, "")
    infos[1][block] = value
    path.write_bytes(pickle.dumps(infos))
    with pytest.raises(DataError, match=f"kitti_infos_train.pkl: {words}"):
        make(data_config, filled.root)


def test_info_with_labels_of_different_lengths_is_named(filled, data_config) -> None:
    path = filled.root / "kitti_infos_train.pkl"
    infos = load_plain_pickle(path, "")
    infos[0]["annos"]["location"] = infos[0]["annos"]["location"][:1]
    path.write_bytes(pickle.dumps(infos))
    with pytest.raises(
        DataError,
        match=r"entry 0 .* its annos.location is float32 \(1, 3\), expected .* M = 5 as in name",
    ):
        make(data_config, filled.root)


def test_infos_made_elsewhere_load(filled, data_config) -> None:
    """OpenPCDet stores float64 matrices, and protocol and numpy may be older."""
    infos = load_plain_pickle(filled.root / "kitti_infos_val.pkl", "")
    for info in infos:
        info["calib"] = {name: matrix.astype(np.float64) for name, matrix in info["calib"].items()}
    expected = make(data_config, filled.root, training=False)[0]
    stored = pickle.dumps(infos, protocol=3).replace(b"numpy._core.", b"numpy.core.")
    (filled.root / "kitti_infos_val.pkl").write_bytes(stored)
    np.testing.assert_array_equal(
        make(data_config, filled.root, training=False)[0]["points"], expected["points"]
    )


def predictions_of(boxes: list[list[float]], labels: list[int]) -> dict[str, torch.Tensor]:
    scores = torch.linspace(0.9, 0.5, len(boxes))
    return {
        "pred_boxes": torch.tensor(boxes).reshape(-1, 7),
        "pred_scores": scores,
        "pred_labels": torch.tensor(labels),
    }


def test_detections_in_kitti_format(kitti_root: Path, data_config, tmp_path: Path) -> None:
    dataset = make(data_config, kitti_root, training=False)
    batch = dataset.collate_batch([dataset[0], dataset[1]])
    batch["image_shape"] = torch.from_numpy(batch["image_shape"])
    predictions = [
        predictions_of([[20.27, 1.0, -0.98, 4.0, 1.6, 1.5, 0.0]], [1]),
        predictions_of([], []),
    ]
    found, empty = dataset.generate_prediction_dicts(batch, predictions, CLASSES, tmp_path)
    assert found["frame_id"] == "000006"
    assert found["name"].tolist() == ["Car"]
    np.testing.assert_allclose(found["location"], [[-1.0, 1.65, 20.0]], atol=1e-5)
    np.testing.assert_allclose(found["dimensions"], [[4.0, 1.5, 1.6]], rtol=1e-6)
    np.testing.assert_allclose(found["rotation_y"], [-np.pi / 2], rtol=1e-6)
    np.testing.assert_allclose(found["alpha"], [-np.arctan2(-1.0, 20.27) - np.pi / 2], rtol=1e-6)
    assert found["bbox"].shape == (1, 4)
    assert found["boxes_lidar"].dtype == np.float32
    line = (tmp_path / "000006.txt").read_text()
    fields = line.split()
    assert fields[:3] == ["Car", "-1", "-1"]
    assert len(fields) == 16
    assert line.endswith("\n")
    assert " ".join(fields[8:]) == "1.5000 1.6000 4.0000 -1.0000 1.6500 20.0000 -1.5708 0.9000"
    assert (tmp_path / "000007.txt").read_text() == ""
    assert found.keys() == empty.keys()
    assert empty["boxes_lidar"].shape == (0, 7)
    assert empty["name"].dtype.kind == "f"
    assert len(empty["score"]) == 0


def nearly_perfect(dataset) -> list[dict]:
    """Detections a centimetre beside the labels.

    The evaluator's overlap of exact copies is ill-defined.
    """
    annos = []
    for index in range(len(dataset)):
        item = dataset[index]
        batch = dataset.collate_batch([item])
        boxes = item["gt_boxes"][:, :7] + np.float32(0.01)
        labels = item["gt_boxes"][:, 7].astype(int)
        prediction = predictions_of(boxes.tolist(), labels.tolist())
        annos += dataset.generate_prediction_dicts(batch, [prediction], CLASSES)
    return annos


def test_good_detections_find_every_object(kitti_root: Path, data_config) -> None:
    data_config.INFO_PATH.test = ["kitti_infos_train.pkl"]
    dataset = make(data_config, kitti_root, training=False)
    text, numbers = dataset.evaluation(nearly_perfect(dataset), CLASSES)
    assert "Car AP_R40@0.70, 0.70, 0.70" in text
    # six objects give six recall steps: points 1..5 of 40 are reached, each with precision 1
    assert numbers["Car_3d/easy_R40"] == pytest.approx(100 * 5 / 40)
    assert numbers["Cyclist_bev/moderate_R40"] == pytest.approx(100 * 5 / 40)


def test_detections_are_paired_by_frame_not_by_order(kitti_root: Path, data_config, caplog) -> None:
    data_config.INFO_PATH.test = ["kitti_infos_train.pkl"]
    dataset = make(data_config, kitti_root, training=False)
    annos = nearly_perfect(dataset)
    expected = dataset.evaluate(annos).ap_dict
    assert dataset.evaluate([annos[0], *annos[::-1]]).ap_dict == expected
    with caplog.at_level(logging.WARNING):
        dataset.evaluate(annos[1:])
    assert "5 of 6 frames" in caplog.text


def test_the_old_name_of_the_evaluation(kitti_root: Path, data_config) -> None:
    data_config.INFO_PATH.test = ["kitti_infos_train.pkl"]
    dataset = make(data_config, kitti_root, training=False)
    annos = nearly_perfect(dataset)
    with pytest.warns(DeprecationWarning, match=r"kitti_result.* is now evaluate"):
        result = dataset.kitti_result(annos, ["Cyclist"])
    assert result.ap_dict.items() < dataset.evaluate(annos).ap_dict.items()


def test_split_without_labels_is_not_evaluated(filled, data_config) -> None:
    infos = load_plain_pickle(filled.root / "kitti_infos_val.pkl", "")
    for info in infos:
        del info["annos"]
    (filled.root / "kitti_infos_val.pkl").write_bytes(pickle.dumps(infos))
    dataset = make(data_config, filled.root, training=False)
    assert "gt_boxes" not in dataset[0]
    text, numbers = dataset.evaluation([], CLASSES)
    assert "no labels" in text
    assert numbers == {}
