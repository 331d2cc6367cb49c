"""A detector and a dataset that train in milliseconds and fulfil the contracts of the engine.

``python toy_engine.py train|test ARGS`` is tools/train.py or tools/test.py with these two in place
of the real ones. Environment variables: TOY_BAD_FRAME is the number of a sample that cannot be
read, TOY_STEP_SECONDS makes every step slower, TOY_PLAIN=1 leaves BatchNorm and Dropout out,
TOY_DROPOUT is the share of the latter. TOY_STOP_RANK is the rank that stops in the fifth step,
TOY_DIE_ONCE a file that rank 1 makes when it kills itself there, TOY_DIE_WITH_AGENT one that any
rank makes when it kills itself and torchrun's agent there, as if its machine were lost.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
)

from pcdet_distill.engine import build, evaluate, setup, train
from pcdet_distill.engine.evaluation import Annotation
from pcdet_distill.errors import DataError, exit_on_user_error
from pcdet_distill.evaluation.result import PlainResult
from pcdet_distill.models.trainable import TrainableModule
from pcdet_distill.types import BatchDict

FRAMES = 12
CONFIG = """
CLASS_NAMES: [Car]
DATA_CONFIG: {DATASET: KittiDataset, DATA_SPLIT: {train: train, test: val}}
MODEL: {NAME: PointPillar}
OPTIMIZATION:
    BATCH_SIZE_PER_GPU: 4
    NUM_EPOCHS: 3
    OPTIMIZER: adam_onecycle
    LR: 0.01
    WEIGHT_DECAY: 0.01
    MOMENTUM: 0.9
    MOMS: [0.95, 0.85]
    PCT_START: 0.4
    DIV_FACTOR: 10
    DECAY_STEP_LIST: [2]
    LR_DECAY: 0.1
    LR_CLIP: 0.0000001
    LR_WARMUP: False
    WARMUP_EPOCH: 1
    GRAD_NORM_CLIP: 10.0
"""

# What ``install`` replaces: (module, name).
REPLACED = ((setup, "build_dataloader"), (evaluate, "build_dataloader"), (build, "build_network"))


def write_config(folder: Path) -> Path:
    """Write a config whose outputs go to ``output_of(folder)``."""
    path = folder / "cfgs" / "toys" / "toy.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CONFIG)
    return path


def output_of(folder: Path, extra_tag: str = "default") -> Path:
    """The output folder of the toy trained in ``folder``."""
    return folder / "output" / "toys" / "toy" / extra_tag


class ToyDataset(Dataset):
    """Samples of 8 numbers. In training, noise is added from (seed, epoch, index) alone."""

    class_names = ("Car",)
    epochs_per_draw = 1

    def __init__(self, training: bool, seed: int) -> None:
        self.training = training
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def disable_augmentations(self, names: Sequence[str], from_epoch: int) -> None:
        """Only tests that replace this method ask what was disabled."""

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: int) -> BatchDict:
        if str(index) == os.environ.get("TOY_BAD_FRAME"):
            raise DataError(f"velodyne/{index:06d}.bin: 7 bytes, expected a multiple of 16")
        values = np.random.RandomState(index).rand(8)
        if self.training:
            generator = np.random.RandomState([self.seed % 2**32, self.epoch, index])
            values = values + 0.1 * generator.rand(8)
        return {"values": values.astype(np.float32), "frame_id": f"{index:06d}"}

    @staticmethod
    def collate_batch(samples: list[BatchDict]) -> BatchDict:
        return {
            "values": np.stack([sample["values"] for sample in samples]),
            "batch_size": len(samples),
            "frame_id": np.array([sample["frame_id"] for sample in samples]),
        }

    @staticmethod
    def generate_prediction_dicts(
        batch: BatchDict,
        pred_dicts: list[dict[str, Tensor]],
        class_names: Sequence[str],
        output_path: Path | None = None,
    ) -> list[Annotation]:
        annotations = []
        for frame_id, prediction in zip(batch["frame_id"], pred_dicts):
            score = prediction["score"].cpu().numpy()
            annotations.append(
                {"frame_id": str(frame_id), "name": np.array(["Car"]), "score": score}
            )
            if output_path is not None:
                (output_path / f"{frame_id}.txt").write_text(f"Car {score[0]:.4f}\n")
        return annotations

    @staticmethod
    def evaluate(det_annos: list[Annotation]) -> PlainResult:
        value = float(np.mean([annotation["score"].mean() for annotation in det_annos]))
        return PlainResult(f"toy score {value:.6f}\n", {"Car_3d/moderate_R40": value})


class ToyDetector(TrainableModule):
    """A convolution, BatchNorm, Dropout (which draws random numbers) and a linear layer."""

    def __init__(self, batch_norm: bool = True, dropout: float = 0.2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(32, 1)
        self.global_step: Tensor
        self.register_buffer("global_step", torch.zeros(1, dtype=torch.int64))

    def update_global_step(self) -> None:
        self.global_step += 1

    def forward(self, batch: BatchDict) -> tuple:
        values = batch["values"]
        image = values.view(len(values), 1, 2, 4)
        features = self.norm(self.conv(image)).relu()
        output = self.head(self.dropout(features).flatten(1))[:, 0]
        if self.training:
            time.sleep(float(os.environ.get("TOY_STEP_SECONDS", 0)))
            fail_as_told(int(self.global_step))
            loss = (output - values.sum(1)).square().mean()
            return {"loss": loss}, {"loss_toy": loss.detach()}, {"distill": loss.detach() / 2}
        counts = {"gt": len(values), "roi_0.3": 0, "rcnn_0.3": len(values) // 2}
        return [{"score": score.reshape(1)} for score in output], counts


def fail_as_told(step: int) -> None:
    """Stop or kill this process in the fifth step, where the environment says so."""
    rank = os.environ.get("RANK")
    if step != 4:
        return
    if rank is not None and os.environ.get("TOY_STOP_RANK") == rank:
        os.kill(os.getpid(), signal.SIGSTOP)
    witness = os.environ.get("TOY_DIE_ONCE")
    if witness and rank == "1" and not Path(witness).exists():
        Path(witness).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    witness = os.environ.get("TOY_DIE_WITH_AGENT")
    if witness and not Path(witness).exists():
        Path(witness).touch()
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


class ToySampler(RandomSampler):
    """The order that DistributedSampler divides among processes, for one process."""

    def __init__(self, dataset: Dataset, seed: int, rounds: int) -> None:
        super().__init__(dataset)
        self.seed = seed
        self.epoch = 0
        self.rounds = rounds

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return FRAMES * self.rounds

    def __iter__(self) -> Iterator[int]:
        for round_number in range(self.rounds):
            generator = torch.Generator().manual_seed(self.seed + self.epoch + round_number)
            yield from torch.randperm(FRAMES, generator=generator).tolist()


def build_toy_dataloader(
    dataset_cfg: object,
    class_names: object,
    batch_size: int,
    *,
    dist: bool = False,
    seed: int = 0,
    workers: int = 0,
    training: bool = True,
    total_epochs: int = 0,
    merge_all_iters_to_one_epoch: bool = False,
    **_other_options: object,
) -> tuple[ToyDataset, DataLoader, Sampler]:
    """``datasets.build_dataloader`` of toys."""
    dataset = ToyDataset(training, seed)
    sampler: Sampler
    if dist:
        sampler = DistributedSampler(dataset, shuffle=training, seed=seed)
    elif training:
        sampler = ToySampler(dataset, seed, total_epochs if merge_all_iters_to_one_epoch else 1)
    else:
        sampler = SequentialSampler(dataset)
    loader = DataLoader(
        dataset, batch_size, sampler=sampler, num_workers=workers, collate_fn=dataset.collate_batch
    )
    return dataset, loader, sampler


def eval_loader(batch_size: int = 4, workers: int = 0) -> DataLoader:
    """The loader of the toy test set."""
    _, loader, _ = build_toy_dataloader(None, None, batch_size, workers=workers, training=False)
    return loader


def pin_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use one thread, and time no others: another number could change the last bits of a sum."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


def install(batch_norm: bool = True, dropout: float = 0.2) -> None:
    """Put the toys where the engine looks for the real dataset and detector."""
    setup.build_dataloader = build_toy_dataloader  # type: ignore[assignment]
    evaluate.build_dataloader = build_toy_dataloader  # type: ignore[assignment]

    def build_toy(*_: object) -> ToyDetector:
        return ToyDetector(batch_norm, dropout)

    build.build_network = build_toy  # type: ignore[assignment]


def run(tool: str, arguments: Sequence[str]) -> None:
    """tools/train.py or tools/test.py with ``arguments``."""
    parser = argparse.ArgumentParser()
    if tool == "train":
        train.run_training(train.add_train_arguments(parser).parse_args(arguments))
    else:
        evaluate.run_testing(evaluate.add_test_arguments(parser).parse_args(arguments))


def train_toy(folder: Path, *arguments: str) -> Path:
    """Train the toy in ``folder`` without data workers; returns its output folder."""
    config = write_config(folder)
    run("train", ["--cfg_file", str(config), "--workers", "0", *arguments])
    return output_of(folder)


def evaluate_toy(folder: Path, *arguments: str) -> None:
    """Evaluate the toy whose config is in ``folder``, without data workers."""
    config = folder / "cfgs" / "toys" / "toy.yaml"
    run("test", ["--cfg_file", str(config), "--workers", "0", *arguments])


@exit_on_user_error
def main() -> None:
    """``toy_engine.py train|test ARGS``."""
    plain = bool(os.environ.get("TOY_PLAIN"))
    dropout = 0.0 if plain else float(os.environ.get("TOY_DROPOUT", 0.2))
    install(batch_norm=not plain, dropout=dropout)
    run(sys.argv[1], sys.argv[2:])


if __name__ == "__main__":
    main()
