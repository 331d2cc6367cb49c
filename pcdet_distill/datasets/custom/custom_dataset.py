"""Own data as a dataset: infos and point files in, items for training or testing out.

Reads what ``pcdet-distill data custom`` or OpenPCDet's ``create_custom_infos`` wrote. There is no
camera: boxes are in LiDAR coordinates, and the evaluation is that of ``evaluation/lidar``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...config import LidarEvalOptions, required
from ...errors import DataError
from ...evaluation.kitti import KittiResult, kitti_eval
from ...evaluation.lidar import lidar_eval
from ...evaluation.result import EvaluationResult
from ...types import ConfigDict
from ..info_dataset import InfoDataset
from ..info_structures import CUSTOM_INFO
from ..item import Item
from ..kitti.object3d import DONT_CARE
from .custom_infos import file_of_info
from .folder import POINTS, CustomFolder, check_root, create_infos_command
from .kitti_form import kitti_anno, kitti_names


class CustomDataset(InfoDataset):
    """Frames of a folder of own data, by its info files.

    Attributes:
        custom_infos: one info dict a frame.
    """

    info_structure = CUSTOM_INFO
    an_info_is = "info of own data"
    trains_without_labels = True

    def __init__(
        self,
        dataset_cfg: ConfigDict,
        class_names: Sequence[str],
        training: bool = True,
        root_path: Path | None = None,
        logger: logging.Logger | None = None,
        *,
        seed: int = 0,
        skip_bad_frames: bool = False,
    ) -> None:
        check_root(Path(root_path or required(dataset_cfg, "DATA_PATH", "DATA_CONFIG")))
        super().__init__(
            dataset_cfg,
            class_names,
            training,
            root_path,
            logger,
            seed=seed,
            skip_bad_frames=skip_bad_frames,
        )
        self.lidar_evaluation = LidarEvalOptions.from_config(dataset_cfg, class_names)
        self.split = self.of_mode("DATA_SPLIT")
        self.folder = CustomFolder(self.root_path)
        self.custom_infos = self.load_infos()
        self.logger.info(
            "own data, %s: %d frames of %s", self.split, len(self.custom_infos), self.root_path
        )

    @property
    def how_to_make_files(self) -> str:
        """The command that makes info files and database."""
        return f"make it with '{create_infos_command(self.root_path)}'"

    def labelled_names(self, info: Item) -> Iterable[str]:
        """The classes of the objects of a frame."""
        return info["annos"]["name"] if "annos" in info else ()

    @property
    def num_frames(self) -> int:
        """Frames of the split."""
        return len(self.custom_infos)

    def frame_name(self, index: int) -> str:
        """The stem of the point file of frame ``index``."""
        return str(self.custom_infos[index]["point_cloud"]["lidar_idx"])

    def recorded_sizes(self, index: int) -> dict[Path, int]:
        """The file in ``points``, of infos that this package made."""
        files = [file_of_info(self.custom_infos[index])]
        return self.recorded_bytes(self.root_path / POINTS, files)

    def load_frame(self, index: int) -> Item:
        """The points of a frame and, where it is labelled, its boxes."""
        info = self.custom_infos[index]
        frame_id = self.frame_name(index)
        num_features = len(self.point_feature_encoder.src_feature_list)
        item: Item = {"frame_id": frame_id, "points": self.folder.points(frame_id, num_features)}
        if "annos" in info:
            item["gt_names"], item["gt_boxes"] = labelled_boxes(info["annos"])
        return item

    def evaluate(self, det_annos: Sequence[Item]) -> EvaluationResult:
        """AP in LiDAR coordinates of detections on this split; see ``evaluation/lidar``.

        Frames are paired by their id. Of a frame that comes twice, as where a sampler pads the last
        batch, the first one counts.
        """
        labels, detections = self._pairs(det_annos)
        return lidar_eval(labels, detections, self.class_names, self.lidar_evaluation)

    def evaluation(
        self, det_annos: Sequence[Item], class_names: Sequence[str], **kwargs: Any
    ) -> tuple[str, dict[str, float]]:
        """OpenPCDet's form of an evaluation: the text and the dict of numbers.

        ``eval_metric="kitti"`` scores KITTI's AP of the classes that MAP_CLASS_TO_KITTI names, as
        OpenPCDet does for own data; anything else is ``evaluate``.
        """
        if kwargs.get("eval_metric") == "kitti":
            result: EvaluationResult = self._kitti_result(det_annos, class_names)
        else:
            result = self.evaluate(det_annos)
        return result.text, dict(result.ap_dict)

    def _pairs(self, det_annos: Sequence[Item]) -> tuple[list[Item], list[Item]]:
        """The labels and the detections of every frame that has both, in the frames' order."""
        labels = {anno["frame_id"]: anno for anno in self.lidar_labels()}
        return self.pair_with_labels(labels, det_annos)

    def lidar_labels(self) -> list[Item]:
        """The labels of each frame."""
        labels = []
        for index, info in enumerate(self.custom_infos):
            frame_id = self.frame_name(index)
            if "annos" not in info:
                raise DataError(
                    f"{self.root_path}: frame {frame_id} of the split '{self.split}' has no "
                    "labels, so the split cannot be evaluated"
                )
            labels.append({**info["annos"], "frame_id": frame_id})
        return labels

    def _kitti_result(self, det_annos: Sequence[Item], class_names: Sequence[str]) -> KittiResult:
        mapping = required(self.dataset_cfg, "MAP_CLASS_TO_KITTI", "DATA_CONFIG")
        labels, detections = self._pairs(det_annos)
        kitti_labels = []
        for anno in labels:
            names, boxes = labelled_boxes(anno)
            known = np.isin(names, list(mapping))
            kitti_labels.append(kitti_anno(names[known], boxes[known], mapping))
        kitti_detections = [
            kitti_anno(anno["name"], anno["boxes_lidar"], mapping, anno["score"])
            for anno in detections
        ]
        return kitti_eval(kitti_labels, kitti_detections, kitti_names(class_names, mapping))


def labelled_boxes(annos: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Names (M,) and boxes (M, 7) float32 of an info, without KITTI's DontCare regions."""
    names = np.asarray(annos["name"], dtype=str).reshape(-1)
    boxes = np.asarray(annos["gt_boxes_lidar"], dtype=np.float32)
    boxes = boxes.reshape(len(names), -1)[:, :7] if len(names) else np.zeros((0, 7), np.float32)
    is_object = names != DONT_CARE
    return names[is_object], boxes[is_object]
