"""Claim: a detector can overfit the velocities of a few simulated nuScenes frames.

    bash tools/scripts/quickstart.sh --dataset nuscenes       # or its first two steps: the data
    OMP_NUM_THREADS=1 python benchmarks/overfit_velocity.py --frames 2 --steps 200

Trains the quickstart's student on the first frames alone, without augmentation, two a step. Prints
the mean error of the velocities at the cells of the labelled objects, by whether they move. The
error of predicting 0 is the mean speed. ``--frames 0`` takes all frames, and measures on those of
the validation: that shows what is learnt beyond the frames themselves.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pcdet_distill.config import load_config
from pcdet_distill.datasets import DatasetTemplate, DataSpec, build_dataset
from pcdet_distill.models import build_network, load_data_to_device
from pcdet_distill.models.detectors.detector3d_template import Detector3DTemplate
from pcdet_distill.models.model_utils.centernet_utils import gather_cells
from pcdet_distill.types import BatchDict

ROOT = Path(__file__).resolve().parents[1]
YAML = "cfgs/synthetic/nuscenes/centerpoint_student.yaml"
AUGMENTATIONS = [
    "gt_sampling",
    "random_world_flip",
    "random_world_rotation",
    "random_world_scaling",
]
BATCH_SIZE = 2
LEARNING_RATE = 0.003
VELOCITY = slice(8, 10)  # of a box code of the centre head
MOVES_M_S = 1.0


def batch_of(dataset: DatasetTemplate, numbers: Sequence[int]) -> BatchDict:
    batch = dataset.collate_batch([dataset[int(number)] for number in numbers])
    load_data_to_device(batch, "cpu")
    return batch


def train(model: Detector3DTemplate, dataset: DatasetTemplate, frames: int, steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.4, div_factor=10
    )
    random = np.random.RandomState(0)
    model.train()
    for _ in range(steps):
        numbers = random.choice(frames, min(BATCH_SIZE, frames), replace=False)
        losses, _, _ = model(batch_of(dataset, numbers))
        optimizer.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def velocities(model: Detector3DTemplate, dataset: DatasetTemplate, frames: int) -> np.ndarray:
    """(N, 4) of all labelled objects: the predicted velocity at its cell, and the labelled one."""
    model.eval()
    head = model.dense_head
    rows = []
    for number in range(frames):
        batch = batch_of(dataset, [number])
        gt_boxes = batch["gt_boxes"]
        model(batch)
        targets = head.target_assigner.assign_targets(gt_boxes, head.feature_map_size)
        for predicted, target in zip(head.forward_ret_dict["pred_dicts"], targets):
            found = gather_cells(predicted["vel"], target.cells)
            labelled = target.boxes[..., VELOCITY]
            rows.append(torch.cat([found, labelled], dim=-1)[target.mask.bool()])
    return torch.cat(rows).numpy()


def report(rows: np.ndarray) -> None:
    error = np.linalg.norm(rows[:, :2] - rows[:, 2:], axis=1)
    speed = np.linalg.norm(rows[:, 2:], axis=1)
    for name, chosen in (("moving", speed > MOVES_M_S), ("standing", speed <= MOVES_M_S)):
        print(
            f"{name}: {chosen.sum()} objects, error {error[chosen].mean():.2f} m/s, "
            f"that of predicting 0 {speed[chosen].mean():.2f} m/s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cfg_file", default=YAML)
    parser.add_argument("--frames", type=int, default=2, help="0: all, measured on the validation")
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    torch.manual_seed(0)
    cfg = load_config(ROOT / args.cfg_file)
    cfg.DATA_CONFIG.DATA_AUGMENTOR.DISABLE_AUG_LIST = AUGMENTATIONS
    options = {"class_names": cfg.CLASS_NAMES, "root_dir": cfg.ROOT_DIR}
    dataset = build_dataset(cfg.DATA_CONFIG, training=True, **options)
    measured = dataset
    if args.frames == 0:
        measured = build_dataset(cfg.DATA_CONFIG, training=False, **options)
    spec = DataSpec.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    model = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), spec)
    train(model, dataset, args.frames or len(dataset), args.steps)
    report(velocities(model, measured, args.frames or len(measured)))


if __name__ == "__main__":
    main()
