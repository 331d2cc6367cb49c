"""What the teacher shows on some frames: which channels vary and matter, at places where there is something to see."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import Layer, features_of, listening, run
from .plan import Plan

SCORE_PARTS = ("conv_cls", "hm", "cls_layers")  # parts of the paths of layers that predict classes
OCCUPIED_WEIGHT, EMPTY_WEIGHT = 0.1, 0.01


@dataclasses.dataclass(frozen=True)
class Interest:
    """Where a batch is worth looking at, from the teacher's own classes.

    Attributes:
        cells: (B, H, W) highest class probability in each cell of the head's map; None without such a map.
        occupied: (B, ny, nx) 1 where there is a voxel; None without voxels.
        by_rows: the same probabilities (R,) of classifiers of rows (points, proposals), by their number of rows.
    """

    cells: Tensor | None
    occupied: Tensor | None
    by_rows: Mapping[int, Tensor]

    @classmethod
    def of(
        cls,
        predictions: Mapping[str, Any],
        batch_dict: Mapping[str, Any],
        grid_size: Sequence[int] | None,
    ) -> Interest:
        """From the outputs of the predicting layers by name."""
        cells, by_rows = None, {}
        for name, value in predictions.items():
            if not set(name.split(".")) & set(SCORE_PARTS) or not isinstance(value, Tensor):
                continue
            if value.dim() == 4:
                scores = value.sigmoid().amax(dim=1)
                cells = (
                    scores
                    if cells is None or cells.shape != scores.shape
                    else torch.maximum(cells, scores)
                )
            else:
                rows = value.flatten(1)
                by_rows[len(rows)] = rows.sigmoid().amax(dim=1)
        return cls(cells, _occupied(batch_dict, grid_size), by_rows)

    def weights(self, layer: Layer, value: Any) -> Tensor:
        """How likely each row (R,) of what goes in or out of ``layer`` is looked at."""
        features = features_of(value)
        if features.dim() == 4:
            return self._of_map(*features.shape[2:], features).flatten()
        if features is not value:
            return self._of_cells(value)
        rows = layer.rows(value)
        found = self.by_rows.get(len(rows))
        return (
            rows.new_full((len(rows),), OCCUPIED_WEIGHT)
            if found is None
            else found + OCCUPIED_WEIGHT
        )

    def _of_map(self, height: int, width: int, like: Tensor) -> Tensor:
        weights = like.new_full((len(like), height, width), EMPTY_WEIGHT)
        for values, factor in ((self.cells, 1.0), (self.occupied, OCCUPIED_WEIGHT)):
            if values is not None and len(values) == len(weights):
                weights += factor * _resized(values, height, width)
        return weights

    def _of_cells(self, tensor: Any) -> Tensor:
        """Of the active cells of a sparse tensor."""
        frame, y, x = (tensor.indices[:, axis].long() for axis in (0, -2, -1))
        weights = tensor.features.new_full((len(frame),), OCCUPIED_WEIGHT + EMPTY_WEIGHT)
        if self.cells is not None:
            height, width = self.cells.shape[1:]
            rows, columns = tensor.spatial_shape[-2:]
            weights += self.cells[frame, y * height // rows, x * width // columns]
        return weights


def _occupied(batch_dict: Mapping[str, Any], grid_size: Sequence[int] | None) -> Tensor | None:
    coords = batch_dict.get("voxel_coords")
    if coords is None or grid_size is None:
        return None
    nx, ny = (int(cells) for cells in grid_size[:2])
    frame, _, y, x = coords.long().unbind(dim=1)
    occupied = coords.new_zeros(int(batch_dict["batch_size"]), ny, nx, dtype=torch.float32)
    occupied[frame, y, x] = 1
    return occupied


def _resized(values: Tensor, height: int, width: int) -> Tensor:
    """(B, H, W) to another size: the largest of the cells that fall together, or the cell it lies in."""
    if values.shape[1] >= height and values.shape[2] >= width:
        return F.adaptive_max_pool2d(values[:, None], (height, width))[:, 0]
    return F.interpolate(values[:, None], (height, width), mode="nearest")[:, 0]


def draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Rows (count,) or fewer, each once, by weight, in order."""
    if len(weights) <= count:
        return torch.arange(len(weights), device=weights.device)
    # The largest of log(u) / w are a weighted draw without repetition (Efraimidis and Spirakis, 2006).
    uniform = torch.rand(len(weights), generator=generator, dtype=torch.float64).clamp_min(1e-300)
    keys = uniform.log().to(weights.device) / weights.double()
    return keys.topk(count).indices.sort().values


class Evidence:
    """What speaks for keeping each channel of a group: a matrix (C, C) whose diagonal is its score, squared.

    It is the sum over the layers that see the group of the covariance of their inputs times the norms of the weights
    that these inputs meet.
    """

    def __init__(self, plan: Plan, group: str) -> None:
        self.readers = plan.readers(group)
        self.flows = plan.flows
        self.channels = plan.flows[group].layer.outputs
        depth = max((len(found) for _, places in self.readers for found in places), default=0)
        self._sums = {
            (name, turn): _Moments(self.channels)
            for name, _ in self.readers
            for turn in range(depth)
        }

    def add(self, name: str, rows: Tensor) -> None:
        """Sampled inputs (S, C_in) of a reader."""
        places = dict(self.readers)[name]
        for turn in range(max(map(len, places))):
            chosen = [
                (channel, columns[turn])
                for channel, columns in enumerate(places)
                if len(columns) > turn
            ]
            channels, columns = (torch.tensor(numbers) for numbers in zip(*chosen))
            values = torch.zeros(len(rows), self.channels, dtype=torch.float64)
            values[:, channels] = (
                (rows[:, columns.to(rows.device)] * self._norms(name, columns, rows)).double().cpu()
            )
            self._sums[name, turn].add(values)

    def matrix(self) -> Tensor:
        """(C, C) float64."""
        return torch.stack([moments.covariance() for moments in self._sums.values()]).sum(dim=0)

    def _norms(self, name: str, columns: Tensor, like: Tensor) -> Tensor:
        """Length of the weights that each of ``columns`` meets."""
        layer = self.flows[name].layer
        weight = layer.module.weight.detach().movedim(layer.in_axis, 0).flatten(1)
        return weight[columns.to(weight.device)].norm(dim=1).to(like)


class _Moments:
    """Count, sum and products of rows, added up batch by batch."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.sums = torch.zeros(channels, dtype=torch.float64)
        self.products = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        self.count += len(rows)
        self.sums += rows.sum(dim=0)
        self.products += rows.T @ rows

    def covariance(self) -> Tensor:
        mean = self.sums / max(self.count, 1)
        return self.products / max(self.count, 1) - torch.outer(mean, mean)


def gather_evidence(
    model: Any,
    plan: Plan,
    batches: Sequence[Mapping[str, Any]],
    samples: int,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """The evidence matrix of every group of channels, from the teacher on ``batches``."""
    evidence = {group: Evidence(plan, group) for group in plan.groups}
    groups_of: dict[str, list[str]] = {}
    for group, found in evidence.items():
        for name, _ in found.readers:
            groups_of.setdefault(name, []).append(group)
    for batch in batches if evidence else ():
        seen, interest = look(model, plan, batch)
        for layer, value, _ in seen:
            if layer.name in groups_of:
                chosen = draw(
                    interest.weights(layer, value), -(-samples // len(batches)), generator
                )
                for group in groups_of[layer.name]:
                    evidence[group].add(layer.name, layer.rows(value)[chosen])
    return {group: found.matrix() for group, found in evidence.items()}


def look(
    model: Any, plan: Plan, batch: Mapping[str, Any]
) -> tuple[list[tuple[Layer, Any, Any]], Interest]:
    """Every run of a layer (no norm) on a batch, as layer, input and output; and where the batch is interesting."""
    seen: list[tuple[Layer, Any, Any]] = []
    wanted = {name: flow.layer for name, flow in plan.flows.items() if not flow.layer.is_norm}
    with listening(wanted, lambda layer, inputs, output: seen.append((layer, inputs[0], output))):
        filled = run(model, batch)
    outputs = {layer.name: output for layer, _, output in seen}
    return seen, Interest.of(outputs, filled, getattr(model.dataset, "grid_size", None))
