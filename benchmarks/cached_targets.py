"""Claim: targets of a cached teacher are near those of a teacher that runs on augmented frames.

Run ``python benchmarks/cached_targets.py --teacher_ckpt FILE [--recipe YAML] [--set KEY VALUE]``.
FILE is a trained teacher of the yaml file (default: cfgs/synthetic/recipes/logitbox_cached.yaml).

For each augmentation alone, and for all together, the teacher runs on augmented frames. Its raw
predictions are compared with the stored ones, moved and painted, at positions near objects: within
2 m of a labelled box, or with a score of the teacher above 0.1.

* score error: mean difference of the best score where the teacher's exceeds 0.1; bias: with sign
* correlation: of the best scores at all these positions
* missed: share of the positions above 0.5 of the teacher that are below 0.2 in the cache
* invented: the same the other way round
* centre (m), size (ratio), heading (degrees): median errors of boxes with a score above 0.3

The last two lines are other rules of painting, with all augmentations: interpolated logits, and the
logits of the nearest row.

"none" has no augmentation at all. What remains there is the difference between the voxels of
training and of evaluation (random points of full pillars) and the stored digits. A flip shows how
equivariant the teacher itself is: grid and boxes are mirrored exactly.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from training_frames import training_frames

from pcdet_distill.config import load_config
from pcdet_distill.distill import Distiller
from pcdet_distill.distill.cache.paint import Painter, strongest
from pcdet_distill.distill.predictions import ABSENT_LOGIT, Predictions
from pcdet_distill.engine.build import build_trained_model
from pcdet_distill.models import load_data_to_device
from pcdet_distill.models.trainable import OneProcess
from pcdet_distill.ops.boxes import limit_period

ROOT = Path(__file__).resolve().parents[1]
NEAR_M = 2.0
COLUMNS = (
    "score error",
    "bias",
    "correlation",
    "missed",
    "invented",
    "centre",
    "size",
    "heading",
)


class Pair(NamedTuple):
    """Live and stored predictions of one batch, and which positions are compared."""

    live: Predictions
    stored: Predictions
    is_near: Tensor


def pairs(model: Distiller, dataset, frames: int, device: torch.device) -> Iterator[Pair]:
    """Every batch of two frames, augmented."""
    term = next(term for _, term in model.head.named_terms())
    reader = term.teacher.reader
    for first in range(0, frames, 2):
        items = [dataset[number % len(dataset)] for number in (first, first + 1)]
        batch = dataset.collate_batch(items)
        load_data_to_device(batch, device)
        _, features = model.teacher.detect(dict(batch), reader.paths)
        live = reader.read(features, batch)
        stored = term.teacher.read({}, batch, detached=True)
        is_seen = (stored.logits > ABSENT_LOGIT).any(dim=1)
        is_near = near_objects(live, batch["gt_boxes"]) | (live.scores() > 0.1)
        yield Pair(live, stored, is_near & is_seen)


def near_objects(rows: Predictions, gt_boxes: Tensor) -> Tensor:
    """(N,) bool: which rows stand within NEAR_M of the centre of a labelled box."""
    is_near = torch.zeros(len(rows), dtype=torch.bool, device=gt_boxes.device)
    for frame, boxes in enumerate(gt_boxes):
        centres = boxes[boxes[:, 3] > 0, :2]
        of_frame = rows.batch_index == frame
        if len(centres):
            distance = torch.cdist(rows.coords[:, :2], centres).amin(dim=1)
            is_near |= of_frame & (distance < NEAR_M)
    return is_near


def compare(found: Sequence[Pair]) -> dict[str, float]:
    """The numbers of one line of the table."""
    live = torch.cat([pair.live.scores()[pair.is_near] for pair in found])
    stored = torch.cat([pair.stored.scores()[pair.is_near] for pair in found])
    is_sure = live > 0.1
    difference = (stored - live)[is_sure]
    correlation = np.corrcoef(live.cpu().numpy(), stored.cpu().numpy())[0, 1]
    is_missed = stored[live > 0.5] < 0.2
    is_invented = live[stored > 0.5] < 0.2
    boxes = [box_errors(pair) for pair in found]
    centre, size, heading = (torch.cat(errors).median().item() for errors in zip(*boxes))
    values = (
        difference.abs().mean().item(),
        difference.mean().item(),
        float(correlation),
        is_missed.float().mean().item(),
        is_invented.float().mean().item(),
        centre,
        size,
        heading,
    )
    return dict(zip(COLUMNS, values))


def box_errors(pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """Errors of centre in metres, of sizes as a ratio, and of headings in degrees."""
    rows = torch.nonzero(pair.is_near & (pair.live.scores() > 0.3)).flatten()
    live = without_directions(pair.live.select(rows))
    stored = without_directions(pair.stored.select(rows))
    is_painted = pair.stored.select(rows).codes.abs().sum(dim=1) > 0
    live = live[is_painted]
    stored = stored[is_painted]
    centre = (live[:, :2] - stored[:, :2]).norm(dim=1)
    size = (live[:, 3:6] / stored[:, 3:6]).log().abs().mean(dim=1)
    heading = limit_period(live[:, 6] - stored[:, 6], 0.5, np.pi).abs()
    return centre, size, torch.rad2deg(heading)


def without_directions(rows: Predictions) -> Tensor:
    """The boxes as their codes hold them, with the heading modulo half a circle."""
    return rows.form.decode(rows.codes, rows.references, rows.logits, None)


def interpolated_logits(
    painter: Painter, scores: Tensor, weights: Tensor, group: Tensor, slots: Tensor
) -> Tensor:
    """As ``Painter._interpolate``, of logits in place of scores."""
    logits = torch.logit(scores.clamp(1e-6, 1 - 1e-6))
    total = weights.new_zeros(len(slots)).index_add_(0, group, weights)
    weighted = torch.zeros(len(slots), logits.shape[1], device=logits.device)
    weighted.index_add_(0, group, logits * weights[:, None])
    background = painter.background[painter.lattice.kinds[slots % painter.lattice.positions]]
    missing = (1 - total).clamp_min(0)[:, None]
    return ((weighted + missing * background) / total.clamp_min(1)[:, None]).sigmoid()


def nearest_row(
    painter: Painter, scores: Tensor, weights: Tensor, group: Tensor, slots: Tensor
) -> Tensor:
    """The scores of the row with the largest weight, as it stands nearest."""
    return scores[strongest(weights, group, len(slots))]


OTHER_RULES = {"all, interpolated logits": interpolated_logits, "all, nearest row": nearest_row}


def use_rule(model: Distiller, rule: Callable[..., Tensor]) -> None:
    """Paint by another rule."""
    painter = next(term for _, term in model.head.named_terms()).teacher.painter
    painter._interpolate = partial(rule, painter)
    painter.paint = lambda rows, frames: painter.paint_plain(rows)


def print_line(label: str, found: Sequence[Pair]) -> None:
    """A line of the table."""
    numbers = " | ".join(f"{value:.3f}" for value in compare(found).values())
    print(f"| {label} | {numbers} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teacher_ckpt", required=True)
    parser.add_argument(
        "--recipe", type=Path, default=ROOT / "cfgs/synthetic/recipes/logitbox_cached.yaml"
    )
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache_dir", type=Path, help="keep the cache there")
    parser.add_argument("--set", nargs="+", default=[], dest="settings", help="KEY VALUE pairs")
    args = parser.parse_args()
    device = torch.device(args.device)
    cfg = load_config(args.recipe, args.settings)
    dataset, _ = training_frames(cfg)
    with tempfile.TemporaryDirectory() as folder:
        cfg.DISTILL.TEACHER.CACHE_DIR = str(args.cache_dir or Path(folder) / "cache")
        logger = logging.getLogger("silent")
        model = build_trained_model(cfg, dataset, teacher_ckpt=args.teacher_ckpt, logger=logger)
        model = model.to(device)
        model.prepare_data(OneProcess(), logger)
        store = model.teacher.cache.store
        print(f"{store.rows / store.frames:.0f} rows of each frame are stored\n")
        names = [name for name, _ in dataset.data_augmentor.queue]
        print(f"| augmentation | {' | '.join(COLUMNS)} |\n|---|{'---:|' * len(COLUMNS)}")
        for kept in ([], *[[name] for name in names], names):
            dataset.disable_augmentations(set(names) - set(kept), from_epoch=0)
            label = "all" if len(kept) > 1 else "".join(kept) or "none"
            print_line(label, list(pairs(model, dataset, args.frames, device)))
        for label, rule in OTHER_RULES.items():
            use_rule(model, rule)
            print_line(label, list(pairs(model, dataset, args.frames, device)))


if __name__ == "__main__":
    main()
