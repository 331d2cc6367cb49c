"""Readers: how the raw outputs of a head become rows of ``Predictions``.

A head describes its outputs by ``prediction_layout()``. The kind of the layout decides the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import nearest
from ..errors import ConfigError
from ..models.dense_heads.center_targets import decode_centers, encode_centers
from ..models.dense_heads.prediction_layout import (
    AnchorLayout,
    CenterLayout,
    MultiAnchorLayout,
    PointLayout,
    PredictionLayout,
)
from ..moved import forward_names
from ..ops.constants import constant, constant_like
from ..ops.precision import at_least_float32
from ..types import BatchDict
from .predictions import (
    ABSENT_LOGIT,
    BoxForm,
    PositionKind,
    Positions,
    PredictionGrid,
    PredictionReader,
    Predictions,
)
from .tap_source import Features, TapSource

Layout = TypeVar("Layout", bound=PredictionLayout)

HEAD_SLOTS = ("dense_head", "point_head")
ANY_CLASS = "any class"


def prediction_reader(source: TapSource, slot: str, where: str) -> PredictionReader:
    """The reader of a detector's head.

    Args:
        source: the detector.
        slot: ``dense_head`` or ``point_head``.
        where: key path, for errors.
    """
    heads: dict[str, nn.Module] = {}
    for name in HEAD_SLOTS:
        head = getattr(source.model, name, None)
        if head is not None:
            heads[name] = head
    if slot not in heads:
        raise ConfigError(
            f"{where}: the {source.role} has no head '{slot}'{nearest(str(slot), heads)}"
        )
    layout = source.head_layout(heads[slot])
    if layout is None or layout.kind not in PREDICTION_READERS:
        raise ConfigError(
            f"{where}: predictions of {type(heads[slot]).__name__} cannot be read; expected a head "
            f"with a prediction_layout() of kind {', '.join(PREDICTION_READERS)}"
        )
    return PREDICTION_READERS[layout.kind](slot, layout, list(source.class_names))


class _Reader(Generic[Layout]):
    """What the readers share.

    Args:
        path: slot of the head.
        layout: describes its outputs.
        class_names: of its detector's data.
    """

    def __init__(self, path: str, layout: Layout, class_names: list[str]) -> None:
        self.path = path
        self.layout = layout
        self.paths = tuple(f"{path}.{module}" for module in layout.modules)
        self.class_names = class_names if layout.num_class == len(class_names) else [ANY_CLASS]
        self._grid: PredictionGrid | None = None

    @property
    def channels(self) -> int:
        """Number of class columns."""
        return len(self.class_names)

    def grid(self) -> PredictionGrid | None:
        """The positions of every frame."""
        if self._grid is None:
            self._grid = self._find_grid()
        return self._grid

    def _find_grid(self) -> PredictionGrid | None:
        return None

    def positions(self, rows: Tensor | None, device: torch.device) -> Positions:
        """The positions of the grid, or the rows (M,) of them; readers of a grid define it."""
        raise NotImplementedError(f"{type(self).__name__} reads no grid")

    def _with_all_classes(self, logits: Tensor, labels: tuple[int, ...]) -> Tensor:
        """Logits (..., labels) of one of several heads to (..., all classes); others are absent."""
        logits = at_least_float32(logits)
        shape = (*logits.shape[:-1], self.channels)
        all_classes = logits.new_full(shape, ABSENT_LOGIT)
        columns = constant(labels, logits.device) - 1
        return all_classes.index_copy(-1, columns, logits)


class _AnchorForm:
    """Codes of an anchor head. The direction classifier decides between two opposite headings."""

    def __init__(self, layout: AnchorLayout) -> None:
        self.coder = layout.box_coder
        self.directions = layout.directions
        self.name = f"anchors, {self.coder.code_size} codes"
        self.opposite_headings_are_equal = (
            layout.directions is not None and not layout.box_coder.encode_angle_by_sincos
        )

    def decode(
        self, codes: Tensor, references: Tensor, logits: Tensor, directions: Tensor | None
    ) -> Tensor:
        """Boxes (N, 7 + C) at anchors (N, 7 + C)."""
        boxes = self.coder.decode_torch(codes, references)
        if directions is None or self.directions is None:
            return boxes
        heading = self.directions.correct(boxes[:, 6], directions)
        return torch.cat([boxes[:, :6], heading[:, None], boxes[:, 7:]], dim=1)

    def encode(self, boxes: Tensor, references: Tensor, logits: Tensor) -> Tensor:
        """Codes at anchors."""
        return self.coder.encode_torch(boxes, references)


class AnchorReader(_Reader[AnchorLayout]):
    """A row for every anchor, in the order of the layout's anchors."""

    def __init__(self, path: str, layout: AnchorLayout, class_names: list[str]) -> None:
        super().__init__(path, layout, class_names)
        self.form = _AnchorForm(layout)
        self.anchors = layout.anchors

    def read(
        self, features: Features, batch_dict: BatchDict, rows: Tensor | None = None
    ) -> Predictions:
        """Rows by frame, then by anchor."""
        outputs = self._outputs_by_anchor(features)
        self.anchors = self.anchors.to(outputs[0].device)  # a copy only the first time
        return _as_rows(outputs, self.anchors[:, :3], self.anchors, rows, self.form)

    def positions(self, rows: Tensor | None, device: torch.device) -> Positions:
        """The anchors, or the rows (M,) of them."""
        self.anchors = self.anchors.to(device)
        anchors = self.anchors if rows is None else self.anchors[rows.to(device)]
        return Positions(anchors[:, :3], anchors, self.form)

    def _outputs_by_anchor(self, features: Features) -> list[Tensor]:
        """Logits, codes and perhaps directions, each (B, A, width)."""
        outputs = []
        for path in self.paths:
            cells_first = features[path].permute(0, 2, 3, 1)
            outputs.append(cells_first.reshape(len(cells_first), len(self.anchors), -1))
        return outputs

    def _find_grid(self) -> PredictionGrid:
        """Anchors of equal class, height, size and heading are of one kind.

        They are compared in whole millimetres (and milliradians): generators of two models compute
        the same number in different ways.
        """
        anchors = self.anchors.detach().cpu()
        shapes = anchors[:, 2:7].double().mul(1000).round().long()
        classes = self.layout.anchor_classes.detach().cpu()
        keys = torch.cat([classes[:, None], shapes], dim=1)
        unique, index = torch.unique(keys, dim=0, return_inverse=True)
        kinds = []
        for number, *shape in unique.tolist():
            name = self.layout.class_names[number]
            kinds.append(PositionKind((name,), tuple(value / 1000 for value in shape)))
        return PredictionGrid(anchors[:, :2], index, kinds)


class MultiAnchorReader(AnchorReader):
    """The same for several heads with anchors of their own."""

    layout: MultiAnchorLayout

    def _outputs_by_anchor(self, features: Features) -> list[Tensor]:
        heads = [features[path] for path in self.paths]
        all_labels = tuple(range(1, len(self.class_names) + 1))
        logits = []
        for head, labels in zip(heads, self.layout.head_labels):
            if labels == all_labels:
                logits.append(head["cls_preds"])
            else:
                logits.append(self._with_all_classes(head["cls_preds"], labels))
        outputs = [torch.cat(logits, dim=1)]
        for key in ("box_preds", "dir_cls_preds"):
            if key in heads[0]:
                outputs.append(torch.cat([head[key] for head in heads], dim=1))
        return outputs


class _CenterForm:
    """Codes of a centre head; ``encode_centers`` lists their entries."""

    opposite_headings_are_equal = False

    def __init__(self, layout: CenterLayout) -> None:
        self.cell_size_m = layout.cell_size_m
        self.origin_m = layout.origin_m
        self.name = f"centres in cells of {self.cell_size_m} m from {self.origin_m}"

    def decode(
        self, codes: Tensor, references: Tensor, logits: Tensor, directions: Tensor | None
    ) -> Tensor:
        """Boxes (N, 7 + C) of the cells with corners (N, 2), in cells."""
        return decode_centers(
            codes, references, cell_size_m=self.cell_size_m, origin_m=self.origin_m
        )

    def encode(self, boxes: Tensor, references: Tensor, logits: Tensor) -> Tensor:
        """Codes in the cells. The offset may lie outside a cell: boxes come from another grid."""
        origin_m = constant_like(self.origin_m, boxes)
        cells = (boxes[:, :2] - origin_m) / constant_like(self.cell_size_m, boxes)
        return encode_centers(boxes, cells - references)


class CenterReader(_Reader[CenterLayout]):
    """A row for every cell of every head. A head predicts its own classes only."""

    def __init__(self, path: str, layout: CenterLayout, class_names: list[str]) -> None:
        super().__init__(path, layout, class_names)
        self.form = _CenterForm(layout)

    def read(
        self, features: Features, batch_dict: BatchDict, rows: Tensor | None = None
    ) -> Predictions:
        """Rows by frame, head, y, x."""
        logits = []
        codes = []
        for path, labels in zip(self.paths, self.layout.head_labels):
            outputs = features[path]
            logits.append(self._with_all_classes(_by_cell(outputs["hm"]), labels))
            code_maps = [at_least_float32(outputs[name]) for name in self.layout.code_names]
            codes.append(_by_cell(torch.cat(code_maps, dim=1)))
        corners = self._corners(logits[0].device)
        coords = functional.pad(self._centres_m(corners), (0, 1))
        outputs_by_cell = [torch.cat(logits, dim=1), torch.cat(codes, dim=1)]
        return _as_rows(outputs_by_cell, coords, corners, rows, self.form)

    def positions(self, rows: Tensor | None, device: torch.device) -> Positions:
        """The cells, or the rows (M,) of them."""
        corners = self._corners(device)
        if rows is not None:
            corners = corners[rows.to(device)]
        return Positions(functional.pad(self._centres_m(corners), (0, 1)), corners, self.form)

    def _corners(self, device: torch.device) -> Tensor:
        """(heads * H * W, 2) x, y of the cell of every row, in cells."""
        width, height = self.layout.map_size
        y, x = torch.meshgrid(
            torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
        )
        of_one_head = torch.stack([x, y], dim=-1).flatten(0, 1).float()
        return of_one_head.repeat(len(self.paths), 1)

    def _centres_m(self, corners: Tensor) -> Tensor:
        """(N, 2) x, y of the centres of cells with ``corners`` (N, 2)."""
        size = constant_like(self.layout.cell_size_m, corners)
        return (corners + 0.5) * size + constant_like(self.layout.origin_m, corners)

    def _find_grid(self) -> PredictionGrid:
        corners = self._corners(torch.device("cpu"))
        kinds = []
        for labels in self.layout.head_labels:
            names = sorted(self.class_names[label - 1] for label in labels)
            kinds.append(PositionKind(tuple(names)))
        cells_per_head = len(corners) // len(kinds)
        index = torch.arange(len(kinds)).repeat_interleave(cells_per_head)
        return PredictionGrid(self._centres_m(corners), index, kinds)


class _PointForm:
    """Codes of a point head. Sizes may be relative to the mean size of the point's best class."""

    opposite_headings_are_equal = False

    def __init__(self, layout: PointLayout) -> None:
        self.coder = layout.box_coder
        self.name = f"points, {self.coder.code_size} codes, mean sizes {self.coder.mean_size}"

    def decode(
        self, codes: Tensor, references: Tensor, logits: Tensor, directions: Tensor | None
    ) -> Tensor:
        """Boxes (N, 7 + C) that points (N, 3) propose."""
        return self.coder.decode_torch(codes, references, logits.argmax(dim=1) + 1)

    def encode(self, boxes: Tensor, references: Tensor, logits: Tensor) -> Tensor:
        """Codes at points."""
        return self.coder.encode_torch(boxes, references, logits.argmax(dim=1) + 1)


class PointReader(_Reader[PointLayout]):
    """A row for every point."""

    def __init__(self, path: str, layout: PointLayout, class_names: list[str]) -> None:
        super().__init__(path, layout, class_names)
        self.form = _PointForm(layout)

    def read(
        self, features: Features, batch_dict: BatchDict, rows: Tensor | None = None
    ) -> Predictions:
        """Rows as in ``point_coords``."""
        logits, codes = (at_least_float32(features[path]) for path in self.paths)
        points = batch_dict["point_coords"]
        return Predictions(
            logits=logits,
            codes=codes,
            batch_index=points[:, 0].long(),
            coords=points[:, 1:4],
            references=points[:, 1:4],
            form=self.form,
        )


def _by_cell(maps: Tensor) -> Tensor:
    """(B, H * W, C) of maps (B, C, H, W)."""
    return maps.flatten(2).transpose(1, 2)


def _as_rows(
    outputs: list[Tensor],
    coords: Tensor,
    references: Tensor,
    rows: Tensor | None,
    form: BoxForm,
) -> Predictions:
    """Rows of all frames.

    Args:
        outputs: logits, codes and perhaps directions, each (B, A, width).
        coords: (A, 3) of the positions.
        references: (A, R) of the positions.
        rows: (M,) the positions to keep; None for all.
        form: turns codes into boxes.
    """
    if rows is not None:
        outputs = [output[:, rows] for output in outputs]
        coords = coords[rows]
        references = references[rows]
    frames = len(outputs[0])
    logits, codes, *directions = (at_least_float32(output).flatten(0, 1) for output in outputs)
    return Predictions(
        logits=logits,
        codes=codes,
        batch_index=torch.arange(frames, device=coords.device).repeat_interleave(len(coords)),
        coords=coords.repeat(frames, 1),
        references=references.repeat(frames, 1),
        form=form,
        directions=directions[0] if directions else None,
    )


PREDICTION_READERS: Mapping[str, Callable[..., PredictionReader]] = {
    "anchor": AnchorReader,
    "multihead_anchor": MultiAnchorReader,
    "center": CenterReader,
    "point": PointReader,
}


# Old names, for one more version.
__getattr__ = forward_names(__name__, __name__, {"CentreReader": "CenterReader"})
