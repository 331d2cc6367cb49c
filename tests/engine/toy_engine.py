"""A detector and a dataset small enough to train in milliseconds, speaking the contracts the engine relies on.

``python toy_engine.py train|test ARGS`` is tools/train.py or tools/test.py with these two in place of the real ones.
Environment variables: TOY_BAD_FRAME (a sample that cannot be read), TOY_STEP_SECONDS (slow down, to be killed).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
)

from pcdet_distill.engine import build, evaluate, setup, train
from pcdet_distill.errors import DataError, exit_on_user_error
from pcdet_distill.evaluation.result import PlainResult
from pcdet_distill.models.trainable import TrainableModule

FRAMES = 12
CONFIG = """
CLASS_NAMES: [Car]
DATA_CONFIG: {DATASET: KittiDataset, DATA_SPLIT: {train: train, test: val}}
MODEL: {NAME: PointPillar}
OPTIMIZATION: {BATCH_SIZE_PER_GPU: 4, NUM_EPOCHS: 3, OPTIMIZER: adam_onecycle, LR: 0.01, WEIGHT_DECAY: 0.01,
    MOMENTUM: 0.9, MOMS: [0.95, 0.85], PCT_START: 0.4, DIV_FACTOR: 10, DECAY_STEP_LIST: [2], LR_DECAY: 0.1,
    LR_CLIP: 0.0000001, LR_WARMUP: False, WARMUP_EPOCH: 1, GRAD_NORM_CLIP: 10.0}
"""


def write_config(folder: Path) -> Path:
    """A config whose outputs go to ``folder / "output"/toys/toy``."""
    path = folder / "cfgs" / "toys" / "toy.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CONFIG)
    return path


class ToyDataset(Dataset):
    """Samples of 8 numbers; in training noise is added that depends on (seed, epoch, index) alone."""

    class_names = ("Car",)
    epochs_per_draw = 1

    def __init__(self, training: bool, seed: int) -> None:
        self.training, self.seed, self.epoch = training, seed, 0
        self.disabled: tuple[Any, ...] = ()

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def disable_augmentations(self, names: Any, from_epoch: int) -> None:
        self.disabled = (tuple(names), from_epoch)

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: int) -> dict[str, Any]:
        if str(index) == os.environ.get("TOY_BAD_FRAME"):
            raise DataError(f"velodyne/{index:06d}.bin: 7 bytes, expected a multiple of 16")
        values = np.random.RandomState(index).rand(8)
        if self.training:
            values = values + 0.1 * np.random.RandomState(
                [self.seed % 2**32, self.epoch, index]
            ).rand(8)
        return {"values": values.astype(np.float32), "frame_id": f"{index:06d}"}

    @staticmethod
    def collate_batch(samples: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "values": np.stack([sample["values"] for sample in samples]),
            "batch_size": len(samples),
            "frame_id": np.array([sample["frame_id"] for sample in samples]),
        }

    @staticmethod
    def generate_prediction_dicts(
        batch: dict[str, Any],
        pred_dicts: list[dict[str, Any]],
        class_names: Any,
        output_path: Path | None = None,
    ) -> list[dict[str, Any]]:
        annos = []
        for frame_id, prediction in zip(batch["frame_id"], pred_dicts):
            annos.append(
                {
                    "frame_id": str(frame_id),
                    "name": np.array(["Car"]),
                    "score": prediction["score"].numpy(),
                }
            )
            if output_path is not None:
                (output_path / f"{frame_id}.txt").write_text(
                    f"Car {float(prediction['score'][0]):.4f}\n"
                )
        return annos

    @staticmethod
    def evaluate(det_annos: list[dict[str, Any]]) -> PlainResult:
        value = float(np.mean([anno["score"].mean() for anno in det_annos]))
        return PlainResult(f"toy score {value:.6f}\n", {"Car_3d/moderate_R40": value})


class ToyDetector(TrainableModule):
    """A small network with Dropout (draws random numbers), a convolution and, unless asked, BatchNorm."""

    def __init__(self, batch_norm: bool = True, dropout: float = 0.2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(32, 1)
        self.register_buffer("global_step", torch.zeros(1, dtype=torch.int64))

    def update_global_step(self) -> None:
        self.global_step += 1

    def forward(self, batch: dict[str, Any]) -> Any:
        values = batch["values"]
        image = values.view(len(values), 1, 2, 4)
        output = self.head(self.dropout(self.norm(self.conv(image)).relu()).flatten(1))[:, 0]
        if self.training:
            time.sleep(float(os.environ.get("TOY_STEP_SECONDS", 0)))
            loss = (output - values.sum(1)).square().mean()
            return {"loss": loss}, {"loss_toy": loss.detach()}, {"distill": loss.detach() / 2}
        counts = {"gt": len(values), "roi_0.3": 0, "rcnn_0.3": len(values) // 2}
        return [{"score": score.reshape(1)} for score in output], counts


def build_toy_dataloader(
    dataset_cfg: Any,
    class_names: Any,
    batch_size: int,
    *,
    dist: bool = False,
    seed: int = 0,
    workers: int = 0,
    training: bool = True,
    total_epochs: int = 0,
    merge_all_iters_to_one_epoch: bool = False,
    **_: Any,
) -> tuple[Any, Any, Any]:
    """``datasets.build_dataloader`` of toys."""
    dataset = ToyDataset(training, seed)
    if dist:
        sampler: Any = DistributedSampler(dataset, shuffle=training, seed=seed)
    elif training:
        sampler = _SeededSampler(dataset, seed, total_epochs if merge_all_iters_to_one_epoch else 1)
    else:
        sampler = SequentialSampler(dataset)
    loader = DataLoader(
        dataset, batch_size, sampler=sampler, num_workers=workers, collate_fn=dataset.collate_batch
    )
    return dataset, loader, sampler


class _SeededSampler(RandomSampler):
    """The permutation DistributedSampler would share out."""

    def __init__(self, dataset: Dataset, seed: int, rounds: int) -> None:
        super().__init__(dataset)
        self.seed, self.epoch, self.rounds = seed, 0, rounds

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return FRAMES * self.rounds

    def __iter__(self) -> Any:
        for round_number in range(self.rounds):
            generator = torch.Generator().manual_seed(self.seed + self.epoch + round_number)
            yield from torch.randperm(FRAMES, generator=generator).tolist()


def pin_threads(monkeypatch: Any) -> None:
    """One thread, and no timing of others: another number could change the last bits of a sum."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


REPLACED = ((setup, "build_dataloader"), (evaluate, "build_dataloader"), (build, "build_network"))


def install(batch_norm: bool = True, dropout: float = 0.2) -> None:
    """Put the toys where the engine looks for the real ones."""
    setup.build_dataloader = evaluate.build_dataloader = build_toy_dataloader
    build.build_network = lambda *_: ToyDetector(batch_norm, dropout)


def run(tool: str, arguments: list[str]) -> None:
    """tools/train.py or tools/test.py with ``arguments``."""
    parser = argparse.ArgumentParser()
    if tool == "train":
        train.run_training(train.add_train_arguments(parser).parse_args(arguments))
    else:
        evaluate.run_testing(evaluate.add_test_arguments(parser).parse_args(arguments))


@exit_on_user_error
def main() -> None:
    """``toy_engine.py train|test ARGS``; TOY_PLAIN=1: no BatchNorm and no Dropout."""
    plain = bool(os.environ.get("TOY_PLAIN"))
    install(batch_norm=not plain, dropout=0.0 if plain else 0.2)
    run(sys.argv[1], sys.argv[2:])


if __name__ == "__main__":
    main()
