"""Data: the datasets, their loader, and DataSpec, which is all that a model needs of a dataset.

From a frame to a batch:

    dataset           the contract of a dataset; ``info_dataset`` reads info files
    item              one frame as a dict: the table of its keys
    augmentor         augmentations; ``processor`` the steps after them, ``view`` both for a teacher
    predicted         a teacher's stored predictions in an item
    collate, loader   items to batches, batches in an order that depends on the seed alone
    spec              DataSpec; ``box_fields`` the columns of a box
    common_cloud      points of several sensors and sweeps; ``beams`` finds the beams of a sensor

Data sets: ``kitti``, ``nuscenes``, ``argoverse2``, ``custom``, and ``synthetic``, the simulator.

Files:

    readers           point clouds of other people; ``point_files`` those whose columns are known
    info_files        how info files and object databases are made; ``parts`` by several commands
    object_files      an object database; ``packed_objects`` all its points in one file
    info_structures   what these files must hold; ``safe_pickle`` reads them, after ``pickle_steps``
    text_structures   what the lines of calibrations, labels, planes and split files must hold
    cloud_sizes       the bytes of point files, and a checksum, when their infos were made

What is looked at:

    facts, doubts     a sample of the frames before a training
    labelled_objects  objects with the points around them
    detections        boxes of a detector in LiDAR coordinates
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ..config import lookup, required, resolve_data_path
from ..types import ConfigDict
from .argoverse2.argo2_dataset import Argo2Dataset
from .custom.custom_dataset import CustomDataset
from .dataset import DatasetTemplate
from .kitti.kitti_dataset import KittiDataset
from .loader import EpochSampler, FrameLoader, draw_shared_seed, make_loader
from .nuscenes.nuscenes_dataset import NuScenesDataset
from .spec import DataSpec
from .view import PointView

__all__ = [
    "DATASETS",
    "Argo2Dataset",
    "CustomDataset",
    "DataSpec",
    "DatasetTemplate",
    "KittiDataset",
    "NuScenesDataset",
    "PointView",
    "build_dataloader",
    "build_dataset",
]

# DATA_CONFIG.DATASET to its class. Add your own; docs/extending.md shows how.
DATASETS: dict[str, type[DatasetTemplate]] = {
    "KittiDataset": KittiDataset,
    "CustomDataset": CustomDataset,
    "NuScenesDataset": NuScenesDataset,
    "Argo2Dataset": Argo2Dataset,
}


def build_dataset(
    dataset_cfg: ConfigDict,
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
        root_dir: a relative DATA_PATH is looked for here and in the working directory. It is
            ``cfg.ROOT_DIR`` of a config.
        training: the training split, augmented; else the test split as it is.
        seed: seed of all random numbers of the items.
        skip_bad_frames: log an unreadable frame and take another one instead of stopping.
    """
    name = required(dataset_cfg, "DATASET", "DATA_CONFIG")
    dataset_class = lookup(DATASETS, name, "DATA_CONFIG.DATASET")
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
    dataset_cfg: ConfigDict,
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

    Call ``sampler.set_epoch(e)`` and ``dataset.set_epoch(e)`` before each epoch: order and
    augmentation depend on (seed, epoch) and not on ``workers``.

    Args:
        batch_size: frames of a batch of one process.
        dist: split the frames among the processes of torch.distributed.
        root_dir: see ``build_dataset``.
        workers: processes that load frames; 0 loads them in this process.
        seed: seed of order and augmentation; None draws one and logs it.
        training: the training split, augmented and shuffled; else the test split as it is.
        merge_all_iters_to_one_epoch: make one epoch of ``total_epochs`` passes.
        skip_bad_frames: log an unreadable frame and take another one instead of stopping.
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
