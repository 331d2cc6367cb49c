"""A teacher's predictions follow every augmentation, as the labelled boxes do."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from easydict import EasyDict
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdet_distill.datasets.augmentor import DataAugmentor
from pcdet_distill.datasets.collate import collate_items
from pcdet_distill.datasets.predicted import (
    PREDICTED,
    FramePredictions,
    LabelledFrame,
    PredictedScene,
    PredictionStore,
    write_part,
)
from pcdet_distill.errors import ConfigError, DataError

FLIP = {"NAME": "random_world_flip", "ALONG_AXIS_LIST": ["x", "y"]}
ROTATION = {"NAME": "random_world_rotation", "WORLD_ROT_ANGLE": 0.7}
SCALING = {"NAME": "random_world_scaling", "WORLD_SCALE_RANGE": [0.8, 1.2]}
TRANSLATION = {"NAME": "random_world_translation", "NOISE_TRANSLATE_STD": [0.5, 0.5, 0.2]}
SAMPLING = {
    "NAME": "gt_sampling",
    "USE_ROAD_PLANE": False,
    "DB_INFO_PATH": ["infos.pkl"],
    "SAMPLE_GROUPS": ["Car:1"],
    "NUM_POINT_FEATURES": 4,
    "REMOVE_EXTRA_WIDTH": [0.0, 0.0, 0.0],
}
CAR = [30.0, 10.0, -1.0, 4.0, 1.6, 1.5, 0.5]  # the only object of the database


def predictions(boxes: np.ndarray, owners: list[int] | None = None) -> FramePredictions:
    """One row and one detection for each box (N, 7 or 9); rows stand 0.3 m beside their boxes."""
    boxes = np.array(boxes, dtype=np.float32)
    count = len(boxes)
    numbers = np.arange(count)
    owner_of = np.full(count, -1) if owners is None else np.array(owners)
    return FramePredictions(
        places=(boxes[:, :2] + [0.3, 0.0]).astype(np.float32),
        kinds=numbers.astype(np.int16),
        turns=np.full(count, 0.2, np.float32),
        logits=np.stack([numbers, -numbers], axis=1).astype(np.float16),
        boxes=boxes,
        owners=owner_of.astype(np.int16),
        detected_boxes=boxes + np.float32(0.01),
        detected_scores=np.linspace(0.9, 0.1, count).astype(np.float32),
        detected_labels=(numbers + 1).astype(np.int16),
        detected_owners=owner_of.astype(np.int16),
    )


def scene_item(boxes: np.ndarray) -> dict:
    """An item whose predicted boxes are its labelled ones."""
    boxes = np.array(boxes, dtype=np.float32)
    return {
        "points": np.random.RandomState(0).uniform(-20, 20, (50, 4)).astype(np.float32),
        "gt_boxes": boxes.copy(),
        "gt_names": np.array(["Pedestrian"] * len(boxes)),
        PREDICTED: PredictedScene(predictions(boxes)),
    }


def augment(configs: list[dict], item: dict, seed: int, root: Path = Path(".")) -> dict:
    augmentor = DataAugmentor(root, EasyDict(AUG_CONFIG_LIST=configs), ["Car"])
    return augmentor.forward(item, np.random.RandomState(seed))


def headings_differ(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs(np.angle(np.exp(1j * (first - second))))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    order=st.permutations([FLIP, ROTATION, SCALING, TRANSLATION]),
    with_velocity=st.booleans(),
)
def test_predicted_boxes_move_as_labelled_boxes_do(seed, order, with_velocity) -> None:
    random = np.random.RandomState(seed)
    boxes = random.uniform([-20, -20, -2, 1, 1, 1, -3], [20, 20, 1, 5, 3, 2, 3], (6, 7))
    if with_velocity:
        boxes = np.concatenate([boxes, random.normal(size=(6, 2))], axis=1)
    item = augment(order, scene_item(boxes), seed)
    moved = item[PREDICTED].finish(item["lidar_aug_matrix"])
    columns = [0, 1, 2, 3, 4, 5, *range(7, boxes.shape[1])]
    np.testing.assert_allclose(moved["boxes"][:, columns], item["gt_boxes"][:, columns], atol=3e-5)
    assert headings_differ(moved["boxes"][:, 6], item["gt_boxes"][:, 6]).max() < 1e-5
    # Scores, kinds and angles to the anchor stay as they are.
    np.testing.assert_array_equal(moved["kinds"], np.arange(6))
    np.testing.assert_array_equal(moved["logits"][:, 0], np.arange(6))
    np.testing.assert_array_equal(moved["turns"], np.full(6, 0.2, np.float32))


def test_a_quarter_turn_a_flip_and_a_scaling_by_hand() -> None:
    scene = PredictedScene(predictions([[10, 2, -1, 4, 1.6, 1.5, 0.25]]))
    turned = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    moved = scene.finish(turned)
    np.testing.assert_allclose(
        moved["boxes"][0], [-2, 10, -1, 4, 1.6, 1.5, 0.25 + np.pi / 2], rtol=1e-6
    )
    np.testing.assert_allclose(moved["places"][0], [-2, 10.3], rtol=1e-6)
    np.testing.assert_allclose(moved["axes"][0], [0, 1], atol=1e-7)
    flipped = scene.finish(np.diag([1.0, -1.0, 1.0, 1.0]))
    np.testing.assert_allclose(flipped["boxes"][0], [10, -2, -1, 4, 1.6, 1.5, -0.25], rtol=1e-6)
    doubled = scene.finish(np.diag([2.0, 2.0, 2.0, 1.0]))
    np.testing.assert_allclose(doubled["boxes"][0], [20, 4, -2, 8, 3.2, 3, 0.25], rtol=1e-6)
    np.testing.assert_allclose(doubled["axes"][0], [2, 0], atol=1e-7)


@pytest.fixture
def store(tmp_path: Path) -> PredictionStore:
    """The car's own frame: two rows belong to the car, one to nothing; and a database with it."""
    boxes = [CAR, [30.2, 10.1, -1, 4.1, 1.7, 1.6, 0.4], [5, 5, -1, 4, 2, 2, 0]]
    frame = LabelledFrame("a", predictions(boxes, owners=[0, 0, -1]), np.array([CAR[:3]]))
    write_part(tmp_path / "part.npz", [frame], {})
    np.zeros((5, 4), np.float32).tofile(tmp_path / "car.bin")
    info = {"name": "Car", "path": "car.bin", "box3d_lidar": np.array(CAR), "num_points_in_gt": 5}
    (tmp_path / "infos.pkl").write_bytes(pickle.dumps({"Car": [info]}))
    return PredictionStore([tmp_path / "part.npz"])


def pasted(store: PredictionStore, root: Path, configs: list[dict], boxes: list) -> dict:
    item = scene_item(np.array(boxes, dtype=np.float32).reshape(-1, 7))
    augmentor = DataAugmentor(root, EasyDict(AUG_CONFIG_LIST=configs), ["Car"])
    augmentor.add_predictions(store)
    item = augmentor.forward(item, np.random.RandomState(1))
    item[PREDICTED] = item[PREDICTED].finish(item["lidar_aug_matrix"])
    return item


def test_a_pasted_object_brings_its_own_predictions(store: PredictionStore, tmp_path) -> None:
    item = pasted(store, tmp_path, [SAMPLING], [[10, -5, -1, 1, 1, 1.7, 0]])
    moved = item[PREDICTED]
    assert moved["is_pasted"].tolist() == [False, True, True]
    np.testing.assert_allclose(moved["boxes"][1], CAR, rtol=1e-6)
    assert moved["kinds"].tolist() == [0, 0, 1]
    np.testing.assert_allclose(moved["detected_boxes"][1:, 0], [30.01, 30.21], rtol=1e-6)


def test_what_a_pasted_object_covers_is_gone(store: PredictionStore, tmp_path) -> None:
    item = scene_item(np.zeros((0, 7)))
    on_the_car = [30.5, 10.2, -1, 1, 1, 1, 0]
    beside_it = [30.0, 12.0, -1, 1, 1, 1, 0]
    item[PREDICTED] = PredictedScene(predictions([on_the_car, beside_it]))
    augmentor = DataAugmentor(tmp_path, EasyDict(AUG_CONFIG_LIST=[SAMPLING]), ["Car"])
    augmentor.add_predictions(store)
    item = augmentor.forward(item, np.random.RandomState(1))
    moved = item[PREDICTED].finish(item["lidar_aug_matrix"])
    assert moved["kinds"][~moved["is_pasted"]].tolist() == [1]
    assert moved["detected_labels"].tolist() == [2, 1, 2]


@pytest.mark.parametrize("seed_of_order", range(4))
def test_pasting_before_and_after_a_motion(store, tmp_path, seed_of_order: int) -> None:
    """gt_sampling may come anywhere among the augmentations: the row follows the label."""
    configs = [FLIP, ROTATION, SCALING, TRANSLATION]
    configs.insert(seed_of_order + 1, SAMPLING)
    item = pasted(store, tmp_path, configs, [[-10, -5, -1, 1, 1, 1.7, 0]])
    moved = item[PREDICTED]
    first_pasted = int(np.argmax(moved["is_pasted"]))
    label = item["gt_boxes"][-1]
    np.testing.assert_allclose(moved["boxes"][first_pasted][:6], label[:6], atol=1e-5)
    assert headings_differ(moved["boxes"][first_pasted][6], label[6]) < 1e-5


def test_every_box_is_as_much_lower_as_its_object() -> None:
    lowered = predictions([CAR, CAR]).lowered(np.array([0.4, 0.1]), np.array([0.4, 0.2]))
    np.testing.assert_allclose(lowered.boxes[:, 2], [-1.4, -1.1], rtol=1e-6)
    np.testing.assert_allclose(lowered.detected_boxes[:, 2], [-1.39, -1.19], rtol=1e-6)


def test_an_object_of_no_frame_is_refused(store: PredictionStore, tmp_path) -> None:
    infos = pickle.loads((tmp_path / "infos.pkl").read_bytes())
    infos["Car"][0]["box3d_lidar"][0] += 1
    (tmp_path / "infos.pkl").write_bytes(pickle.dumps(infos))
    augmentor = DataAugmentor(tmp_path, EasyDict(AUG_CONFIG_LIST=[SAMPLING]), ["Car"])
    with pytest.raises(DataError, match="1 objects of the database, such as car.bin, are labelled"):
        augmentor.add_predictions(store)


def test_an_augmentation_that_does_not_say_how_it_moves_boxes_is_refused(monkeypatch) -> None:
    from pcdet_distill.datasets.augmentor import AUGMENTORS

    class Shuffled:
        def __init__(self, config) -> None:
            pass

    monkeypatch.setitem(AUGMENTORS, "shuffled", Shuffled)
    augmentor = DataAugmentor(Path("."), [EasyDict(NAME="shuffled")], ["Car"])
    with pytest.raises(ConfigError, match="shuffled does not say how it moves boxes"):
        augmentor.check_motions()
    Shuffled.motion = "none"
    augmentor.check_motions()


def test_every_augmentation_says_how_it_moves_boxes() -> None:
    from pcdet_distill.datasets.augmentor import AUGMENTORS
    from pcdet_distill.datasets.augmentor.data_augmentor import MOTIONS

    for name, augmentor_class in AUGMENTORS.items():
        assert getattr(augmentor_class, "motion", None) in MOTIONS, name


def test_items_with_different_numbers_of_rows_become_a_batch() -> None:
    items = []
    for count in (2, 0, 3):
        boxes = np.tile(np.array(CAR, dtype=np.float32), (count, 1))
        scene = PredictedScene(predictions(boxes))
        items.append({PREDICTED: scene.finish(np.eye(4) * (count + 1))})
    batch = collate_items(items)[PREDICTED]
    assert batch["frame_index"].tolist() == [0, 0, 2, 2, 2]
    assert batch["detected_frame_index"].tolist() == [0, 0, 2, 2, 2]
    assert batch["boxes"].shape == (5, 7)
    assert batch["matrix"][:, 0, 0].tolist() == [3, 1, 4]
