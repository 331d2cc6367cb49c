"""KITTI as a dataset: infos and point files in, items for training or testing out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...commands import command_text
from ...config import CloudOptions, LidarEvalOptions, inside, nearest, required
from ...errors import ConfigError, DataError
from ...evaluation.kitti import KittiResult, kitti_eval
from ...evaluation.kitti.protocol import MIN_OVERLAP
from ...evaluation.lidar import LidarResult, lidar_eval
from ...moved import warn_renamed
from ...types import BatchDict, ConfigDict
from ..common_cloud import check_features, read_cloud
from ..info_dataset import InfoDataset
from ..info_structures import KITTI_INFO
from ..item import Item
from .calibration import Calibration
from .camera_boxes import boxes_camera_to_lidar
from .folder import KittiFolder, check_root, create_data_command
from .kitti_infos import file_of_frame
from .object3d import DONT_CARE
from .predictions import prediction_anno, write_result_file

SUPPORTED_ITEMS = ("points",)
POINT_BYTES = 16  # four float32
# Its frames have the numbers of other frames in training/.
TEST_INFOS = "kitti_infos_test.pkl"


class KittiDataset(InfoDataset):
    """Frames of a KITTI folder, by the info files that ``create_data.py kitti`` or OpenPCDet made.

    Attributes:
        kitti_infos: one info dict a frame.
    """

    info_structure = KITTI_INFO
    infos_are = "KITTI infos"
    an_info_is = "KITTI info"

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
        self.cloud = CloudOptions.from_config(dataset_cfg)
        self.point_folders = self.cloud.folders
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
        if dataset_cfg.get("COMMON_CLOUD"):
            check_features(self.point_feature_encoder.src_feature_list, self.cloud)
        self.split = self.of_mode("DATA_SPLIT")
        self.folder = KittiFolder(self.root_path, self.split)
        self.fov_points_only = bool(dataset_cfg.get("FOV_POINTS_ONLY", False))
        for name in dataset_cfg.get("GET_ITEM_LIST", SUPPORTED_ITEMS):
            if name not in SUPPORTED_ITEMS:
                raise ConfigError(
                    f"DATA_CONFIG.GET_ITEM_LIST: '{name}' is not supported"
                    f"{nearest(name, SUPPORTED_ITEMS)}"
                )
        # None: KITTI's evaluation. It needs image boxes, which a folder without a camera has not.
        self.lidar_evaluation: LidarEvalOptions | None = None
        if dataset_cfg.get("EVALUATION") is not None:
            self.lidar_evaluation = LidarEvalOptions.from_config(dataset_cfg, class_names)
        self.needs_road_plane = (
            self.data_augmentor is not None and self.data_augmentor.needs_road_plane
        )
        if self.needs_road_plane:
            self._check_road_planes()
        self._check_info_paths()
        self.kitti_infos = self.load_infos()
        self.has_camera = all(np.any(info["image"]["image_shape"]) for info in self.kitti_infos)
        if self.fov_points_only and not self.has_camera:
            raise ConfigError(
                "DATA_CONFIG.FOV_POINTS_ONLY: True keeps the points that the camera sees, but "
                f"{self.root_path} has no images; expected False"
            )
        self.logger.info(
            "KITTI %s: %d frames of %s", self.split, len(self.kitti_infos), self.root_path
        )

    @property
    def how_to_make_files(self) -> str:
        """The command that makes info files and database, and planes if they are needed."""
        if self.cloud.name:
            command = command_text("data", "kitti", "CFG")
            return f"make it with '{command}', where CFG is the yaml file with this COMMON_CLOUD"
        flags = "--make_planes" if self._lacks_road_planes() else ""
        return f"make it with '{create_data_command(self.root_path, flags)}'"

    def _lacks_road_planes(self) -> bool:
        """Whether the config asks for road planes that the folder does not have."""
        block = self.dataset_cfg.get("DATA_AUGMENTOR") or {}
        augmentations = block.get("AUG_CONFIG_LIST", ()) if isinstance(block, Mapping) else block
        asks = any(config.get("USE_ROAD_PLANE") for config in augmentations if config)
        return self.training and asks and not self._planes_folder.is_dir()

    @property
    def _planes_folder(self) -> Path:
        return self.root_path / "training" / "planes"

    def _check_info_paths(self) -> None:
        """Refuse the info file of testing/ for a split that reads from training/."""
        for path in self.info_paths():
            if Path(path).name == TEST_INFOS and self.split != "test":
                raise ConfigError(
                    f"DATA_CONFIG.INFO_PATH.{self.mode}: {path} lists frames of testing/, but "
                    f"DATA_SPLIT.{self.mode}: {self.split} reads from training/; expected an info "
                    "file of its frames, such as kitti_infos_unlabelled.pkl"
                )

    def check_trained_classes(self, infos: Sequence[Item], paths: object) -> None:
        """Refuse to train on a split without any object of the trained classes."""
        has_objects = any(
            np.isin(info["annos"]["name"], self.class_names).any()
            for info in infos
            if "annos" in info
        )
        if not has_objects:
            raise DataError(
                f"{self.root_path}: no frame of {paths} holds a {' / '.join(self.class_names)}"
            )

    def _check_road_planes(self) -> None:
        """Refuse a folder without planes before the first item, with the ways out."""
        if not self._planes_folder.is_dir():
            raise DataError(
                f"{self._planes_folder}: USE_ROAD_PLANE: True puts sampled objects on the ground "
                "of each frame, and this folder of grounds is missing; estimate it from the points "
                "with "
                f"'{create_data_command(self.root_path, '--make_planes')}', or download it (the "
                "'road plane' link of OpenPCDet's KITTI guide), or write USE_ROAD_PLANE: False "
                "into the gt_sampling entry of the yaml"
            )

    @property
    def num_frames(self) -> int:
        """Frames of the split."""
        return len(self.kitti_infos)

    def frame_name(self, index: int) -> str:
        """KITTI's number of frame ``index``."""
        return str(self.kitti_infos[index]["point_cloud"]["lidar_idx"])

    def calibration(self, index: int) -> Calibration:
        """That of frame ``index``, from its info."""
        return Calibration.from_info(self.kitti_infos[index]["calib"])

    def load_frame(self, index: int) -> Item:
        """Points seen by camera 2 and, where labelled, all boxes but DontCare."""
        item = self.whole_frame(index)
        if self.fov_points_only:
            rect = item["calib"].lidar_to_rect(item["points"][:, :3])
            in_view = item["calib"].in_image(rect, item["image_shape"])
            item["points"] = np.compress(in_view, item["points"], axis=0)
        return item

    def recorded_size(self, index: int) -> tuple[Path, int] | None:
        """The file in ``velodyne``, of infos that this package made."""
        path = file_of_frame(self.folder, self.frame_name(index))
        for file, num_bytes in self.recorded_bytes(self.root_path, [path]).items():
            return file, num_bytes
        # Infos of an earlier version held the number themselves.
        num_points = self.kitti_infos[index]["point_cloud"].get("num_points")
        if not isinstance(num_points, int):
            return None
        file = self.folder.file("velodyne", self.frame_name(index), ".bin")
        return file, num_points * POINT_BYTES

    def whole_frame(self, index: int) -> Item:
        """Points of the whole turn and, where labelled, all boxes but DontCare."""
        info = self.kitti_infos[index]
        frame_id = self.frame_name(index)
        calib = self.calibration(index)
        image_shape = np.asarray(info["image"]["image_shape"], dtype=np.int32)
        item: Item = {
            "frame_id": frame_id,
            "calib": calib,
            "points": read_cloud(self.folder.half, frame_id, self.cloud),
            "image_shape": image_shape,
        }
        if "annos" in info:
            item["gt_names"], item["gt_boxes"] = _labelled_boxes(info["annos"], calib)
            if self.needs_road_plane:
                item["road_plane"] = self.folder.road_plane(frame_id)
        return item

    def generate_prediction_dicts(
        self,
        batch_dict: BatchDict,
        pred_dicts: Sequence[Mapping[str, torch.Tensor]],
        class_names: Sequence[str],
        output_path: Path | None = None,
    ) -> list[Item]:
        """One dict of KITTI detections a frame; with ``output_path`` also KITTI's text files."""
        annos = []
        for number, prediction in enumerate(pred_dicts):
            calib = batch_dict["calib"][number]
            image_shape = np.asarray(torch.as_tensor(batch_dict["image_shape"][number]).cpu())
            anno: Item = dict(prediction_anno(prediction, calib, image_shape, class_names))
            anno["frame_id"] = batch_dict["frame_id"][number]
            annos.append(anno)
            if output_path is not None:
                file = inside(output_path, f"{anno['frame_id']}.txt", "frame of the infos")
                write_result_file(file, anno)
        return annos

    def evaluate(self, det_annos: Sequence[Item]) -> KittiResult | LidarResult:
        """KITTI's AP of detections on this split.

        With DATA_CONFIG.EVALUATION, or a class that KITTI's benchmark does not have, it is AP in
        LiDAR coordinates.

        Frames are paired by their id. Of a frame that comes twice, as where a sampler pads the last
        batch, the first one counts.
        """
        return self._result(det_annos, self.class_names)

    def _result(
        self, det_annos: Sequence[Item], class_names: Sequence[str]
    ) -> KittiResult | LidarResult:
        self._check_labels()
        options = self.lidar_evaluation
        foreign = [name for name in class_names if name not in MIN_OVERLAP]
        if foreign and options is None:
            self.logger.info(
                "%s: no class of KITTI's benchmark, so AP is computed in LiDAR coordinates",
                ", ".join(foreign),
            )
            options = LidarEvalOptions()
        if options is None:
            return self._kitti_result(det_annos, class_names)
        return lidar_eval(self.lidar_labels(), det_annos, class_names, options)

    def lidar_labels(self) -> list[Item]:
        """The labels of each frame as boxes in LiDAR coordinates, but KITTI's DontCare regions."""
        self._check_labels()
        labels = []
        for index, info in enumerate(self.kitti_infos):
            names, boxes = _labelled_boxes(info["annos"], Calibration.from_info(info["calib"]))
            anno: Item = {
                "frame_id": self.frame_name(index),
                "name": names,
                "gt_boxes_lidar": boxes,
            }
            # They count what camera 2 sees, which is too little where the model sees more.
            counts_all = self.fov_points_only or not self.has_camera
            if counts_all and "num_points_in_gt" in info["annos"]:
                anno["num_points_in_gt"] = info["annos"]["num_points_in_gt"]
            labels.append(anno)
        return labels

    def evaluation(
        self, det_annos: Sequence[Item], class_names: Sequence[str], **kwargs: Any
    ) -> tuple[str, dict[str, float]]:
        """OpenPCDet's text and its dict of R40 values; both empty for a split without labels."""
        if "annos" not in self.kitti_infos[0]:
            return "The split has no labels: nothing is evaluated", {}
        result = self._result(det_annos, class_names)
        return result.text, result.ap_dict

    def kitti_result(self, det_annos: Sequence[Item], class_names: Sequence[str]) -> KittiResult:
        """The old form of ``evaluate``."""
        warn_renamed("KittiDataset.kitti_result(det_annos, class_names)", "evaluate(det_annos)")
        self._check_labels()
        return self._kitti_result(det_annos, class_names)

    def _kitti_result(self, det_annos: Sequence[Item], class_names: Sequence[str]) -> KittiResult:
        labels = {
            self.frame_name(index): info["annos"] for index, info in enumerate(self.kitti_infos)
        }
        chosen, detections = self.pair_with_labels(labels, det_annos)
        return kitti_eval(chosen, detections, list(class_names))

    def _check_labels(self) -> None:
        if any("annos" not in info for info in self.kitti_infos):
            raise DataError(
                f"{self.root_path}: the split '{self.split}' has no labels, "
                "so it cannot be evaluated"
            )


def _labelled_boxes(
    annos: Mapping[str, np.ndarray], calib: Calibration
) -> tuple[np.ndarray, np.ndarray]:
    """Names (M,) and LiDAR boxes (M, 7) float32 of all labels but DontCare."""
    names = np.asarray(annos["name"], dtype=str)
    is_object = np.asarray(annos["name"]) != DONT_CARE
    parts = [
        np.asarray(annos["location"]).reshape(-1, 3),
        np.asarray(annos["dimensions"]).reshape(-1, 3),
        np.asarray(annos["rotation_y"]).reshape(-1, 1),
    ]
    camera = np.concatenate(parts, axis=1).astype(np.float32)
    return names[is_object], boxes_camera_to_lidar(camera[is_object], calib)
