"""Scores of channels: how much the layers behind would miss them.

Dropping a channel removes its part of every layer that reads it: the channel's value times the
weights on it. The constant part of it can go into a bias. So the score is the variance of the
channel times the squared norm of the weights, summed over the reading layers. QR selection also
uses the covariances, and so finds channels that repeat each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...models import Detector3DTemplate
from ...types import BatchDict
from .calibration import draw_rows, record_layers, rows_per_batch
from .layers import Layer
from .plan import ChannelPlan, Reader


class ChannelScores:
    """Sums up the score matrix of one group of channels from sampled rows.

    The matrix is (C, C): covariances of the channels, each times the norm of the weights on it. Its
    diagonal holds the scores.
    """

    def __init__(self, plan: ChannelPlan, group: str) -> None:
        self.readers: dict[str, Reader] = {}
        self._flows = plan.flows
        self._num_channels = plan.flows[group].layer.out_channels
        self._sums: dict[tuple[str, int], _CovarianceSums] = {}
        readers = plan.readers(group)
        # A layer behind a flattened grid reads a channel once per cell of the grid: each cell has a
        # matrix.
        most_columns = max((reader.most_columns for reader in readers), default=0)
        for reader in readers:
            self.readers[reader.name] = reader
            for cell in range(most_columns):
                self._sums[reader.name, cell] = _CovarianceSums(self._num_channels)

    def add(self, name: str, rows: Tensor) -> None:
        """Add sampled inputs (S, C_in) of the reading layer ``name``."""
        reader = self.readers[name]
        for cell in range(reader.most_columns):
            channels = []
            columns = []
            for channel, columns_of_channel in enumerate(reader.columns):
                if len(columns_of_channel) > cell:
                    channels.append(channel)
                    columns.append(columns_of_channel[cell])
            norms = _weight_norms(self._flows[name].layer, columns).to(rows)
            weighted = (rows[:, columns] * norms).double().cpu()
            values = torch.zeros(len(rows), self._num_channels, dtype=torch.float64)
            values[:, channels] = weighted
            self._sums[name, cell].add(values)

    def matrix(self) -> Tensor:
        """(C, C) float64."""
        matrices = [sums.covariance() for sums in self._sums.values()]
        return torch.stack(matrices).sum(dim=0)


class _CovarianceSums:
    """Count, sum and products of rows (S, C), added up batch by batch."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.sum = torch.zeros(channels, dtype=torch.float64)
        self.products = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        self.count += len(rows)
        self.sum += rows.sum(dim=0)
        self.products += rows.T @ rows

    def covariance(self) -> Tensor:
        """(C, C)."""
        count = max(self.count, 1)
        mean = self.sum / count
        return self.products / count - torch.outer(mean, mean)


def _weight_norms(layer: Layer, columns: list[int]) -> Tensor:
    """Norm of a layer's weights on each of the inputs ``columns``."""
    weight = layer.module.weight.detach().movedim(layer.in_axis, 0).flatten(1)
    return weight[columns].norm(dim=1)


def channel_score_matrices(
    model: Detector3DTemplate,
    plan: ChannelPlan,
    batches: Sequence[BatchDict],
    samples: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """The score matrix (C, C) of every group of channels.

    Args:
        model: the teacher.
        plan: how its channels flow.
        batches: calibration frames.
        samples: number of rows drawn from each layer, over all batches.
        generator: draws them.
    """
    scores = {group: ChannelScores(plan, group) for group in plan.groups}
    scores_of_reader: dict[str, list[ChannelScores]] = {}
    for group_scores in scores.values():
        for name in group_scores.readers:
            scores_of_reader.setdefault(name, []).append(group_scores)
    if scores:
        count = rows_per_batch(samples, batches)
        for batch in batches:
            runs, sample_weights = record_layers(model, plan, batch)
            for run in runs:
                readers_scores = scores_of_reader.get(run.layer.name, [])
                if not readers_scores:
                    continue
                rows = draw_rows(sample_weights.of_rows(run.layer, run.input), count, generator)
                sampled = run.layer.as_rows(run.input)[rows]
                for group_scores in readers_scores:
                    group_scores.add(run.layer.name, sampled)
    return {group: group_scores.matrix() for group, group_scores in scores.items()}
