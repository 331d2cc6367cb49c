"""The DATA_AUGMENTOR block: its list of augmentations, in order, less the disabled ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...config import lookup, required
from ...ops.boxes import limit_period
from .database_sampler import DataBaseSampler
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
}
PLACEHOLDER = (
    "placeholder"  # what OpenPCDet's files write into a DISABLE_AUG_LIST that disables nothing
)


class DataAugmentor:
    """Runs the augmentations of a config on training items.

    Args:
        root_path: dataset folder, where gt_sampling finds its database.
        augmentor_configs: the DATA_AUGMENTOR block, or only its AUG_CONFIG_LIST.
        class_names: classes that are trained.
    """

    def __init__(
        self,
        root_path: Path,
        augmentor_configs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        class_names: Sequence[str],
        logger: logging.Logger | None = None,
    ) -> None:
        block = (
            augmentor_configs
            if isinstance(augmentor_configs, Mapping)
            else {"AUG_CONFIG_LIST": augmentor_configs}
        )
        disabled = block.get("DISABLE_AUG_LIST") or []
        for name in set(disabled) - {PLACEHOLDER}:
            lookup(AUGMENTORS, name, "DATA_CONFIG.DATA_AUGMENTOR.DISABLE_AUG_LIST")
        self.queue: list[tuple[str, Callable[[dict[str, Any], np.random.RandomState], None]]] = []
        for config in required(block, "AUG_CONFIG_LIST", "DATA_CONFIG.DATA_AUGMENTOR"):
            name = required(config, "NAME", WHERE)
            augmentor = lookup(AUGMENTORS, name, f"{WHERE}.NAME")
            if name not in disabled:
                needs_files = augmentor is DataBaseSampler
                made = (
                    augmentor(root_path, config, class_names, logger)
                    if needs_files
                    else augmentor(config)
                )
                self.queue.append((name, made))

    @property
    def needs_road_plane(self) -> bool:
        """Whether any item must come with the ground plane of its frame."""
        return any(
            isinstance(augmentor, DataBaseSampler) and augmentor.use_road_plane
            for _, augmentor in self.queue
        )

    def forward(
        self, data_dict: dict[str, Any], random: np.random.RandomState, skip: Collection[str] = ()
    ) -> dict[str, Any]:
        """Augment one item in place.

        Args:
            data_dict: ``points`` (N, C), ``gt_boxes`` (M, 7), ``gt_names`` (M,), ``gt_boxes_mask`` (M,) bool: boxes of
                unwanted classes take part in the collision test of gt_sampling, then they are dropped.
            skip: names of augmentations to leave out.
        """
        data_dict.setdefault("lidar_aug_matrix", np.eye(4))
        for name, augmentor in self.queue:
            if name not in skip:
                augmentor(data_dict, random)
        mask = data_dict.pop("gt_boxes_mask", None)
        if mask is not None:
            data_dict["gt_boxes"], data_dict["gt_names"] = (
                data_dict["gt_boxes"][mask],
                data_dict["gt_names"][mask],
            )
        data_dict["gt_boxes"][:, 6] = limit_period(
            data_dict["gt_boxes"][:, 6], offset=0.5, period=2 * np.pi
        )
        return data_dict
