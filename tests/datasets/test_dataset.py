"""What DatasetTemplate promises to a dataset of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pcdet_distill.datasets.box_fields import BOX_FIELDS_WITH_VELOCITY
from pcdet_distill.datasets.dataset import DatasetTemplate
from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.evaluation.kitti import KittiResult
from pcdet_distill.evaluation.result import EvaluationResult, PlainResult

CLASSES = ["Car"]


class OneFrame(DatasetTemplate):
    """A frame of ten points and one box, whose columns count from 0."""

    def __init__(self, config, width: int = 7, **options) -> None:
        super().__init__(config, CLASSES, **options)
        self.width = width

    @property
    def num_frames(self) -> int:
        return 1

    def load_frame(self, index: int) -> dict:
        box = np.arange(1, self.width + 1, dtype=np.float32)
        points = np.random.RandomState(0).uniform(1, 5, (10, 4)).astype(np.float32)
        return {
            "points": points,
            "frame_id": "a",
            "gt_boxes": box[None],
            "gt_names": np.array(["Car"]),
        }


class Moving(OneFrame):
    """The same with velocities."""

    box_fields = BOX_FIELDS_WITH_VELOCITY


@pytest.fixture
def config(data_config, tmp_path: Path):
    data_config.DATA_PATH = str(tmp_path)
    data_config.DATA_AUGMENTOR = None
    return data_config


def test_velocities_reach_the_batch(config) -> None:
    dataset = Moving(config, width=9, training=False)
    batch = dataset.collate_batch([dataset[0]])
    assert batch["gt_boxes"].shape == (1, 1, 10)
    np.testing.assert_array_equal(batch["gt_boxes"][0, 0], [1, 2, 3, 4, 5, 6, 7, 8, 9, 1])


def test_an_unlabelled_frame_has_as_many_columns(config) -> None:
    dataset = Moving(config, width=9)
    dataset.take_unlabelled()
    item = dataset.load_frame(0)
    del item["gt_boxes"], item["gt_names"]
    item = dataset.prepare_data(item, np.random.RandomState(0))
    assert item["gt_boxes"].shape == (0, 10)


@pytest.mark.parametrize(("dataset_class", "width"), [(OneFrame, 9), (Moving, 7)])
def test_boxes_of_another_width_are_refused(config, dataset_class, width: int) -> None:
    with pytest.raises(DataError, match=f"frame 0: its boxes have {width} columns, expected"):
        dataset_class(config, width=width)[0]


def test_unknown_box_fields_are_refused(config) -> None:
    class Rolling(OneFrame):
        box_fields = ("x", "y", "z", "dx", "dy", "dz", "heading", "roll")

    with pytest.raises(ConfigError, match="Rolling.box_fields: .*roll is not supported"):
        Rolling(config)


@pytest.mark.parametrize("count", [0, 2])
def test_detections_of_a_dataset_without_a_format_of_its_own(config, count: int) -> None:
    prediction = {
        "pred_boxes": torch.rand(count, 9),
        "pred_scores": torch.rand(count),
        "pred_labels": torch.ones(count, dtype=torch.int64),
    }
    (anno,) = Moving(config).generate_prediction_dicts({"frame_id": ["a"]}, [prediction], CLASSES)
    assert anno["frame_id"] == "a"
    assert anno["name"].tolist() == ["Car"] * count
    assert anno["boxes_lidar"].shape == (count, 9)
    assert anno["score"].shape == (count,)


def test_openpcdets_evaluation_is_adapted(config) -> None:
    class Scored(OneFrame):
        def evaluation(self, det_annos, class_names, **kwargs):
            return f"{len(det_annos)} frames of {class_names}", {"Car/AP": 50.0}

    result = Scored(config).evaluate([{}, {}])
    assert isinstance(result, EvaluationResult)
    assert result.text == "2 frames of ['Car']"
    assert result.text_table() == ""
    assert result.ap_dict == result.metrics() == {"Car/AP": 50.0}
    assert result.primary is None


def test_a_dataset_without_evaluation_names_what_is_missing(config) -> None:
    with pytest.raises(ConfigError, match=r"OneFrame has no evaluation; expected .* evaluate\("):
        OneFrame(config).evaluate([])


def test_results_fulfil_the_protocol() -> None:
    curves = {"3d": np.ones((1, 3, 2, 41)), "bev": np.ones((1, 3, 2, 41))}
    results = [KittiResult(["Car"], curves), PlainResult("text", {})]
    assert all(isinstance(result, EvaluationResult) for result in results)
    assert results[0].primary == ("3D mAP moderate R40", 100.0)
    assert results[0].text == str(results[0])
