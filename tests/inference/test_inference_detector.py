"""A detector called with points of any origin gives the boxes of the evaluation."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from small_detectors import CONFIG, random_cloud
from tiny_argoverse2 import write_log

from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.inference import Detections, load_detector

READERS = Path(__file__).resolve().parents[1] / "datasets" / "readers"


def assert_same(left: Detections, right: Detections) -> None:
    np.testing.assert_array_equal(left.boxes, right.boxes)
    np.testing.assert_array_equal(left.scores, right.scores)
    np.testing.assert_array_equal(left.names, right.names)


def test_boxes_are_those_of_the_network(detector, device) -> None:
    """Beside the steps that a dataset and the evaluation take, written out."""
    points = random_cloud()
    item = detector.dataset.prepare_data(
        {"points": points, "frame_id": "0"}, np.random.RandomState(0)
    )
    batch = detector.dataset.collate_batch([item])
    for key in ("points", "voxels", "voxel_coords", "voxel_num_points"):
        batch[key] = torch.from_numpy(batch[key]).float().to(device)
    with torch.no_grad():
        found_by_model = detector.model(batch)[0][0]
    expected = {key: value.cpu() for key, value in found_by_model.items()}
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
    coarse = torch.from_numpy(points).bfloat16()
    assert_same(detector(coarse), detector(coarse.float().numpy()))
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


def test_a_list_of_one_gives_a_list(detector, tmp_path) -> None:
    assert isinstance(detector([random_cloud()]), list)
    assert detector([]) == []
    random_cloud().tofile(tmp_path / "a.bin")
    assert isinstance(detector(tmp_path / "a.bin"), Detections)
    assert len(detector(tmp_path)) == 1


@pytest.mark.parametrize("kind", ["bag", "db3", "mcap"])
def test_a_recording_gives_a_list_also_of_one_message(
    detector, tmp_path, monkeypatch, kind: str
) -> None:
    pytest.importorskip("rosbags")
    monkeypatch.syspath_prepend(str(READERS))
    from test_bags import write_bag

    ringed = np.column_stack([random_cloud(), np.zeros(800)]).astype(np.float32)
    found = detector(write_bag(tmp_path, kind, {"/lidar": [ringed]}))
    assert len(found) == 1
    assert_same(found[0], detector(random_cloud()))


def test_what_is_no_cloud_is_named(detector) -> None:
    with pytest.raises(DataError, match=r"points: expected .* \(4, 800\); transpose it"):
        detector(random_cloud().T)
    with pytest.raises(DataError, match=r"points\[1\]: expected an array .* found int"):
        detector([random_cloud(), 3])
    with pytest.raises(DataError, match="nowhere.bin: no such file"):
        detector("nowhere.bin")
    with pytest.raises(ConfigError, match="batch_size 0"):
        detector(random_cloud(), batch_size=0)


@pytest.mark.parametrize("num_points", [1, 2_000_000])
def test_one_point_and_two_million_work(detector, num_points: int) -> None:
    found = detector(random_cloud(num_points=num_points))
    assert np.isfinite(found.boxes).all()


def test_points_out_of_the_range_give_no_boxes(checkpoint, device) -> None:
    told: list[str] = []
    detector = load_detector(CONFIG, checkpoint, device=device, tell=told.append)
    assert len(detector(random_cloud() + np.float32([500, 0, 0, 0]))) == 0
    assert "0% of its points are in the range of the detector" in told[0]


def test_threads_get_the_boxes_of_their_own_clouds(detector) -> None:
    """The settings of a call hold for this call alone, also while another one runs."""
    clouds = [random_cloud(seed) for seed in range(4)]
    expected = [detector(cloud, max_boxes=seed + 1) for seed, cloud in enumerate(clouds)]
    found: dict[int, Detections] = {}

    def detect(seed: int) -> None:
        found[seed] = detector(clouds[seed], max_boxes=seed + 1, score_threshold=0.1)

    threads = [threading.Thread(target=detect, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        assert_same(found[seed], expected[seed])


@pytest.mark.filterwarnings("ignore::UserWarning")  # such clouds are not what it learnt from
def test_a_log_of_argoverse_is_the_clouds_of_its_sweeps(detector, tmp_path) -> None:
    log = write_log(tmp_path / "log", 2)
    sweeps = sorted((log / "sensors" / "lidar").iterdir())
    of_log = detector(log)
    assert len(of_log) == 2
    for found, sweep in zip(of_log, sweeps):
        assert_same(found, detector(sweep))
