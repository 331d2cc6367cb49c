"""What a loss does at single nodes: for pictures and reports. Training does not need it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class NodeDetails:
    """The N matched nodes of a batch as one loss sees them.

    Attributes:
        weights: (N,) how much each node counts; 0 for a node that is not compared for its own sake.
        values: (N,) the part of each node in the loss; their sum is the loss.
        queries: (M,) rows of the nodes whose neighbours are compared; empty without graphs.
        neighbours: (M, K) rows of the nodes that belong to each query.
        is_neighbour: (M, K) False where a query has fewer than K.
    """

    weights: Tensor
    values: Tensor
    queries: Tensor
    neighbours: Tensor
    is_neighbour: Tensor

    @classmethod
    def of_nodes(cls, weights: Tensor, values: Tensor) -> NodeDetails:
        """Of a loss that compares every node alone."""
        none = torch.zeros(0, dtype=torch.long, device=weights.device)
        no_neighbours = none.reshape(0, 1)
        return cls(weights, values, none, no_neighbours, no_neighbours.bool())


def shares_of(loss: Tensor, parts: Tensor) -> Tensor:
    """The ``loss``, a scalar, divided among (M,) places in proportion to ``parts`` >= 0."""
    total = parts.sum().clamp_min(torch.finfo(parts.dtype).tiny)
    return loss * parts / total
