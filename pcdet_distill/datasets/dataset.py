"""What every dataset shares: from a raw frame to an item, from items to a batch.

An item's randomness comes from its own generator, made from (seed, epoch, index). So an item is the same whichever
process makes it, and another one in the next epoch.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import required
from ..errors import ConfigError, DataError
from .augmentor import DataAugmentor
from .collate import collate_items
from .processor import DataProcessor
from .spec import DataSpec
from .view import PointView

MAX_DRAWS = 1000  # frames tried for one training item before giving up
Item = dict[str, Any]


def item_random_state(seed: int, epoch: int, index: int) -> np.random.RandomState:
    """The generator of one item: well mixed, so that neighbouring numbers do not give similar streams."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, epoch, index])))


class DatasetTemplate(torch.utils.data.Dataset):
    """Base of all datasets; a subclass says how many frames there are and loads one.

    Args:
        dataset_cfg: the DATA_CONFIG block.
        class_names: classes of the experiment; label 1 is the first.
        training: items are augmented and frames without objects are passed over.
        root_path: dataset folder.
        seed: of all randomness of the items.
        skip_bad_frames: log an unreadable frame and take another one instead of stopping.
    """

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
        super().__init__()
        self.dataset_cfg = dataset_cfg
        self.training = training
        self.root_path = Path(root_path or required(dataset_cfg, "DATA_PATH", "DATA_CONFIG"))
        self.logger = logger or logging.getLogger(__name__)
        self.seed, self.skip_bad_frames = seed, skip_bad_frames
        self.spec = DataSpec.from_config(dataset_cfg, class_names)
        self.class_names = self.spec.class_names
        self.point_cloud_range = self.spec.point_cloud_range
        self.point_feature_encoder = self.spec.point_feature_encoder
        self.voxel_size, self.grid_size = self.spec.voxel_size, self.spec.grid_size
        self.depth_downsample_factor = None
        self.data_augmentor = None
        if training and dataset_cfg.get("DATA_AUGMENTOR"):
            self.data_augmentor = DataAugmentor(
                self.root_path, dataset_cfg["DATA_AUGMENTOR"], class_names, self.logger
            )
        self.data_processor = DataProcessor(
            dataset_cfg["DATA_PROCESSOR"],
            self.point_cloud_range,
            training,
            self.point_feature_encoder.num_point_features,
        )
        self.views: dict[str, PointView] = {}
        self.takes_unlabelled = False
        self.repeats = 1
        self.epochs_per_draw = 1
        self._epoch = torch.zeros(
            1, dtype=torch.int64
        ).share_memory_()  # worker processes look at the same number
        self._disabled: frozenset[str] = frozenset()
        self._disabled_from_epoch = 0
        self._warned: set[str] = set()

    @property
    def mode(self) -> str:
        """``train`` or ``test``: which entry of a pair in the config holds."""
        return "train" if self.training else "test"

    @property
    def epoch(self) -> int:
        """The epoch whose augmentation is drawn."""
        return int(self._epoch.item())

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins; reaches worker processes too."""
        self._epoch.fill_(epoch)

    def disable_augmentations(self, names: Collection[str], from_epoch: int) -> None:
        """Leave out these augmentations from an epoch on; to be called before the loader starts its workers."""
        self._disabled, self._disabled_from_epoch = frozenset(names), from_epoch

    def add_view(self, name: str, view: PointView) -> None:
        """Let every item hold ``view`` of its points as entry ``name``; to be called before the loader starts."""
        self.views[name] = view

    def take_unlabelled(self) -> None:
        """Train on frames without labels too, as frames without objects; to be called before the loader starts.

        For trainings that label them on the way. No objects are pasted into such a frame, as nobody knows where it is
        free.
        """
        self.takes_unlabelled = True

    def repeat_draws(self, epochs: int) -> None:
        """Show the same augmented frames for ``epochs`` epochs in a row; to be called before the loader starts."""
        if self.repeats > 1:
            raise ConfigError(
                "--merge_all_iters_to_one_epoch makes one epoch of all, so no frame can come as it was "
                "in another one; leave it or DISTILL.TEACHER.REUSE out"
            )
        self.epochs_per_draw = epochs

    def merge_all_iters_to_one_epoch(self, epochs: int) -> None:
        """Make one long epoch of ``epochs`` passes."""
        self.repeats = max(1, epochs)

    @property
    def num_frames(self) -> int:
        """Frames of the split."""
        return 0

    def load_frame(self, index: int) -> Item:
        """The raw item of frame ``index``: points, frame_id and, where labelled, gt_boxes and gt_names."""
        raise DataError(f"{type(self).__name__} cannot load frame {index}")

    def frame_name(self, index: int) -> str:
        """What frame ``index`` is called in messages."""
        return str(index)

    def __len__(self) -> int:
        return self.num_frames * self.repeats

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        random = item_random_state(self.seed, self.epoch // self.epochs_per_draw, index)
        frame = index % self.num_frames
        for _ in range(MAX_DRAWS):
            item = self._try_frame(frame, random)
            if item is not None:
                return item
            frame = int(random.randint(self.num_frames))
        raise DataError(
            f"{self.root_path}: {MAX_DRAWS} frames drawn in a row were unreadable or held no "
            f"{' / '.join(self.class_names)} inside the range"
        )

    def _try_frame(self, frame: int, random: np.random.RandomState) -> Item | None:
        """The item, or None when another frame is to be taken."""
        try:
            return self.prepare_data(self.load_frame(frame), random)
        except DataError as error:
            if not self.skip_bad_frames:
                raise DataError(f"frame {self.frame_name(frame)}: {error}") from None
            if self.frame_name(frame) not in self._warned:
                self._warned.add(self.frame_name(frame))
                self.logger.warning("frame %s skipped: %s", self.frame_name(frame), error)
            return None

    def prepare_data(self, data_dict: Item, random: np.random.RandomState) -> Item | None:
        """Augment, choose the classes, process. None: a training item on which no object is left."""
        data_dict.setdefault("lidar_aug_matrix", np.eye(4))
        labelled = "gt_boxes" in data_dict
        if self.training:
            if not labelled:
                self._add_no_labels(data_dict)
            if self.data_augmentor is not None:
                data_dict["gt_boxes_mask"] = np.isin(data_dict["gt_names"], self.class_names)
                skip = self._disabled if self.epoch >= self._disabled_from_epoch else frozenset()
                skip = skip if labelled else skip | {"gt_sampling"}
                data_dict = self.data_augmentor.forward(data_dict, random, skip)
        if "gt_boxes" in data_dict:
            self._add_labels(data_dict)
        data_dict.update(
            {name: view.make(data_dict["points"], random) for name, view in self.views.items()}
        )
        data_dict = self.point_feature_encoder.forward(data_dict)
        data_dict = self.data_processor.forward(data_dict, random)
        for key in ("gt_names", "road_plane"):
            data_dict.pop(key, None)
        if self.training and labelled and len(data_dict["gt_boxes"]) == 0:
            return None
        return data_dict

    def _add_no_labels(self, data_dict: Item) -> None:
        """The labels of an unlabelled frame: none."""
        if not self.takes_unlabelled:
            raise DataError(
                "it has no labels, so it cannot be trained on; a distillation with a TeacherLabels term "
                "can be"
            )
        data_dict.update(gt_boxes=np.zeros((0, 7), np.float32), gt_names=np.zeros(0, dtype=str))

    def _add_labels(self, data_dict: Item) -> None:
        """Keep the boxes of the experiment's classes; ``gt_boxes`` becomes (M, 8) float32 with the label last."""
        labels = np.array(
            [
                self.class_names.index(name) + 1 if name in self.class_names else 0
                for name in data_dict["gt_names"]
            ],
            dtype=np.float32,
        )
        boxes = np.concatenate([data_dict["gt_boxes"], labels[:, None]], axis=1).astype(np.float32)
        data_dict["gt_boxes"] = boxes[labels > 0]

    @staticmethod
    def collate_batch(batch_list: Sequence[Item], _unused: bool = False) -> Item:
        """The batch_dict of these items."""
        return collate_items(batch_list)

    def generate_prediction_dicts(
        self,
        batch_dict: Item,
        pred_dicts: Sequence[Mapping[str, torch.Tensor]],
        class_names: Sequence[str],
        output_path: Path | None = None,
    ) -> list[Item]:
        """Detections in the dataset's own format, one dict a frame."""
        raise ConfigError(f"{type(self).__name__} has no detection format")

    def evaluation(
        self, det_annos: Sequence[Item], class_names: Sequence[str], **kwargs: Any
    ) -> tuple[str, Item]:
        """The text and the numbers of the dataset's own evaluation."""
        raise ConfigError(f"{type(self).__name__} has no evaluation")
