"""Argoverse 2's sensor data set as a dataset, under OpenPCDet's name and yaml keys."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...commands import command_text
from ...config import Argo2Options, LidarEvalOptions
from ...errors import DataError
from ...evaluation.argoverse2 import CATEGORIES, Argoverse2Protocol, argoverse2_eval
from ...evaluation.lidar import lidar_eval
from ...evaluation.result import EvaluationResult
from ...types import BatchDict, ConfigDict
from ..info_dataset import InfoDataset
from ..info_structures import ARGOVERSE2_INFO
from ..item import Item
from .detections import write_detections
from .infos import boxes_of
from .sweeps import check_features, read_frame


class Argo2Dataset(InfoDataset):
    """Sweeps in the vehicle's frame: x forward, y left, z up, the ground is near z = 0.

    Attributes:
        argo2_infos: one info dict a frame, made by ``pcdet-distill data argoverse2`` or OpenPCDet.
    """

    info_structure = ARGOVERSE2_INFO
    infos_are = "Argoverse 2 infos"
    an_info_is = "Argoverse 2 info"

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
        self.options = Argo2Options.from_config(dataset_cfg)
        super().__init__(
            dataset_cfg,
            class_names,
            training,
            root_path,
            logger,
            seed=seed,
            skip_bad_frames=skip_bad_frames,
        )
        check_features(self.point_feature_encoder.src_feature_list)
        self.lidar_evaluation: LidarEvalOptions | None = None
        if dataset_cfg.get("EVALUATION") is not None:
            self.lidar_evaluation = LidarEvalOptions.from_config(dataset_cfg, class_names)
        self.argo2_infos = self.load_infos()
        self.logger.info("Argoverse 2: %d frames of %s", len(self.argo2_infos), self.root_path)

    @property
    def how_to_make_files(self) -> str:
        """The command that makes info files and database."""
        return f"make it with '{command_text('data', 'argoverse2', 'CFG')}'"

    def problem_of_info(self, info: Item) -> str:
        """Whether it lists fewer sweeps than are read."""
        listed = info.get("max_sweeps") or 1
        if self.options.max_sweeps <= listed:
            return ""
        return (
            f"it lists {listed} sweeps a frame, but DATA_CONFIG.MAX_SWEEPS is "
            f"{self.options.max_sweeps}"
        )

    def labelled_names(self, info: Item) -> Iterable[str]:
        """The classes of the objects of a frame."""
        return info["annos"]["name"] if _is_labelled(info) else ()

    @property
    def num_frames(self) -> int:
        """Frames of the split."""
        return len(self.argo2_infos)

    def frame_name(self, index: int) -> str:
        """OpenPCDet's number of a frame: the split, the log, the sweep."""
        return str(self.argo2_infos[index]["sample_idx"])

    def load_frame(self, index: int) -> Item:
        """Points of MAX_SWEEPS sweeps and, where labelled, all boxes with points."""
        info = self.argo2_infos[index]
        features = self.point_feature_encoder.src_feature_list
        item: Item = {
            "frame_id": self.frame_name(index),
            "points": read_frame(self.root_path, info, features, self.options.max_sweeps),
        }
        if _is_labelled(info):
            item["gt_names"] = np.asarray(info["annos"]["name"], dtype=str)
            item["gt_boxes"] = boxes_of(info["annos"])
        return item

    def generate_prediction_dicts(
        self,
        batch_dict: BatchDict,
        pred_dicts: Sequence[Mapping[str, torch.Tensor]],
        class_names: Sequence[str],
        output_path: Path | None = None,
    ) -> list[Item]:
        """One dict of detections a frame; with ``output_path`` also a feather file for each."""
        annos = super().generate_prediction_dicts(batch_dict, pred_dicts, class_names)
        if output_path is not None:
            uuids = {str(info["sample_idx"]): info["uuid"] for info in self.argo2_infos}
            for anno in annos:
                write_detections(Path(output_path), uuids[anno["frame_id"]], anno)
        return annos

    def evaluate(self, det_annos: Sequence[Item]) -> EvaluationResult:
        """Argoverse 2's metric; with DATA_CONFIG.EVALUATION the AP in LiDAR coordinates.

        Frames are paired by their number. Of a frame that comes twice the first one counts.
        """
        return self._result(det_annos, self.class_names)

    def evaluation(
        self, det_annos: Sequence[Item], class_names: Sequence[str], **kwargs: Any
    ) -> tuple[str, dict[str, float]]:
        """OpenPCDet's form: the text and the dict of numbers."""
        result = self._result(det_annos, class_names)
        return result.text, dict(result.ap_dict)

    def _result(self, det_annos: Sequence[Item], class_names: Sequence[str]) -> EvaluationResult:
        by_frame = {anno["frame_id"]: anno for anno in self.lidar_labels()}
        chosen, detections = self.pair_with_labels(by_frame, det_annos)
        if self.lidar_evaluation is not None:
            return lidar_eval(chosen, detections, class_names, self.lidar_evaluation)
        others = [name for name in class_names if name not in CATEGORIES]
        if others:
            self.logger.warning(
                "%s: no category of Argoverse 2's benchmark, evaluated all the same",
                ", ".join(others),
            )
        protocol = Argoverse2Protocol(max_range_m=self.options.evaluate_range)
        return argoverse2_eval(chosen, detections, class_names, protocol)

    def lidar_labels(self) -> list[Item]:
        """The labels of each frame."""
        if not all(map(_is_labelled, self.argo2_infos)):
            raise DataError(f"{self.root_path}: the split has no labels, so it cannot be evaluated")
        labels = []
        for info in self.argo2_infos:
            annos = info["annos"]
            labels.append(
                {
                    "frame_id": str(info["sample_idx"]),
                    "name": np.asarray(annos["name"], dtype=str),
                    "gt_boxes_lidar": boxes_of(annos),
                    "num_points_in_gt": np.asarray(annos["num_points_in_gt"]),
                }
            )
        return labels


def _is_labelled(info: Mapping[str, Any]) -> bool:
    """OpenPCDet writes None for every label of a test frame."""
    return info.get("annos", {}).get("name") is not None
