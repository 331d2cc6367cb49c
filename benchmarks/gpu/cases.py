"""The detectors of the table, their simulated batches, and one step of each."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.gpu.precisions import Precision, computing_in, grad_scaler
from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import find_file, load_config
from pcdet_distill.datasets import DatasetTemplate, build_dataset
from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos
from pcdet_distill.datasets.kitti.road_planes import create_road_planes
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.datasets.synthetic import create_synthetic_kitti
from pcdet_distill.engine.build import build_trained_model
from pcdet_distill.models import build_network, load_data_to_device
from pcdet_distill.models.dense_pass import compile_dense_part, dense_modules
from pcdet_distill.models.device import prepare_for_device
from pcdet_distill.models.trainable import OneProcess
from pcdet_distill.ops.accelerated import spconv_adapter
from pcdet_distill.ops.sparse_conv import SparseConvolution
from pcdet_distill.types import BatchDict, ConfigDict

ROOT = Path(__file__).resolve().parents[2]
LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Case:
    """A detector of the table.

    Attributes:
        name: of the row.
        yaml: below cfgs/.
        two_stages: whether a second stage refines proposals.
        student_of: name of its teacher's row; empty for a teacher.
    """

    name: str
    yaml: str
    two_stages: bool = False
    student_of: str = ""


CASES = (
    Case("PointPillars", "kitti_models/pointpillar.yaml"),
    Case("SECOND", "kitti_models/second.yaml"),
    Case("SECOND, several heads", "kitti_models/second_multihead.yaml"),
    Case("CenterPoint, pillars", "kitti_models/centerpoint_pillar.yaml"),
    Case("CenterPoint, voxels", "kitti_models/centerpoint_voxel.yaml"),
    Case("PillarNet", "kitti_models/pillarnet.yaml"),
    Case("PV-RCNN", "kitti_models/pv_rcnn.yaml", two_stages=True),
    Case(
        "PV-RCNN++",
        "kitti_models/pv_rcnn_plusplus_reproduced_by_community.yaml",
        two_stages=True,
    ),
    Case("Voxel R-CNN, cars", "kitti_models/voxel_rcnn_car.yaml", two_stages=True),
    Case("Part-A2", "kitti_models/PartA2.yaml", two_stages=True),
    Case("Part-A2, anchor-free", "kitti_models/PartA2_free.yaml", two_stages=True),
    Case("SECOND-IoU", "kitti_models/second_iou.yaml", two_stages=True),
    Case("PointRCNN", "kitti_models/pointrcnn.yaml", two_stages=True),
    Case("PointRCNN-IoU", "kitti_models/pointrcnn_iou.yaml", two_stages=True),
    Case("PointPillars 4x", "kitti_distill/pointpillar_4x.yaml", student_of="PointPillars"),
    Case("PointPillars 16x", "kitti_distill/pointpillar_16x.yaml", student_of="PointPillars"),
    Case("SECOND 4x", "kitti_distill/second_4x.yaml", student_of="SECOND"),
    Case("PointRCNN 4x", "kitti_distill/pointrcnn_4x.yaml", True, student_of="PointRCNN"),
)

# Recipes of the distilled step; each is compared with a step of its student alone.
RECIPES = (
    "kitti_distill/pointpillar_4x_logitbox.yaml",
    "kitti_distill/pointpillar_4x_pointdistiller.yaml",
    "kitti_distill/pointpillar_4x_pointdistiller_official.yaml",
    "kitti_distill/second_4x_pointdistiller.yaml",
    "kitti_distill/pointrcnn_8x_pointdistiller.yaml",
)

# For --tiny: the detectors and a recipe of the quickstart.
TINY_CASES = (
    Case("PointPillars", "synthetic/pointpillar_teacher.yaml"),
    Case("CenterPoint, pillars", "synthetic/centerpoint_pillar.yaml"),
    Case("PointPillars 4x", "synthetic/pointpillar_student.yaml", student_of="PointPillars"),
)
TINY_RECIPES = ("synthetic/recipes/logitbox.yaml",)


def simulate_kitti(folder: Path, frames: int) -> None:
    """A KITTI folder with road planes, info files and a database of objects."""
    create_synthetic_kitti(folder, frames + 1, 0, val_frames=1, workers=1, progress=False)
    create_road_planes(folder, show_progress=False)
    create_kitti_infos(folder, 1)


def load_case_config(yaml: str, data: Path) -> ConfigDict:
    """The config of a yaml below cfgs/ on the simulated frames."""
    return load_config(ROOT / "cfgs" / yaml, ["DATA_CONFIG.DATA_PATH", str(data)])


class Bench:
    """A model with its batches on a device.

    Args:
        cfg: the whole config; with a DISTILL block the teacher runs too, with fresh weights.
        device: where it runs.
        batch_size: frames of a training step.
        folder: for the fresh weights of a teacher.
    """

    def __init__(
        self, cfg: ConfigDict, device: torch.device, batch_size: int, folder: Path
    ) -> None:
        self.cfg = cfg
        self.device = device
        self.batch_size = batch_size
        torch.manual_seed(0)
        model = self._build(folder)
        self.model: nn.Module = prepare_for_device(model, device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE)

    def _build(self, folder: Path) -> nn.Module:
        if not self.cfg.get("DISTILL"):
            spec = DataSpec.from_config(self.cfg.DATA_CONFIG, self.cfg.CLASS_NAMES)
            return build_network(self.cfg.MODEL, len(self.cfg.CLASS_NAMES), spec)
        logger = logging.getLogger("silent")
        teacher_file = folder / "teacher.pth"
        save_fresh_teacher(self.cfg, teacher_file)
        model = build_trained_model(
            self.cfg, self.dataset(True), teacher_ckpt=str(teacher_file), logger=logger
        )
        model.prepare_data(OneProcess(), logger)
        return model

    def dataset(self, training: bool) -> DatasetTemplate:
        """The training frames with augmentation, or the held out ones."""
        return build_dataset(
            self.cfg.DATA_CONFIG,
            self.cfg.CLASS_NAMES,
            root_dir=self.cfg.ROOT_DIR,
            training=training,
        )

    @cached_property
    def training_batch(self) -> BatchDict:
        """Augmented frames on the device."""
        return self._batch(self.dataset(True), self.batch_size)

    @cached_property
    def eval_batch(self) -> BatchDict:
        """One held-out frame on the device."""
        return self._batch(self.dataset(False), 1)

    def _batch(self, dataset: DatasetTemplate, count: int) -> BatchDict:
        batch = dataset.collate_batch([dataset[index % len(dataset)] for index in range(count)])
        load_data_to_device(batch, self.device)
        return batch

    @cached_property
    def compiled(self) -> nn.Module | None:
        """A copy of the detector with its dense part compiled; None where it has none."""
        if not dense_modules(self.model):
            return None
        model = copy.deepcopy(self.model).eval()
        compile_dense_part(model, self.device)
        return model

    @property
    def has_sparse_convolutions(self) -> bool:
        """Whether spconv can run some of its layers."""
        return any(isinstance(module, SparseConvolution) for module in self.model.modules())

    def evaluation(
        self, precision: Precision, model: nn.Module | None = None
    ) -> Callable[[], None]:
        """One frame through ``model``, by default the detector: from voxels to final boxes."""
        model = self.model if model is None else model
        model.eval()

        def run() -> None:
            with torch.no_grad(), computing_in(precision, self.device):
                model(dict(self.eval_batch))

        return run

    def training_step(self, precision: Precision) -> Callable[[], None]:
        """Forward, backward and AdamW."""
        self.model.train()
        scaler = grad_scaler(precision, self.device)

        def run() -> None:
            self.optimizer.zero_grad(set_to_none=True)
            with computing_in(precision, self.device):
                loss: Tensor = self.model(dict(self.training_batch))[0]["loss"]
                scaler.scale(loss.mean()).backward()
            scaler.step(self.optimizer)
            scaler.update()

        return run


def without_spconv(call: Callable[[], None]) -> Callable[[], None]:
    """A call in which this package's operators convolve, though spconv is installed."""

    def run() -> None:
        library_for = spconv_adapter.library_for
        spconv_adapter.library_for = lambda tensor: None
        try:
            call()
        finally:
            spconv_adapter.library_for = library_for

    return run


def save_fresh_teacher(cfg: ConfigDict, file: Path) -> None:
    """A checkpoint of the recipe's teacher with fresh weights: the cost is that of trained ones."""
    teacher = load_config(find_file(cfg.DISTILL.TEACHER.CFG_FILE, near=ROOT))
    spec = DataSpec.from_config(teacher.DATA_CONFIG, teacher.CLASS_NAMES)
    network = build_network(teacher.MODEL, len(teacher.CLASS_NAMES), spec)
    save_checkpoint({"model_state": network.state_dict()}, file)
