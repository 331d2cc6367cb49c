"""The gradient of every distillation term against that of the detection loss.

The weights of the recipes were chosen by it: about a quarter at the beginning of a training. It
uses training frames and an untrained student (or that of ``--pretrained_model``), and no
evaluation.

    python benchmarks/term_gradients.py --teacher_ckpt TEACHER.pth [--recipes at ...] [--batches 8]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from training_frames import training_frames

from pcdet_distill.checkpoint import load_checkpoint, load_model_state
from pcdet_distill.config import load_config
from pcdet_distill.distill import build_distiller
from pcdet_distill.models import build_network, load_data_to_device

RECIPES = Path(__file__).parents[1] / "cfgs/synthetic/recipes"


def gradient(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """One vector."""
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(parameter).flatten() if part is None else part.flatten()
            for part, parameter in zip(found, parameters)
        ]
    )


def fresh(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch that a model may write to."""
    copied = {
        key: value.copy() if hasattr(value, "copy") else value for key, value in batch.items()
    }
    load_data_to_device(copied, "cpu")
    return copied


def gradient_norms(model: nn.Module, batches: Sequence[dict[str, Any]]) -> Tensor:
    """(batches, 2) norms of the gradients of the detection loss and of the terms."""
    parameters = list(model.student.parameters())
    rows = []
    for batch in batches:
        detection = gradient(model.student(fresh(batch))[0]["loss"], parameters)
        together = gradient(model(fresh(batch))[0]["loss"], parameters)
        rows.append(torch.stack([detection.norm(), (together - detection).norm()]))
    return torch.stack(rows)


def main() -> None:
    """Print a line for each recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teacher_ckpt", required=True)
    parser.add_argument("--pretrained_model", help="a checkpoint of the student")
    parser.add_argument(
        "--recipes", nargs="+", default=[file.stem for file in sorted(RECIPES.glob("*.yaml"))]
    )
    parser.add_argument("--batches", type=int, default=8)
    args = parser.parse_args()
    batches: list[dict[str, Any]] = []
    for name in args.recipes:
        cfg = load_config(RECIPES / f"{name}.yaml")
        if not batches:
            dataset, batches = training_frames(cfg, batches=args.batches)
        torch.manual_seed(0)
        student = build_network(cfg.MODEL, len(cfg.CLASS_NAMES), dataset)
        if args.pretrained_model:
            state = load_checkpoint(Path(args.pretrained_model))["model_state"]
            load_model_state(student, state, strict=True, where=args.pretrained_model)
        model = build_distiller(cfg, student, dataset, teacher_ckpt=args.teacher_ckpt).train()
        norms = gradient_norms(model, batches)
        detection, terms = norms[:, 0], norms[:, 1]
        share = (terms / detection).median()
        print(
            f"{name:30s} detection {detection.median():8.3f}  terms {terms.median():8.3f}  "
            f"share {share:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
