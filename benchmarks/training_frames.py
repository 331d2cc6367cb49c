"""The augmented training frames of a yaml file, for the benchmarks that need some."""

from __future__ import annotations

from itertools import islice
from typing import Any

from easydict import EasyDict

from pcdet_distill.datasets import build_dataloader
from pcdet_distill.datasets.dataset import DatasetTemplate

BATCH_SIZE = 2


def training_frames(
    cfg: EasyDict, *, batches: int = 0, seed: int = 1
) -> tuple[DatasetTemplate, list[dict[str, Any]]]:
    """The training data of a config, and its first ``batches`` of two frames, on the CPU.

    They are loaded in this process, and are the same in every run with the same seed.
    """
    dataset, loader, _ = build_dataloader(
        cfg.DATA_CONFIG,
        cfg.CLASS_NAMES,
        BATCH_SIZE,
        root_dir=cfg.ROOT_DIR,
        workers=0,
        seed=seed,
        training=True,
    )
    return dataset, list(islice(loader, batches))
