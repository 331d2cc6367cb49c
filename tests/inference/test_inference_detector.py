"""A detector called with points of any origin gives the boxes of the evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_detectors import random_cloud

from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.inference import Detections


def assert_same(left: Detections, right: Detections) -> None:
    np.testing.assert_array_equal(left.boxes, right.boxes)
    np.testing.assert_array_equal(left.scores, right.scores)
    np.testing.assert_array_equal(left.names, right.names)


def test_boxes_are_those_of_the_network(detector) -> None:
    """Beside the steps that a dataset and the evaluation take, written out."""
    points = random_cloud()
    item = detector.dataset.prepare_data(
        {"points": points, "frame_id": "0"}, np.random.RandomState(0)
    )
    batch = detector.dataset.collate_batch([item])
    for key in ("points", "voxels", "voxel_coords", "voxel_num_points"):
        batch[key] = torch.from_numpy(batch[key]).float()
    with torch.no_grad():
        expected = detector.model(batch)[0][0]
    found = detector(points)
    order = np.argsort(-expected["pred_scores"].numpy(), kind="stable")
    assert len(found) > 5
    np.testing.assert_array_equal(found.boxes, expected["pred_boxes"].numpy()[order])
    np.testing.assert_array_equal(found.labels, expected["pred_labels"].numpy()[order])
    names = [detector.class_names[label - 1] for label in found.labels]
    assert found.names.tolist() == names


def test_array_tensor_and_files_give_the_same_boxes(detector, tmp_path) -> None:
    points = random_cloud()
    points.tofile(tmp_path / "a.bin")
    np.save(tmp_path / "a.npy", points)
    expected = detector(points)
    for same in (torch.from_numpy(points), points.astype(np.float64), tmp_path / "a.bin"):
        assert_same(detector(same), expected)
    assert_same(detector(str(tmp_path / "a.npy")), expected)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_many_clouds_give_the_boxes_of_each(detector, batch_size: int) -> None:
    clouds = [random_cloud(0), np.zeros((0, 4), np.float32), random_cloud(1), random_cloud(2)]
    with pytest.warns(UserWarning, match="holds no points"):
        found = detector(clouds, batch_size=batch_size)
    assert len(found[1]) == 0
    assert found[1].boxes.shape == (0, 7)
    for cloud, of_cloud in zip(clouds, found):
        alone = detector(cloud)
        assert len(alone) == len(of_cloud)
        np.testing.assert_allclose(alone.boxes, of_cloud.boxes, atol=1e-4)


def test_a_list_of_one_gives_a_list(detector) -> None:
    assert isinstance(detector([random_cloud()]), list)
    assert detector([]) == []


def test_what_is_no_cloud_is_named(detector) -> None:
    with pytest.raises(DataError, match=r"points: expected .* \(4, 800\); transpose it"):
        detector(random_cloud().T)
    with pytest.raises(DataError, match=r"points\[1\]: expected an array .* found int"):
        detector([random_cloud(), 3])
    with pytest.raises(DataError, match="nowhere.bin: no such file"):
        detector("nowhere.bin")
    with pytest.raises(ConfigError, match="batch_size 0"):
        detector(random_cloud(), batch_size=0)
