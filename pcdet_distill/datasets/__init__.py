"""Data: what a model must know of it (DataSpec), the datasets, and the loader of training and evaluation."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import lookup, required
from .dataset import DatasetTemplate
from .kitti.kitti_dataset import KittiDataset
from .loader import EpochSampler, FrameLoader, draw_shared_seed, make_loader
from .spec import DataSpec
from .view import PointView

__all__ = [
    "DATASETS",
    "DataSpec",
    "DatasetTemplate",
    "KittiDataset",
    "PointView",
    "build_dataloader",
    "build_dataset",
]

DATASETS: dict[str, type[DatasetTemplate]] = {"KittiDataset": KittiDataset}


def build_dataset(
    dataset_cfg: Mapping[str, Any],
    class_names: Sequence[str],
    *,
    root_dir: str | Path | None = None,
    training: bool,
    seed: int = 0,
    skip_bad_frames: bool = False,
    logger: logging.Logger | None = None,
) -> DatasetTemplate:
    """The dataset of a DATA_CONFIG block.

    Args:
        root_dir: folder that DATA_PATH may be relative to, beside the working directory: ``cfg.ROOT_DIR``.
        training: the training split, augmented; else the test split as it is.
        seed: of all randomness of the items.
        skip_bad_frames: log an unreadable frame and take another one instead of stopping.
    """
    from ..config import resolve_data_path

    dataset_class = lookup(
        DATASETS, required(dataset_cfg, "DATASET", "DATA_CONFIG"), "DATA_CONFIG.DATASET"
    )
    data_path = required(dataset_cfg, "DATA_PATH", "DATA_CONFIG")
    root_path = resolve_data_path(data_path, Path.cwd() if root_dir is None else root_dir)
    return dataset_class(
        dataset_cfg,
        class_names,
        training,
        root_path,
        logger,
        seed=seed,
        skip_bad_frames=skip_bad_frames,
    )


def build_dataloader(
    dataset_cfg: Mapping[str, Any],
    class_names: Sequence[str],
    batch_size: int,
    *,
    dist: bool = False,
    root_dir: str | Path | None = None,
    workers: int = 4,
    seed: int | None = None,
    training: bool = True,
    merge_all_iters_to_one_epoch: bool = False,
    total_epochs: int = 0,
    skip_bad_frames: bool = False,
    logger: logging.Logger | None = None,
) -> tuple[DatasetTemplate, FrameLoader, EpochSampler]:
    """Dataset, loader and sampler of a DATA_CONFIG block.

    Call ``sampler.set_epoch(e)`` and ``dataset.set_epoch(e)`` before each epoch: order and augmentation depend on
    (seed, epoch) and not on ``workers``.

    Args:
        batch_size: of one process.
        dist: split the frames among the processes of torch.distributed.
        seed: None draws one, and logs it.
        merge_all_iters_to_one_epoch: one epoch of ``total_epochs`` passes.
    """
    if seed is None:
        seed = draw_shared_seed(dist)
        (logger or logging.getLogger(__name__)).info("seed of the data: %d", seed)
    dataset = build_dataset(
        dataset_cfg,
        class_names,
        root_dir=root_dir,
        training=training,
        seed=seed,
        skip_bad_frames=skip_bad_frames,
        logger=logger,
    )
    if merge_all_iters_to_one_epoch:
        dataset.merge_all_iters_to_one_epoch(total_epochs)
    loader, sampler = make_loader(
        dataset, batch_size, workers=workers, seed=seed, shuffle=training, dist=dist
    )
    return dataset, loader, sampler
