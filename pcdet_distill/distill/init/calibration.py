"""Runs a detector on calibration frames, records its layers and samples their rows.

Most of a bird's eye view is empty ground. Rows are therefore drawn with a weight: high where the
teacher's class scores are high, lower where there are points, and small but not zero elsewhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models import Detector3DTemplate
from ...types import BatchDict
from .layers import Features, Layer, find_score_layers, layer_hooks, run_detector
from .plan import ChannelPlan

OCCUPIED_WEIGHT = 0.1  # of a cell with points, beside a class probability of at most 1
EMPTY_WEIGHT = 0.01  # of every cell


@dataclasses.dataclass(frozen=True)
class LayerRun:
    """One run of a layer: it may run several times in a forward pass."""

    layer: Layer
    input: Features
    output: Features


@dataclasses.dataclass(frozen=True)
class SampleWeights:
    """How likely the rows of a batch are drawn.

    Attributes:
        cell_scores: (B, H, W) highest class probability in each cell of the head's map; None
            without such a map.
        occupied: (B, ny, nx), 1 in each cell with a voxel; None without voxels.
        row_scores: (R,) highest class probability of each row, from layers that classify points or
            proposals; by the number of rows R.
    """

    cell_scores: Tensor | None
    occupied: Tensor | None
    row_scores: Mapping[int, Tensor]

    @classmethod
    def from_class_logits(
        cls,
        logits: Sequence[Tensor],
        batch_dict: BatchDict,
        grid_size: Sequence[int] | None,
    ) -> SampleWeights:
        """From the outputs of the layers that predict classes: maps (B, C, H, W) or rows (R, C)."""
        cell_scores: Tensor | None = None
        row_scores: dict[int, Tensor] = {}
        for values in logits:
            if values.dim() == 4:
                scores = values.sigmoid().amax(dim=1)
                if cell_scores is not None and cell_scores.shape == scores.shape:
                    scores = torch.maximum(cell_scores, scores)
                cell_scores = scores
            else:
                row_scores[len(values)] = values.flatten(1).sigmoid().amax(dim=1)
        return cls(cell_scores, _occupied_cells(batch_dict, grid_size), row_scores)

    def of_rows(self, layer: Layer, value: Features) -> Tensor:
        """(R,) weights of the rows of a layer's input or output."""
        if not isinstance(value, Tensor):
            frame, y, x = (value.indices[:, axis].long() for axis in (0, -2, -1))
            rows, columns = value.spatial_shape[-2:]
            weights = value.features.new_full((len(frame),), OCCUPIED_WEIGHT + EMPTY_WEIGHT)
            if self.cell_scores is not None:
                height, width = self.cell_scores.shape[1:]
                weights += self.cell_scores[frame, y * height // rows, x * width // columns]
            return weights
        if value.dim() == 4:
            return self._of_map(value).flatten()
        rows_of_layer = layer.as_rows(value)
        count = len(rows_of_layer)
        # Rows carry no coordinates. A layer with as many rows as a classifier has the same points
        # or proposals.
        if count in self.row_scores:
            return self.row_scores[count] + OCCUPIED_WEIGHT
        return rows_of_layer.new_full((count,), OCCUPIED_WEIGHT)

    def _of_map(self, value: Tensor) -> Tensor:
        """(B, H, W) weights of the cells of a map (B, C, H, W)."""
        frames, _, height, width = value.shape
        weights = value.new_full((frames, height, width), EMPTY_WEIGHT)
        for cells, factor in ((self.cell_scores, 1.0), (self.occupied, OCCUPIED_WEIGHT)):
            # A map with another number of frames is no bird's eye view: a RoI head's grid, one per
            # proposal.
            if cells is not None and len(cells) == frames:
                weights += factor * _resize(cells, height, width)
        return weights


def _occupied_cells(batch_dict: BatchDict, grid_size: Sequence[int] | None) -> Tensor | None:
    """(B, ny, nx), 1 in each cell of the bird's eye view with a voxel; None without voxels."""
    coords = batch_dict.get("voxel_coords")
    if coords is None or grid_size is None:
        return None
    nx, ny = (int(cells) for cells in grid_size[:2])
    frame, _, y, x = coords.long().unbind(dim=1)
    occupied = coords.new_zeros(int(batch_dict["batch_size"]), ny, nx, dtype=torch.float32)
    occupied[frame, y, x] = 1
    return occupied


def _resize(cells: Tensor, height: int, width: int) -> Tensor:
    """(B, H, W) to another size. Cells that fall together give their largest value."""
    if cells.shape[1] >= height and cells.shape[2] >= width:
        return F.adaptive_max_pool2d(cells[:, None], (height, width))[:, 0]
    return F.interpolate(cells[:, None], (height, width), mode="nearest")[:, 0]


def draw_rows(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` different row numbers in ascending order, drawn by weight; at most all rows."""
    if len(weights) <= count:
        return torch.arange(len(weights), device=weights.device)
    # Efraimidis and Spirakis (2006): the rows with the largest log(u) / weight are a weighted
    # sample without repetition. One sort serves, where drawing one row after the other would
    # renormalise each time.
    uniform = torch.rand(len(weights), generator=generator, dtype=torch.float64).clamp_min(1e-300)
    keys = uniform.log().to(weights.device) / weights.double()
    return keys.topk(count).indices.sort().values


def rows_per_batch(samples: int, batches: Collection[object]) -> int:
    """An equal share of ``samples`` for each batch, rounded up."""
    return -(-samples // len(batches))


def record_layers(
    model: Detector3DTemplate, plan: ChannelPlan, batch_dict: BatchDict
) -> tuple[list[LayerRun], SampleWeights]:
    """Run a detector on a batch. Returns every run of a layer (no norm), and sample weights."""
    runs: list[LayerRun] = []

    def record(layer: Layer, inputs: tuple[Features, ...], output: Features) -> None:
        runs.append(LayerRun(layer, inputs[0], output))

    layers = {name: flow.layer for name, flow in plan.flows.items() if not flow.layer.is_norm}
    with layer_hooks(layers, record):
        filled_batch = run_detector(model, batch_dict)
    last_outputs = {run.layer.name: run.output for run in runs}
    score_layers = find_score_layers(model)
    logits = []
    for name, output in last_outputs.items():
        if name in score_layers and isinstance(output, Tensor):
            logits.append(output)
    grid_size = getattr(model.dataset, "grid_size", None)
    return runs, SampleWeights.from_class_logits(logits, filled_batch, grid_size)
