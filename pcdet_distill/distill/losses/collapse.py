"""Watches the adapters of a graph loss for collapse: constant outputs, so that nothing is learned.

Two trained adapters can agree on constant outputs. The loss is then zero, whatever the student's
features are. The check looks at the queries that the loss looks at: it draws them by their weights.
In the published form of pillars only the fullest pillars have weight. There the embeddings collapse
while those of all other queries still vary.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

# Every CHECK_EVERY steps a few queries are checked for channels that have become constant. The
# standard deviation of a channel is about 1 at first, and 0.6 behind a ReLU. At 0.1 a student
# explains a hundredth of the variance of a standardised channel. A collapsed channel is zero on
# nearly all edges and small on the rest: its extremes would hide what its deviation shows.
CHECK_EVERY = 20
CHECKED_QUERIES = 64
DEAD_DEVIATION = 0.1
DEAD_SHARE = 0.9
DEAD_CHECKS = 2  # one check alone may have met an empty frame

LOGGER = logging.getLogger(__name__)


class CollapseMonitor:
    """Counts the checks in a row at which an adapter was dead, and warns once."""

    def __init__(self) -> None:
        self.steps = 0
        self.dead_checks: dict[str, int] = {}
        self.has_warned: set[str] = set()

    def is_due(self) -> bool:
        """Whether this step is one of those that are checked; called once in each step."""
        self.steps += 1
        return self.steps % CHECK_EVERY == 1

    @torch.no_grad()
    def dead_share(self, name: str, edges: Tensor) -> float:
        """The share of the channels that hardly vary over ``edges`` (E, D).

        Args:
            name: of the adapter, teacher or student.
            edges: its outputs for the queries that are checked.
        """
        deviation = edges.std(dim=0, unbiased=False)
        share = float((deviation < DEAD_DEVIATION).float().mean())
        is_dead = share >= DEAD_SHARE and len(edges) > 1
        self.dead_checks[name] = self.dead_checks.get(name, 0) + 1 if is_dead else 0
        if self.dead_checks[name] == DEAD_CHECKS and name not in self.has_warned:
            self.has_warned.add(name)
            LOGGER.warning(
                "GraphDistillLoss: %.0f %% of the channels of the %s's adapter are constant; "
                "this term no longer teaches anything",
                100 * share,
                name,
            )
        return share


def sample_by_weight(weights: Tensor | None, count: int, device: torch.device) -> Tensor:
    """At most CHECKED_QUERIES of ``count`` queries, spread evenly over the sum of their weights.

    Args:
        weights: (count,); None for equal ones.
        count: of the queries, at least one.
        device: of the result.

    Returns:
        Rows in ascending order, each once. A query without weight is never among them.
    """
    if weights is None:
        weights = torch.ones(count, device=device)
    sums = weights.double().cumsum(dim=0)
    places = (torch.arange(CHECKED_QUERIES, device=device) + 0.5) / CHECKED_QUERIES
    chosen = torch.searchsorted(sums, places * sums[-1]).clamp_max(count - 1)
    return chosen.unique()
