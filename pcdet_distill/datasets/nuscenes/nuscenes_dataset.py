"""nuScenes as a dataset: info files and point files in, items for training or testing out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...config import LidarEvalOptions, NuScenesOptions, required
from ...config.nuscenes_options import FEATURES
from ...errors import ConfigError, DataError
from ...evaluation.lidar import lidar_eval
from ...evaluation.nuscenes import DETECTION_NAMES, nuscenes_eval
from ...evaluation.result import EvaluationResult
from ...structures import Structure
from ...types import BatchDict, ConfigDict
from ..box_fields import BOX_FIELDS, BOX_FIELDS_WITH_VELOCITY
from ..info_dataset import InfoDataset
from ..info_structures import NUSCENES_INFO, NUSCENES_UNLABELLED
from ..item import Item
from .create import files_of
from .folder import NuScenesFolder, create_data_command
from .resampling import balanced_frames
from .sweeps import read_frame

LABELS = "gt_boxes"
OF_MMDETECTION3D = {"data_list", "infos"}  # keys of its info files
RESAMPLING_KEY = 1  # keeps the random numbers of the resampling apart from those of the items


class NuScenesDataset(InfoDataset):
    """Key frames of a nuScenes version, by info files of ``data nuscenes`` or of OpenPCDet.

    Attributes:
        infos: one info dict a frame, each frame once.
        options: the keys of DATA_CONFIG that only nuScenes has.
        lidar_evaluation: how AP in LiDAR coordinates is computed, with a block
            DATA_CONFIG.EVALUATION or a class that the benchmark does not have; else None.
    """

    infos_are = "nuScenes infos, as OpenPCDet writes it"
    an_info_is = "info of nuScenes"

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
        self.options = NuScenesOptions.from_config(dataset_cfg)
        data_path = Path(root_path or required(dataset_cfg, "DATA_PATH", "DATA_CONFIG"))
        self.folder = NuScenesFolder(data_path, self.options.version)
        self.folder.check()
        _check_features(dataset_cfg)
        self.box_fields = BOX_FIELDS_WITH_VELOCITY if self.options.pred_velocity else BOX_FIELDS
        super().__init__(
            dataset_cfg,
            class_names,
            training,
            self.folder.root,
            logger,
            seed=seed,
            skip_bad_frames=skip_bad_frames,
        )
        self.lidar_evaluation: LidarEvalOptions | None = None
        foreign = set(self.class_names) - set(DETECTION_NAMES)
        if foreign or dataset_cfg.get("EVALUATION") is not None:
            self.lidar_evaluation = LidarEvalOptions.from_config(dataset_cfg, class_names)
        self.infos = self.load_infos()
        self._order = self._draw_order()
        self._result_folder: Path | None = None
        self.logger.info("nuScenes %s: %s of %s", self.options.version, self._size, self.root_path)

    @property
    def _size(self) -> str:
        """The number of frames and, where rare ones come more often, of items."""
        if self._order is None:
            return f"{self.num_frames} frames"
        return f"{self.num_frames} frames, resampled to {self.num_items} by class,"

    @property
    def how_to_make_files(self) -> str:
        """The command that makes info files and database."""
        command = create_data_command(self.options.version)
        return f"make it with '{command}', where CFG is the yaml file with this MAX_SWEEPS"

    # ---- Info files ----

    def structure_of(self, info: object) -> Structure:
        """A version without annotations has no boxes."""
        is_labelled = isinstance(info, Mapping) and LABELS in info
        return NUSCENES_INFO if is_labelled else NUSCENES_UNLABELLED

    def problem_of_info(self, info: Item) -> str:
        """Whether it has too few sweeps."""
        listed = len(info["sweeps"])
        needed = self.options.max_sweeps - 1
        if listed >= needed:
            return ""
        return f"it holds {listed} sweeps before the key frame, but MAX_SWEEPS needs {needed}"

    def found_instead(self, content: object) -> str:
        """Whether the file is one of mmdetection3d."""
        keys = set(content) if isinstance(content, Mapping) else set()
        return ", found a file of mmdetection3d" if keys & OF_MMDETECTION3D else ""

    def read_info_file(self, path: Path) -> list[Item]:
        """The infos of one file."""
        infos = super().read_info_file(path)
        for info in infos:
            _forget_unread_matrices(info)
        return infos

    def labelled_names(self, info: Item) -> Iterable[str]:
        """The classes of the objects of a frame."""
        return info["gt_names"] if LABELS in info else ()

    # ---- Which frame an item shows ----

    def _draw_order(self) -> np.ndarray | None:
        """The frames of one pass; None where each comes once."""
        if not (self.training and self.options.balanced_resampling):
            return None
        # Drawn once for the whole training, from the seed alone. So all processes, and a training
        # that is resumed, have the same frames.
        sequence = np.random.SeedSequence(self.seed, spawn_key=(RESAMPLING_KEY,))
        random = np.random.RandomState(np.random.MT19937(sequence))
        names = [set(map(str, info.get("gt_names", ()))) for info in self.infos]
        return balanced_frames(names, self.class_names, random)

    @property
    def num_frames(self) -> int:
        """Different frames of the split."""
        return len(self.infos)

    @property
    def num_items(self) -> int:
        """Items of one pass: more than frames where rare classes come more often."""
        return self.num_frames if self._order is None else len(self._order)

    def frame_of_item(self, index: int) -> int:
        """Number of the frame that an item shows."""
        return index if self._order is None else int(self._order[index])

    def frame_name(self, index: int) -> str:
        """Name of the key frame's point file, without its last ending."""
        return Path(self.infos[index]["lidar_path"]).stem

    # ---- Frames ----

    def load_frame(self, index: int) -> Item:
        """The newest MAX_SWEEPS sweeps, in their own order, and the boxes that are trained on."""
        return self._frame(index, None)

    def draw_frame(self, index: int, random: np.random.RandomState) -> Item:
        """The same with the sweeps in random order, as in OpenPCDet.

        Of more sweeps than MAX_SWEEPS asks for, a random choice.
        """
        return self._frame(index, random)

    def _frame(self, index: int, random: np.random.RandomState | None) -> Item:
        item = self._item(index, random)
        if LABELS in item and self.options.filter_min_points_in_gt > 0:
            num_points = np.asarray(self.infos[index]["num_lidar_pts"])
            enough = num_points >= self.options.filter_min_points_in_gt
            item["gt_boxes"] = item["gt_boxes"][enough]
            item["gt_names"] = item["gt_names"][enough]
        return item

    def recorded_sizes(self, index: int) -> dict[Path, int]:
        """The files of the key frame and its sweeps, of infos that this package made."""
        return self.recorded_bytes(self.folder.clouds, files_of([self.infos[index]]))

    def _item(self, index: int, random: np.random.RandomState | None) -> Item:
        """Points and all labelled boxes of a frame."""
        info = self.infos[index]
        item: Item = {
            "points": read_frame(self.folder.clouds, info, self.options.max_sweeps, random),
            "frame_id": self.frame_name(index),
            "metadata": {"token": info["token"]},
        }
        if LABELS in info:
            boxes = np.asarray(info[LABELS]).reshape(-1, len(BOX_FIELDS_WITH_VELOCITY))
            item["gt_boxes"] = boxes[:, : len(self.box_fields)].astype(np.float32)
            item["gt_names"] = np.asarray(info["gt_names"], dtype=str)
        return item

    def frame_with_all_labels(self, index: int) -> Item:
        """All labelled boxes, without FILTER_MIN_POINTS_IN_GT.

        A teacher's predictions are stored by labelled object. The database has objects without a
        point in the key frame, which only other sweeps or the radar see.
        """
        return self._item(index, None)

    def prepare_data(self, data_dict: Item, random: np.random.RandomState) -> Item | None:
        """Augment, keep the boxes of the classes, process the points; unknown velocities last."""
        item = super().prepare_data(data_dict, random)
        if item is not None and LABELS in item and self.options.set_nan_velocity_to_zeros:
            boxes = item[LABELS]
            boxes[np.isnan(boxes)] = 0.0
        return item

    # ---- Detections ----

    def generate_prediction_dicts(
        self,
        batch_dict: BatchDict,
        pred_dicts: Sequence[Mapping[str, torch.Tensor]],
        class_names: Sequence[str],
        output_path: Path | None = None,
    ) -> list[Item]:
        """One dict of detections a frame, with the token of its sample as ``metadata``.

        With ``output_path`` the evaluation also writes ``results_nusc.json`` there.
        """
        self._result_folder = output_path
        annos = super().generate_prediction_dicts(batch_dict, pred_dicts, class_names)
        for anno, metadata in zip(annos, batch_dict["metadata"]):
            anno["metadata"] = metadata
        return annos

    def evaluate(self, det_annos: Sequence[Item]) -> EvaluationResult:
        """mAP, errors and NDS of nuScenes' benchmark on this split.

        With a class that the benchmark does not have, or a block DATA_CONFIG.EVALUATION, AP in
        LiDAR coordinates instead.
        """
        if self.lidar_evaluation is not None:
            return self._lidar_result(det_annos, self.lidar_evaluation)
        return nuscenes_eval(
            self.infos,
            det_annos,
            self.folder.clouds,
            self.options.version,
            classes=self.class_names,
            output_path=self._result_folder,
            logger=self.logger,
        )

    def _lidar_result(
        self, det_annos: Sequence[Item], options: LidarEvalOptions
    ) -> EvaluationResult:
        """AP in LiDAR coordinates. Of a frame that comes twice the first one counts."""
        labels = {str(anno["frame_id"]): anno for anno in self.lidar_labels()}
        chosen, detections = self.pair_with_labels(labels, det_annos)
        return lidar_eval(chosen, detections, self.class_names, options)

    def lidar_labels(self) -> list[Item]:
        """The labels of each frame, in LiDAR coordinates."""
        labels = []
        for index, info in enumerate(self.infos):
            if LABELS not in info:
                raise DataError(f"{self.root_path}: the split has no labels to evaluate on")
            labels.append(_lidar_anno(self.frame_name(index), info))
        return labels

    def evaluation(
        self, det_annos: Sequence[Item], class_names: Sequence[str], **kwargs: Any
    ) -> tuple[str, dict[str, float]]:
        """OpenPCDet's text and its dict of numbers."""
        if kwargs.get("output_path") is not None:
            self._result_folder = Path(kwargs["output_path"])
        result = self.evaluate(det_annos)
        return result.text, dict(result.ap_dict)


def _forget_unread_matrices(info: Item) -> None:
    """Drop two of the three matrices of each sweep: the full data set has 250,000 sweeps."""
    for sweep in info["sweeps"]:
        sweep.pop("global_from_car", None)
        sweep.pop("car_from_current", None)


def _lidar_anno(name: str, info: Item) -> Item:
    """The labels of a frame as the evaluation in LiDAR coordinates reads them."""
    return {
        "frame_id": name,
        "name": np.asarray(info["gt_names"], dtype=str),
        "gt_boxes_lidar": np.asarray(info[LABELS]),
        "num_points_in_gt": np.asarray(info["num_lidar_pts"]),
    }


def _check_features(dataset_cfg: ConfigDict) -> None:
    """Refuse a ``src_feature_list`` that is not what the frames hold."""
    encoding = required(dataset_cfg, "POINT_FEATURE_ENCODING", "DATA_CONFIG")
    stored = required(encoding, "src_feature_list", "DATA_CONFIG.POINT_FEATURE_ENCODING")
    if tuple(stored) != FEATURES:
        raise ConfigError(
            "DATA_CONFIG.POINT_FEATURE_ENCODING.src_feature_list: the points of nuScenes have "
            f"{list(FEATURES)}, found {list(stored)}"
        )
