"""KITTI as a dataset: infos and point files in, items for training or testing out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...config import nearest, required
from ...errors import ConfigError, DataError
from ...evaluation.kitti import KittiResult, kitti_eval
from ..dataset import DatasetTemplate, Item
from ..safe_pickle import load_plain_pickle
from .calibration import Calibration
from .camera_boxes import boxes_camera_to_lidar
from .folder import KittiFolder, check_root
from .predictions import prediction_anno, write_result_file

HOW_TO_MAKE = "make it with 'python tools/create_data.py kitti CFG'"
ITEMS = ("points",)
INFO_KEYS = {
    "point_cloud": ("lidar_idx",),
    "image": ("image_shape",),
    "calib": ("P2", "R0_rect", "Tr_velo_to_cam"),
    "annos": (
        "name",
        "truncated",
        "occluded",
        "alpha",
        "bbox",
        "dimensions",
        "location",
        "rotation_y",
    ),
}


class KittiDataset(DatasetTemplate):
    """Frames of a KITTI folder, by the info files that ``create_data.py kitti`` or OpenPCDet made.

    Attributes:
        kitti_infos: one info dict a frame.
    """

    how_to_make_files = HOW_TO_MAKE

    def __init__(
        self,
        dataset_cfg: Mapping[str, Any],
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
        self.split = required(
            required(dataset_cfg, "DATA_SPLIT", "DATA_CONFIG"), self.mode, "DATA_CONFIG.DATA_SPLIT"
        )
        self.folder = KittiFolder(self.root_path, self.split)
        self.fov_points_only = bool(dataset_cfg.get("FOV_POINTS_ONLY", False))
        for name in dataset_cfg.get("GET_ITEM_LIST", ITEMS):
            if name not in ITEMS:
                raise ConfigError(
                    f"DATA_CONFIG.GET_ITEM_LIST: '{name}' is not supported{nearest(name, ITEMS)}"
                )
        self.needs_road_plane = (
            self.data_augmentor is not None and self.data_augmentor.needs_road_plane
        )
        if self.needs_road_plane:
            self._check_road_planes()
        self.kitti_infos = self._load_infos()
        self.logger.info(
            "KITTI %s: %d frames of %s", self.split, len(self.kitti_infos), self.root_path
        )

    def _load_infos(self) -> list[dict[str, Any]]:
        """The infos of INFO_PATH, checked for what is read later."""
        infos: list[dict[str, Any]] = []
        paths = required(
            required(self.dataset_cfg, "INFO_PATH", "DATA_CONFIG"),
            self.mode,
            "DATA_CONFIG.INFO_PATH",
        )
        for path in [paths] if isinstance(paths, str) else paths:
            loaded = load_plain_pickle(self.root_path / path, HOW_TO_MAKE)
            if not isinstance(loaded, list):
                raise DataError(
                    f"{self.root_path / path}: expected a list of KITTI infos; {HOW_TO_MAKE}"
                )
            for number, info in enumerate(loaded):
                missing = _missing_of_info(info)
                if missing:
                    raise DataError(
                        f"{self.root_path / path}: entry {number} is no KITTI info, it lacks {missing}; "
                        f"{HOW_TO_MAKE}"
                    )
            infos.extend(loaded)
        if not infos:
            raise DataError(f"{self.root_path}: the info files {paths} hold no frames")
        if self.training and not any(
            np.isin(info["annos"]["name"], self.class_names).any()
            for info in infos
            if "annos" in info
        ):
            raise DataError(
                f"{self.root_path}: no frame of {paths} holds a {' / '.join(self.class_names)}"
            )
        return infos

    def _check_road_planes(self) -> None:
        """Say once, before the first item, what is missing and what can be done."""
        planes = self.folder.half / "planes"
        if not planes.is_dir():
            raise DataError(
                f"{planes}: USE_ROAD_PLANE: True stands sampled objects on the ground of each frame, and this folder "
                "of estimated grounds is missing; download it (the 'road plane' link of OpenPCDet's KITTI guide), or "
                "estimate it from the points with 'python tools/create_data.py kitti CFG --make_planes', or write "
                "USE_ROAD_PLANE: False into the gt_sampling entry of the yaml"
            )

    @property
    def num_frames(self) -> int:
        """Frames of the split."""
        return len(self.kitti_infos)

    def frame_name(self, index: int) -> str:
        """KITTI's number of frame ``index``."""
        return str(self.kitti_infos[index]["point_cloud"]["lidar_idx"])

    def load_frame(self, index: int) -> Item:
        """Points seen by camera 2 and, where labelled, all boxes but DontCare."""
        info = self.kitti_infos[index]
        frame_id = self.frame_name(index)
        calib = Calibration.from_info(info["calib"])
        image_shape = np.asarray(info["image"]["image_shape"], dtype=np.int32)
        points = self.folder.points(frame_id)
        if self.fov_points_only:
            points = points[calib.in_image(calib.lidar_to_rect(points[:, :3]), image_shape)]
        item: Item = {
            "frame_id": frame_id,
            "calib": calib,
            "points": points,
            "image_shape": image_shape,
        }
        if "annos" in info:
            item["gt_names"], item["gt_boxes"] = _labelled_boxes(info["annos"], calib)
            if self.needs_road_plane:
                item["road_plane"] = self.folder.road_plane(frame_id)
        return item

    def generate_prediction_dicts(
        self,
        batch_dict: Item,
        pred_dicts: Sequence[Mapping[str, torch.Tensor]],
        class_names: Sequence[str],
        output_path: Path | None = None,
    ) -> list[Item]:
        """One dict of KITTI detections a frame; with ``output_path`` also KITTI's text files."""
        annos = []
        for number, prediction in enumerate(pred_dicts):
            image_shape = np.asarray(torch.as_tensor(batch_dict["image_shape"][number]).cpu())
            anno = prediction_anno(
                prediction, batch_dict["calib"][number], image_shape, class_names
            )
            anno["frame_id"] = batch_dict["frame_id"][number]
            annos.append(anno)
            if output_path is not None:
                write_result_file(Path(output_path) / f"{anno['frame_id']}.txt", anno)
        return annos

    def evaluate(self, det_annos: Sequence[Item]) -> KittiResult:
        """KITTI's AP of detections on this split.

        Frames are paired by their id. Of a frame that comes twice, as where a sampler pads the last
        batch, the first one counts.
        """
        return self._kitti_result(det_annos, self.class_names)

    def evaluation(
        self, det_annos: Sequence[Item], class_names: Sequence[str], **kwargs: Any
    ) -> tuple[str, dict[str, float]]:
        """OpenPCDet's text and its dict of R40 values; both empty for a split without labels."""
        if "annos" not in self.kitti_infos[0]:
            return "The split has no labels: nothing is evaluated", {}
        result = self._kitti_result(det_annos, class_names)
        return result.text, result.ap_dict

    def _kitti_result(self, det_annos: Sequence[Item], class_names: Sequence[str]) -> KittiResult:
        if any("annos" not in info for info in self.kitti_infos):
            raise DataError(
                f"{self.root_path}: the split '{self.split}' has no labels, so it cannot be evaluated"
            )
        labels = {
            self.frame_name(index): info["annos"] for index, info in enumerate(self.kitti_infos)
        }
        detections = {str(anno["frame_id"]): anno for anno in reversed(det_annos)}
        chosen = [frame_id for frame_id in labels if frame_id in detections]
        if len(chosen) < len(labels):
            self.logger.warning(
                "evaluated on %d of %d frames: the rest has no detections", len(chosen), len(labels)
            )
        return kitti_eval(
            [labels[frame_id] for frame_id in chosen],
            [detections[frame_id] for frame_id in chosen],
            list(class_names),
        )


def _missing_of_info(info: Any) -> str:
    """What of a KITTI info is missing or misshapen, of all that is read later; empty when it is whole."""
    for block, entries in INFO_KEYS.items():
        held = info.get(block) if isinstance(info, dict) else None
        if held is None and block == "annos":  # a split without labels
            continue
        for key in entries:
            if not isinstance(held, dict) or key not in held:
                return f"{block}.{key}"
    annos = info.get("annos") or {}
    lengths = {np.shape(annos[key])[:1] for key in INFO_KEYS["annos"] if annos}
    return (
        ""
        if len(lengths) <= 1
        else f"arrays of one length under annos (found lengths {sorted(lengths)})"
    )


def _labelled_boxes(annos: Mapping[str, Any], calib: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Names (M,) and LiDAR boxes (M, 7) float32 of all labels but DontCare."""
    real = np.asarray(annos["name"]) != "DontCare"
    widths = {"location": 3, "dimensions": 3, "rotation_y": 1}
    columns = [np.asarray(annos[key]).reshape(-1, width) for key, width in widths.items()]
    camera = np.concatenate(columns, axis=1).astype(np.float32)
    return np.asarray(annos["name"], dtype=str)[real], boxes_camera_to_lidar(camera[real], calib)
