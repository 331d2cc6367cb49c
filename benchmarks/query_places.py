"""Where the queries of GraphDistillLoss lie: on objects, or on cells without a single point?

For maps of the teacher and ways to score their cells it prints two shares of the weight of all
queries: that in labelled boxes, and that on empty cells. A loss that compares empty cells teaches
nothing about objects.

    python benchmarks/query_places.py --teacher_ckpt TEACHER.pth [--recipe FILE.yaml] [--frames 64]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from training_frames import BATCH_SIZE, training_frames

from pcdet_distill.config import load_config
from pcdet_distill.distill import DistillTerm, TapSource, build_teacher
from pcdet_distill.distill.losses.masks import box_weights
from pcdet_distill.distill.node_matching import points_in_cells
from pcdet_distill.models import build_network, load_data_to_device

RECIPES = Path(__file__).parents[1] / "cfgs/synthetic/recipes"
TAPS = (
    "backbone_2d.blocks.0",
    "backbone_2d.blocks.1",
    "backbone_2d.blocks.2",
    "backbone_2d@spatial_features_2d",
)
SCORES = ("channel_max", "norm", "objectness")


def shares(term: DistillTerm, teacher: Any, batches: list[dict[str, Any]]) -> tuple[float, float]:
    """The weight of the queries in labelled boxes, and on cells without a point, as shares."""
    on_objects = on_empty_cells = total = 0.0
    for batch in batches:
        features = teacher.features(dict(batch), list(term.teacher.paths))
        nodes = term.teacher.read(features, batch, detached=True)
        queries = term.loss.choose_queries(nodes)
        weights = term.loss._weights(term.loss.score(nodes)[queries], nodes.batch_index[queries])
        chosen = nodes.select(queries)
        inside = box_weights(chosen.coords, chosen.batch_index, batch["gt_boxes"])
        points = points_in_cells(nodes, batch["points"])[queries]
        on_objects += float((weights * inside).sum())
        on_empty_cells += float((weights * (points == 0)).sum())
        total += float(weights.sum())
    return on_objects / total, on_empty_cells / total


def main() -> None:
    """Print a line for each map and score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher_ckpt", required=True)
    parser.add_argument("--recipe", default=str(RECIPES / "graph.yaml"))
    parser.add_argument("--frames", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cfg = load_config(args.recipe)
    dataset, batches = training_frames(cfg, batches=args.frames // BATCH_SIZE)
    for batch in batches:
        load_data_to_device(batch, "cpu")
    student = TapSource.of(
        "student", build_network(cfg.MODEL, len(cfg.CLASS_NAMES), dataset), dataset
    )
    teacher = build_teacher(cfg, dataset, args.teacher_ckpt)
    teacher_source = TapSource.of("teacher", teacher.model, teacher.model.dataset)
    (block,) = cfg.DISTILL.TERMS.values()
    print("map of the teacher                scored by     on objects   on empty cells")
    for tap in TAPS:
        for score in SCORES:
            changed = {**block, "STUDENT": tap, "TEACHER": tap, "SCORE": score}
            term = DistillTerm.from_config(changed, student, teacher_source, "TERM")
            on_objects, on_empty_cells = shares(term, teacher, batches)
            print(f"{tap:<33} {score:<13} {on_objects:>9.0%} {on_empty_cells:>15.0%}", flush=True)


if __name__ == "__main__":
    main()
