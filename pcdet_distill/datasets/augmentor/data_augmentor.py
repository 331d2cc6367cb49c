"""The DATA_AUGMENTOR block: its list of augmentations, in order, without the disabled ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ...config import built_from, lookup, required
from ...errors import ConfigError
from ...ops.boxes import limit_period
from ...ops.scene_move import SceneMove
from ...types import ConfigDict
from ..item import Item
from ..predicted import PredictionStore
from ..processor.selection import CloudColumns
from .database_sampler import HOW_TO_MAKE_FILES, DataBaseSampler
from .thin_beams import RandomThinBeams
from .world import (
    WHERE,
    RandomWorldFlip,
    RandomWorldRotation,
    RandomWorldScaling,
    RandomWorldTranslation,
)

AUGMENTORS: dict[str, type] = {
    "gt_sampling": DataBaseSampler,
    "random_world_flip": RandomWorldFlip,
    "random_world_rotation": RandomWorldRotation,
    "random_world_scaling": RandomWorldScaling,
    "random_world_translation": RandomWorldTranslation,
    "thin_beams": RandomThinBeams,
}
ON_DEVICE = "DATA_CONFIG.DATA_AUGMENTOR.ON_DEVICE"
# What OpenPCDet's files write into a DISABLE_AUG_LIST that disables nothing.
PLACEHOLDER = "placeholder"
# With ON_DEVICE these move the points on the device.
MOVES_OF_THE_SCENE = (
    RandomWorldFlip,
    RandomWorldRotation,
    RandomWorldScaling,
    RandomWorldTranslation,
)
# What an augmentation may say of itself as its attribute ``motion``: how it moves the boxes of a
# scene. A teacher's stored predictions are moved likewise.
MOTIONS = {
    "scene": "it moves the whole scene, and multiplies its matrix onto lidar_aug_matrix",
    "paste": "it pastes objects, and their predictions with them",
    "none": "every object stays where it is",
}


class Augmentor(Protocol):
    """One augmentation: changes an item in place, with random numbers of that item alone.

    It may have an attribute ``motion``, a key of ``MOTIONS``: how it moves boxes. Without one it
    cannot be used where a teacher's stored predictions are moved with the scene.
    """

    def __call__(self, data_dict: Item, random: np.random.RandomState) -> None:
        """Augment ``data_dict``."""


class DataAugmentor:
    """Runs the augmentations of a config on training items.

    With ON_DEVICE in the block, flips, rotations, scalings and translations of the scene draw their
    numbers and move the boxes here. The points stay, and the item gets a ``scene_move`` by which
    they move on the device of the model.

    Args:
        root_path: dataset folder, where gt_sampling finds its database.
        augmentor_configs: the DATA_AUGMENTOR block, or only its AUG_CONFIG_LIST.
        class_names: classes that are trained.
        logger: receives the number of objects in the database.
        how_to_make_files: end of the message about a missing database.
        columns: of the points.
        select: the points that the model sees, of points (N, C); None where it sees all.
    """

    def __init__(
        self,
        root_path: Path,
        augmentor_configs: ConfigDict | Sequence[ConfigDict],
        class_names: Sequence[str],
        logger: logging.Logger | None = None,
        *,
        how_to_make_files: str = HOW_TO_MAKE_FILES,
        columns: CloudColumns | None = None,
        select: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self.columns = columns or CloudColumns()
        self.select = select
        self.root_path = root_path
        self.class_names = class_names
        self.logger = logger
        self.how_to_make_files = how_to_make_files
        if isinstance(augmentor_configs, Mapping):
            block = augmentor_configs
        else:
            block = {"AUG_CONFIG_LIST": augmentor_configs}
        self.on_device = bool(block.get("ON_DEVICE", False))
        disabled = block.get("DISABLE_AUG_LIST") or []
        for name in set(disabled) - {PLACEHOLDER}:
            lookup(AUGMENTORS, name, "DATA_CONFIG.DATA_AUGMENTOR.DISABLE_AUG_LIST")
        self.queue: list[tuple[str, Augmentor]] = []
        for config in required(block, "AUG_CONFIG_LIST", "DATA_CONFIG.DATA_AUGMENTOR"):
            name = required(config, "NAME", WHERE)
            augmentor_class = lookup(AUGMENTORS, name, f"{WHERE}.NAME")
            if name in disabled:
                continue
            with built_from(f"{WHERE}.{name}"):
                self.queue.append((name, self._build(augmentor_class, config)))
        if self.on_device:
            self._check_moves_come_last()

    def _check_moves_come_last(self) -> None:
        """Refuse an augmentation of the points that would follow a motion on the device."""
        moved_by = ""
        for name, augmentor in self.queue:
            if isinstance(augmentor, MOVES_OF_THE_SCENE):
                moved_by = name
            elif moved_by:
                raise ConfigError(
                    f"{ON_DEVICE}: {name} stands after {moved_by}, whose points move later, on the "
                    f"device; expected flips, rotations, scalings and translations last in "
                    "AUG_CONFIG_LIST"
                )

    def _build(self, augmentor_class: type, config: ConfigDict) -> Augmentor:
        if augmentor_class is RandomThinBeams:
            return RandomThinBeams(config, self.columns)
        if augmentor_class is not DataBaseSampler:
            return augmentor_class(config)
        return DataBaseSampler(
            self.root_path,
            config,
            self.class_names,
            self.logger,
            how_to_make_files=self.how_to_make_files,
            features=self.columns.features,
            select=self.select,
        )

    @property
    def needs_road_plane(self) -> bool:
        """Whether any item must come with the ground plane of its frame."""
        return any(
            isinstance(augmentor, DataBaseSampler) and augmentor.use_road_plane
            for _, augmentor in self.queue
        )

    def check_motions(self) -> None:
        """Refuse an augmentation that does not say how it moves boxes."""
        for name, augmentor in self.queue:
            motion = getattr(augmentor, "motion", None)
            if motion not in MOTIONS:
                raise ConfigError(
                    f"{WHERE}: {name} does not say how it moves boxes, so a teacher's stored "
                    f"predictions cannot follow it; expected an attribute motion of "
                    f"{type(augmentor).__name__}, one of {', '.join(MOTIONS)}"
                )

    def add_predictions(self, store: PredictionStore) -> None:
        """Let gt_sampling paste the teacher's predictions of each object with it."""
        for _, augmentor in self.queue:
            if isinstance(augmentor, DataBaseSampler):
                augmentor.add_predictions(store)

    def forward(
        self, data_dict: Item, random: np.random.RandomState, skip: Collection[str] = ()
    ) -> Item:
        """Augment one item in place.

        Args:
            data_dict: ``points`` (N, C), ``gt_boxes`` (M, 7 or 9), ``gt_names`` (M,), and
                ``gt_boxes_mask`` (M,) bool: boxes of other classes take part in the collision test
                of gt_sampling and are dropped after it.
            skip: names of augmentations to leave out.
        """
        data_dict.setdefault("lidar_aug_matrix", np.eye(4))
        if self.on_device:
            data_dict["scene_move"] = SceneMove(np.eye(4))
        for name, augmentor in self.queue:
            if name in skip:
                continue
            if self.on_device and isinstance(augmentor, MOVES_OF_THE_SCENE):
                _move_all_but_points(augmentor, data_dict, random)
            else:
                augmentor(data_dict, random)
        mask = data_dict.pop("gt_boxes_mask", None)
        if mask is not None:
            data_dict["gt_boxes"] = data_dict["gt_boxes"][mask]
            data_dict["gt_names"] = data_dict["gt_names"][mask]
        boxes = data_dict["gt_boxes"]
        boxes[:, 6] = limit_period(boxes[:, 6], offset=0.5, period=2 * np.pi)
        return data_dict


def _move_all_but_points(
    augmentor: Augmentor, data_dict: Item, random: np.random.RandomState
) -> None:
    """Let an augmentation draw and move the boxes; the points get its motion in ``scene_move``."""
    points = data_dict["points"]
    matrix_before = data_dict["lidar_aug_matrix"]
    data_dict["points"] = points[:0]
    data_dict["lidar_aug_matrix"] = np.eye(4)
    augmentor(data_dict, random)
    motion = data_dict["lidar_aug_matrix"]
    data_dict["points"] = points
    data_dict["lidar_aug_matrix"] = motion @ matrix_before
    data_dict["scene_move"] = data_dict["scene_move"].then(motion)
