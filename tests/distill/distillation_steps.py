"""A short training by distillation alone."""

from __future__ import annotations

import torch

from pcdet_distill.distill.distiller import Distiller
from pcdet_distill.types import BatchDict


def losses_of_distillation(model: Distiller, batch: BatchDict, steps: int = 20) -> list[float]:
    """LOGIT_BOX of every step on one batch, without the detection loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    seen = []
    for _ in range(steps):
        ret, tb, _ = model(dict(batch))
        plain = model.student.get_training_loss()[0]
        optimizer.zero_grad()
        (ret["loss"] - plain).backward()
        optimizer.step()
        seen.append(tb["distill_logit_box"].item())
    return seen
