"""The dataset contract: frames become items, items become batches, detections become an evaluation.

A dataset of your own subclasses ``DatasetTemplate`` and defines

* ``num_frames`` and ``load_frame(index)``: how many frames there are, and the raw item of one;
* ``frame_name(index)``: the name of a frame in messages;
* ``box_fields``: the columns of its boxes, when they carry velocities;
* ``num_items`` and ``frame_of_item(index)``: when a pass shows some frames more often than others;
* ``evaluate(det_annos)``: its benchmark, when detections are to be scored.

``docs/extending.md`` writes one step by step.

Random numbers of an item come from a generator made from (seed, epoch, index). So an item does not
depend on the process that makes it, and differs in the next epoch.
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
from ..evaluation.result import EvaluationResult, PlainResult
from ..types import ConfigDict
from .augmentor import HOW_TO_MAKE_FILES, ON_DEVICE, DataAugmentor
from .box_fields import BOX_FIELDS, check_box_fields
from .collate import collate_items
from .detections import lidar_detections
from .item import Item
from .predicted import PREDICTED, PredictedScene, PredictionStore
from .processor import CloudColumns, DataProcessor
from .spec import DataSpec
from .view import PointView

MAX_DRAWS = 1000  # frames tried for one training item before giving up
PASTING = frozenset({"gt_sampling"})  # augmentations that need to know where a frame is free


def item_random_state(seed: int, epoch: int, index: int) -> np.random.RandomState:
    """The generator of one item."""
    # SeedSequence mixes the numbers: RandomState seeded with neighbours would give related streams.
    sequence = np.random.SeedSequence([seed, epoch, index])
    return np.random.RandomState(np.random.MT19937(sequence))


class DatasetTemplate(torch.utils.data.Dataset):
    """Base class of all datasets.

    Args:
        dataset_cfg: the DATA_CONFIG block.
        class_names: classes of the experiment; label 1 is the first.
        training: augment the items, and replace frames without objects by other frames.
        root_path: folder of the dataset.
        logger: receives the number of frames and a line for each skipped frame.
        seed: seed of all random numbers of the items.
        skip_bad_frames: log an unreadable frame and take another one instead of stopping.

    Attributes:
        point_folders: the sensors whose points a frame holds, for steps that select some; set
            like ``box_fields``.
        box_fields: names of the columns of ``gt_boxes`` and of detected boxes. A subclass that
            decides by its config sets it before it calls this constructor.
    """

    box_fields: Sequence[str] = BOX_FIELDS
    point_folders: Sequence[str] = ()

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
        super().__init__()
        check_box_fields(self.box_fields, type(self).__name__)
        self.dataset_cfg = dataset_cfg
        self.training = training
        self.root_path = Path(root_path or required(dataset_cfg, "DATA_PATH", "DATA_CONFIG"))
        self.logger = logger or logging.getLogger(__name__)
        self.seed = seed
        self.skip_bad_frames = skip_bad_frames
        # OpenPCDet's networks read these attributes from the dataset that they are built for.
        self.spec = DataSpec.from_config(dataset_cfg, class_names)
        self.class_names = self.spec.class_names
        self.point_cloud_range = self.spec.point_cloud_range
        self.point_feature_encoder = self.spec.point_feature_encoder
        self.voxel_size = self.spec.voxel_size
        self.grid_size = self.spec.grid_size
        self.depth_downsample_factor = None
        self.columns = CloudColumns(self.point_feature_encoder.src_feature_list, self.point_folders)
        self.data_processor = DataProcessor(
            dataset_cfg["DATA_PROCESSOR"],
            self.point_cloud_range,
            training,
            self.point_feature_encoder.num_point_features,
            self.columns,
        )
        self.data_augmentor = self._build_augmentor() if training else None
        if self.data_augmentor is not None and self.data_augmentor.on_device:
            self.data_processor.check_points_may_move_later(ON_DEVICE)
        self.views: dict[str, PointView] = {}
        self.predictions: PredictionStore | None = None
        self.takes_unlabelled = False
        self.repeats = 1
        self.epochs_per_draw = 1
        # Shared memory, so that loader workers that are already running read the new epoch too.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._disabled: frozenset[str] = frozenset()
        self._disabled_from_epoch = 0
        self._warned: set[str] = set()

    def _build_augmentor(self) -> DataAugmentor | None:
        block = self.dataset_cfg.get("DATA_AUGMENTOR")
        if not block:
            return None
        return DataAugmentor(
            self.root_path,
            block,
            self.class_names,
            self.logger,
            how_to_make_files=self.how_to_make_files,
            columns=self.columns,
            select=self.data_processor.select if self.data_processor.selections else None,
        )

    # ---- What a subclass defines ----

    @property
    def num_frames(self) -> int:
        """Frames of the split."""
        return 0

    @property
    def num_items(self) -> int:
        """Items of one pass over the split; as many as frames, unless some come more often."""
        return self.num_frames

    def frame_of_item(self, index: int) -> int:
        """Number of the frame that item ``index`` of a pass shows."""
        return index

    @property
    def how_to_make_files(self) -> str:
        """End of the messages about missing files: how they are made."""
        return HOW_TO_MAKE_FILES

    def load_frame(self, index: int) -> Item:
        """The raw item of frame ``index``.

        Returns:
            ``points`` (N, C) float32 with the columns of ``src_feature_list``, and ``frame_id``. A
            labelled frame also has ``gt_boxes`` (M, len(box_fields)) float32 and ``gt_names`` (M,).
            Further entries reach the batch.
        """
        raise DataError(f"{type(self).__name__} cannot load frame {index}")

    def draw_frame(self, index: int, random: np.random.RandomState) -> Item:
        """``load_frame`` where a part of the frame is drawn, such as the order of its sweeps."""
        return self.load_frame(index)

    def frame_with_all_labels(self, index: int) -> Item:
        """``load_frame`` with the labelled boxes too that are left out of training."""
        return self.load_frame(index)

    def whole_frame(self, index: int) -> Item:
        """``load_frame`` with the points too that training leaves out."""
        return self.load_frame(index)

    def recorded_size(self, index: int) -> tuple[Path, int] | None:
        """The point file of frame ``index``, and its bytes when its info was made, if known."""
        return None

    def recorded_sizes(self, index: int) -> dict[Path, int]:
        """The same of all its point files, as of sweeps; those whose size is known."""
        recorded = self.recorded_size(index)
        return {} if recorded is None else dict([recorded])

    def frame_name(self, index: int) -> str:
        """Name of frame ``index`` in messages."""
        return str(index)

    def generate_prediction_dicts(
        self,
        batch_dict: Item,
        pred_dicts: Sequence[Mapping[str, torch.Tensor]],
        class_names: Sequence[str],
        output_path: Path | None = None,
    ) -> list[Item]:
        """Detections of a batch, one dict a frame, in the format that ``evaluate`` reads.

        Args:
            pred_dicts: for each frame ``pred_boxes`` (K, len(box_fields)), ``pred_scores`` (K,) and
                ``pred_labels`` (K,) from 1.
            output_path: folder for the text files of a benchmark that has some.
        """
        return [
            lidar_detections(prediction, str(frame_id), class_names, len(self.box_fields))
            for frame_id, prediction in zip(batch_dict["frame_id"], pred_dicts)
        ]

    def evaluate(self, det_annos: Sequence[Item]) -> EvaluationResult:
        """Score the detections of this split.

        A dataset that only has OpenPCDet's ``evaluation`` is scored by that.

        Args:
            det_annos: one dict a frame, as ``generate_prediction_dicts`` makes it.

        Raises:
            DataError: the split has no labels.
        """
        text, ap_dict = self.evaluation(det_annos, self.class_names)
        return PlainResult(text, ap_dict)

    def lidar_labels(self) -> list[Item]:
        """The labels of every frame, as ``lidar_eval`` reads them, for the report's frames.

        Empty where a dataset does not tell them; the report then has no frames.

        Raises:
            DataError: the split has no labels.
        """
        return []

    def evaluation(
        self, det_annos: Sequence[Item], class_names: Sequence[str], **kwargs: Any
    ) -> tuple[str, dict[str, float]]:
        """OpenPCDet's form of an evaluation: the text and the dict of numbers."""
        raise ConfigError(
            f"{type(self).__name__} has no evaluation; expected a method evaluate(det_annos)"
        )

    # ---- What a training may set before the loader starts its workers ----

    def disable_augmentations(self, names: Collection[str], from_epoch: int) -> None:
        """Leave out the augmentations ``names`` from epoch ``from_epoch`` on."""
        self._disabled = frozenset(names)
        self._disabled_from_epoch = from_epoch

    def add_view(self, name: str, view: PointView) -> None:
        """Process the points of every item for a second model too, as entry ``name``."""
        if self.data_augmentor is not None and self.data_augmentor.on_device:
            raise ConfigError(
                f"{ON_DEVICE}: the {name} reads the points in a form of its own, which the workers "
                f"make after the augmentation; leave {ON_DEVICE} out"
            )
        self.views[name] = view

    def check_motions(self) -> None:
        """Refuse an augmentation that does not say how it moves boxes.

        This is for trainings whose items bring a teacher's stored predictions along.
        """
        if self.data_augmentor is not None:
            self.data_augmentor.check_motions()

    def add_predictions(self, store: PredictionStore) -> None:
        """Let every item bring the teacher's stored predictions, moved with its augmentation."""
        if self.data_augmentor is not None:
            self.data_augmentor.add_predictions(store)
        self.predictions = store

    def take_unlabelled(self) -> None:
        """Accept frames without labels in training, as frames without objects.

        This is for trainings that label frames themselves. ``gt_sampling`` skips such a frame,
        because it must know where the frame is free.
        """
        self.takes_unlabelled = True

    def repeat_draws(self, epochs: int) -> None:
        """Repeat the same order and augmentation for ``epochs`` epochs in a row.

        This is for trainings that keep what they computed for an item, to use it again.
        """
        if self.repeats > 1:
            raise ConfigError(
                "--merge_all_iters_to_one_epoch makes one epoch of all, so the augmented frames of "
                "one epoch cannot be repeated in the next; leave it out"
            )
        self.epochs_per_draw = epochs

    def merge_all_iters_to_one_epoch(self, epochs: int) -> None:
        """Make one long epoch of ``epochs`` passes over the frames."""
        self.repeats = max(1, epochs)

    # ---- From a frame to an item ----

    @property
    def mode(self) -> str:
        """``train`` or ``test``: which value of a ``{train, test}`` pair in the config applies."""
        return "train" if self.training else "test"

    @property
    def epoch(self) -> int:
        """The epoch whose augmentation is drawn."""
        return int(self._epoch.item())

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, in running worker processes too."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return self.num_items * self.repeats

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        random = item_random_state(self.seed, self.epoch // self.epochs_per_draw, index)
        frame = self.frame_of_item(index % self.num_items)
        for _ in range(MAX_DRAWS):
            item = self._try_frame(frame, random)
            if item is not None:
                return item
            frame = self.frame_of_item(int(random.randint(self.num_items)))
        raise DataError(
            f"{self.root_path}: {MAX_DRAWS} frames drawn in a row were unreadable or held no "
            f"{' / '.join(self.class_names)} inside the range"
        )

    def _try_frame(self, frame: int, random: np.random.RandomState) -> Item | None:
        """The item, or None when another frame has to replace it."""
        name = self.frame_name(frame)
        try:
            item = self.draw_frame(frame, random)
            if self.predictions is not None:
                item[PREDICTED] = PredictedScene(self.predictions.of_frame(name))
            return self.prepare_data(item, random)
        except DataError as error:
            self._refuse_or_skip(name, error)
            return None

    def recorded_frame(self, frame: int) -> Item | None:
        """The raw item with all labels, not augmented; None for an unreadable frame, if skipped."""
        try:
            return self.frame_with_all_labels(frame)
        except DataError as error:
            self._refuse_or_skip(self.frame_name(frame), error)
            return None

    def _refuse_or_skip(self, name: str, error: DataError) -> None:
        """Raise the error with the name of its frame, or log it once if bad frames are skipped."""
        if not self.skip_bad_frames:
            raise DataError(f"frame {name}: {error}") from None
        if name not in self._warned:
            self._warned.add(name)
            self.logger.warning("frame %s skipped: %s", name, error)

    def prepare_data(self, data_dict: Item, random: np.random.RandomState) -> Item | None:
        """Augment, keep the boxes of the classes, process the points.

        Returns:
            the item; None for a training item on which no object is left.
        """
        data_dict.setdefault("lidar_aug_matrix", np.eye(4))
        labelled = "gt_boxes" in data_dict
        if labelled:
            self._check_box_width(data_dict["gt_boxes"])
        if self.training:
            if not labelled:
                self._add_empty_labels(data_dict)
            if self.takes_unlabelled:
                data_dict["is_labelled"] = np.float32(labelled)
            data_dict = self._augment(data_dict, random, labelled)
        if PREDICTED in data_dict:
            data_dict[PREDICTED] = data_dict[PREDICTED].finish(data_dict["lidar_aug_matrix"])
        if "gt_boxes" in data_dict:
            self._add_labels(data_dict)
        for name, view in self.views.items():
            data_dict[name] = view.make(data_dict["points"], random)
        data_dict["points"] = self.data_processor.select(data_dict["points"])
        data_dict = self.point_feature_encoder.forward(data_dict)
        data_dict = self.data_processor.forward(data_dict, random)
        for key in ("gt_names", "road_plane"):
            data_dict.pop(key, None)
        if self.training and labelled and len(data_dict["gt_boxes"]) == 0:
            return None
        return data_dict

    def _augment(self, data_dict: Item, random: np.random.RandomState, labelled: bool) -> Item:
        if self.data_augmentor is None:
            return data_dict
        data_dict["gt_boxes_mask"] = np.isin(data_dict["gt_names"], self.class_names)
        skip: frozenset[str] = frozenset()
        if self.epoch >= self._disabled_from_epoch:
            skip = self._disabled
        if not labelled:
            skip = skip | PASTING
        return self.data_augmentor.forward(data_dict, random, skip)

    def _check_box_width(self, boxes: np.ndarray) -> None:
        if boxes.shape[1] != len(self.box_fields):
            raise DataError(
                f"its boxes have {boxes.shape[1]} columns, expected {len(self.box_fields)}: "
                f"{', '.join(self.box_fields)}"
            )

    def _add_empty_labels(self, data_dict: Item) -> None:
        """Give an unlabelled frame a list of no boxes."""
        if not self.takes_unlabelled:
            raise DataError(
                "it has no labels, so it cannot be trained on; expected labels, or a training that "
                "labels the frames itself"
            )
        data_dict["gt_boxes"] = np.zeros((0, len(self.box_fields)), np.float32)
        data_dict["gt_names"] = np.zeros(0, dtype=str)

    def _add_labels(self, data_dict: Item) -> None:
        """Keep the boxes of the experiment's classes, with the label as float32 last column."""
        label_of = {name: label for label, name in enumerate(self.class_names, start=1)}
        labels = np.array(
            [label_of.get(name, 0) for name in data_dict["gt_names"]], dtype=np.float32
        )
        boxes = np.concatenate([data_dict["gt_boxes"], labels[:, None]], axis=1).astype(np.float32)
        data_dict["gt_boxes"] = boxes[labels > 0]

    @staticmethod
    def collate_batch(batch_list: Sequence[Item], _unused: bool = False) -> Item:
        """The batch_dict of these items."""
        return collate_items(batch_list)
