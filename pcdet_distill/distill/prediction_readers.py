"""Readers: where the predictions of each kind of head are tapped, and how they become rows of ``Predictions``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..config import nearest
from ..errors import ConfigError
from ..models.dense_heads.center_targets import encode_centers
from ..ops.boxes import limit_period
from ..ops.precision import at_least_float32
from .predictions import ABSENT_LOGIT, PredictionGrid, PredictionReader, Predictions
from .tap_source import TapSource

HEAD_SLOTS = ("dense_head", "point_head")


def prediction_reader(source: TapSource, slot: str, where: str) -> PredictionReader:
    """The reader of a detector's head.

    Args:
        source: the detector.
        slot: ``dense_head`` or ``point_head``.
        where: key path, for errors.
    """
    heads = {name: type(getattr(source.model, name, None)).__name__ for name in HEAD_SLOTS}
    heads = {name: kind for name, kind in heads.items() if kind != "NoneType"}
    if slot not in heads:
        raise ConfigError(
            f"{where}: the {source.role} has no head '{slot}'{nearest(str(slot), heads)}"
        )
    if heads[slot] not in PREDICTION_READERS:
        raise ConfigError(
            f"{where}: predictions of {heads[slot]} cannot be read; those of "
            f"{', '.join(PREDICTION_READERS)} can"
        )
    return PREDICTION_READERS[heads[slot]](
        slot, getattr(source.model, slot), list(source.class_names)
    )


class _Reader:
    """What the readers share."""

    def __init__(self, path: str, head: Any, class_names: list[str]) -> None:
        self.path, self.head = path, head
        self.class_names = class_names if head.num_class == len(class_names) else ["any class"]
        self.paths: tuple[str, ...] = ()
        self._grid: PredictionGrid | None = None

    @property
    def channels(self) -> int:
        """Class columns."""
        return len(self.class_names)

    def grid(self) -> PredictionGrid | None:
        """The sites of every frame."""
        if self._grid is None:
            self._grid = self._find_grid()
        return self._grid

    def _find_grid(self) -> PredictionGrid | None:
        return None


class _AnchorForm:
    """Codes of an anchor head; directions turn a box by half a circle."""

    def __init__(self, head: Any) -> None:
        self.head = head
        self.name = f"anchors, {head.box_coder.code_size} codes"

    def decode(
        self, codes: Tensor, references: Tensor, logits: Tensor, directions: Tensor | None
    ) -> Tensor:
        """Boxes (N, 7 + C) at anchors (N, 7 + C)."""
        boxes = self.head.box_coder.decode_torch(codes, references)
        if directions is None:
            return boxes
        settings = self.head.model_cfg
        period, offset = 2 * torch.pi / settings["NUM_DIR_BINS"], settings["DIR_OFFSET"]
        heading = limit_period(boxes[:, 6:7] - offset, settings["DIR_LIMIT_OFFSET"], period)
        heading = heading + offset + period * directions.argmax(dim=1, keepdim=True).to(boxes.dtype)
        return torch.cat([boxes[:, :6], heading, boxes[:, 7:]], dim=1)

    def encode(self, boxes: Tensor, references: Tensor, logits: Tensor) -> Tensor:
        """Codes at anchors."""
        return self.head.box_coder.encode_torch(boxes, references)


class AnchorReader(_Reader):
    """AnchorHeadSingle: three maps, the anchors of a cell one after the other."""

    def __init__(self, path: str, head: Any, class_names: list[str]) -> None:
        super().__init__(path, head, class_names)
        layers = [
            "conv_cls",
            "conv_box",
            *(["conv_dir_cls"] if head.conv_dir_cls is not None else []),
        ]
        self.paths = tuple(f"{path}.{layer}" for layer in layers)
        self.form = _AnchorForm(head)

    def read(
        self, features: Mapping[str, Any], batch_dict: Mapping[str, Any], rows: Tensor | None = None
    ) -> Predictions:
        """Rows by frame, then in the order of the head's ``flat_anchors``."""
        anchors = flat_anchors(self.head).to(features[self.paths[0]].device)
        maps = [features[path].permute(0, 2, 3, 1) for path in self.paths]
        by_anchor = [part.reshape(len(part), len(anchors), -1) for part in maps]
        return _anchor_rows(by_anchor, anchors, rows, self.form)

    def _find_grid(self) -> PredictionGrid:
        return _anchor_grid(self.head, torch.cat(_class_marks(self.head), dim=-3).flatten())


class MultiAnchorReader(_Reader):
    """AnchorHeadMulti: one head after the other, each with its own anchors."""

    def __init__(self, path: str, head: Any, class_names: list[str]) -> None:
        super().__init__(path, head, class_names)
        self.paths = tuple(f"{path}.rpn_heads.{number}" for number in range(len(head.rpn_heads)))
        self.form = _AnchorForm(head)

    def read(
        self, features: Mapping[str, Any], batch_dict: Mapping[str, Any], rows: Tensor | None = None
    ) -> Predictions:
        """Rows by frame, then in the order of the head's ``flat_anchors``."""
        found = [features[path] for path in self.paths]
        logits = [
            self._all_classes(own["cls_preds"], head)
            for own, head in zip(found, self.head.rpn_heads)
        ]
        others = [
            torch.cat([own[key] for own in found], dim=1)
            for key in ("box_preds", "dir_cls_preds")
            if key in found[0]
        ]
        return _anchor_rows(
            [torch.cat(logits, dim=1), *others], self.head.flat_anchors, rows, self.form
        )

    def _all_classes(self, logits: Tensor, head: Any) -> Tensor:
        """(B, A, classes of the head) to (B, A, all classes)."""
        if not self.head.separate_multihead:
            return logits
        spread = torch.full(
            (*logits.shape[:2], self.channels),
            ABSENT_LOGIT,
            dtype=at_least_float32(logits).dtype,
            device=logits.device,
        )
        return spread.index_copy(2, head.head_label_indices - 1, at_least_float32(logits))

    def _find_grid(self) -> PredictionGrid:
        cells = [
            marks.reshape(-1, *marks.shape[-2:]).flatten(1).transpose(0, 1).flatten()
            for marks in (mark.squeeze(-1) for mark in _class_marks(self.head))
        ]
        return _anchor_grid(self.head, torch.cat(cells))


class _CentreForm:
    """Codes of a centre head: offset in the cell, height, logarithms of sizes, cosine and sine of the heading."""

    def __init__(self, head: Any) -> None:
        self.cell_size_m, self.origin_m = head.cell_size, head.origin
        self.name = f"centres in cells of {head.cell_size} m from {head.origin}"

    def decode(
        self, codes: Tensor, references: Tensor, logits: Tensor, directions: Tensor | None
    ) -> Tensor:
        """Boxes (N, 7 + C) of the cells whose corners, in cells, are (N, 2)."""
        centre = (references + codes[:, :2]) * codes.new_tensor(
            self.cell_size_m
        ) + codes.new_tensor(self.origin_m)
        heading = torch.atan2(codes[:, 7:8], codes[:, 6:7])
        return torch.cat([centre, codes[:, 2:3], codes[:, 3:6].exp(), heading, codes[:, 8:]], dim=1)

    def encode(self, boxes: Tensor, references: Tensor, logits: Tensor) -> Tensor:
        """Codes in the cells."""
        cells = (boxes[:, :2] - boxes.new_tensor(self.origin_m)) / boxes.new_tensor(
            self.cell_size_m
        )
        return encode_centers(boxes, cells - references)


class CentreReader(_Reader):
    """CenterHead: every cell of every head; a head's cells know its own classes only."""

    def __init__(self, path: str, head: Any, class_names: list[str]) -> None:
        super().__init__(path, head, class_names)
        self.paths = tuple(f"{path}.heads_list.{number}" for number in range(len(head.heads_list)))
        self.form = _CentreForm(head)

    def read(
        self, features: Mapping[str, Any], batch_dict: Mapping[str, Any], rows: Tensor | None = None
    ) -> Predictions:
        """Rows by frame, head, y, x."""
        found = [features[path] for path in self.paths]
        logits, codes = [], []
        for own, labels in zip(found, self.head.head_labels):
            heat = at_least_float32(own["hm"])
            spread = heat.new_full((len(heat), self.channels, *heat.shape[2:]), ABSENT_LOGIT)
            index = torch.tensor(labels, device=heat.device) - 1
            logits.append(spread.index_copy(1, index, heat).flatten(2).transpose(1, 2))
            code = torch.cat([at_least_float32(own[name]) for name in self.head.code_names], dim=1)
            codes.append(code.flatten(2).transpose(1, 2))
        corners = self._corners(logits[0].device)
        coords = nn.functional.pad(
            (corners + 0.5) * corners.new_tensor(self.head.cell_size)
            + corners.new_tensor(self.head.origin),
            (0, 1),
        )
        return _rows(
            [torch.cat(logits, dim=1), torch.cat(codes, dim=1)], coords, corners, rows, self.form
        )

    def _corners(self, device: torch.device) -> Tensor:
        """(heads * H * W, 2) x, y of every row's cell, in cells."""
        width, height = self.head.feature_map_size
        y, x = torch.meshgrid(
            torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
        )
        return torch.stack([x, y], dim=-1).flatten(0, 1).float().repeat(len(self.paths), 1)

    def _find_grid(self) -> PredictionGrid:
        corners = self._corners(torch.device("cpu"))
        places = (corners + 0.5) * corners.new_tensor(self.head.cell_size) + corners.new_tensor(
            self.head.origin
        )
        keys = [
            tuple(sorted(self.class_names[label - 1] for label in labels))
            for labels in self.head.head_labels
        ]
        return PredictionGrid(
            places, torch.arange(len(keys)).repeat_interleave(len(corners) // len(keys)), keys
        )


class _PointForm:
    """Codes of a point head, for the best class of every point where sizes are relative to a class's mean."""

    def __init__(self, head: Any) -> None:
        self.coder = head.box_coder
        self.name = f"points, {self.coder.code_size} codes, mean sizes {self.coder.mean_size}"

    def decode(
        self, codes: Tensor, references: Tensor, logits: Tensor, directions: Tensor | None
    ) -> Tensor:
        """Boxes (N, 7 + C) that points (N, 3) propose."""
        return self.coder.decode_torch(codes, references, logits.argmax(dim=1) + 1)

    def encode(self, boxes: Tensor, references: Tensor, logits: Tensor) -> Tensor:
        """Codes at points."""
        return self.coder.encode_torch(boxes, references, logits.argmax(dim=1) + 1)


class PointReader(_Reader):
    """PointHeadBox: a row for every point."""

    def __init__(self, path: str, head: Any, class_names: list[str]) -> None:
        super().__init__(path, head, class_names)
        self.paths = (f"{path}.cls_layers", f"{path}.box_layers")
        self.form = _PointForm(head)

    def read(
        self, features: Mapping[str, Any], batch_dict: Mapping[str, Any], rows: Tensor | None = None
    ) -> Predictions:
        """Rows as in ``point_coords``."""
        logits, codes = (at_least_float32(features[path]) for path in self.paths)
        place = batch_dict["point_coords"]
        return Predictions(
            logits, codes, place[:, 0].long(), place[:, 1:4], place[:, 1:4], self.form
        )


def flat_anchors(head: Any) -> Tensor:
    """All anchors (A, 7 + C) in the order of the predictions; OpenPCDet's heads keep them by class."""
    own = getattr(head, "flat_anchors", None)
    return (
        torch.cat(head.anchors, dim=-3).reshape(-1, head.anchors[0].shape[-1])
        if own is None
        else own
    )


def _class_marks(head: Any) -> list[Tensor]:
    """Of every anchor set (1, ny, nx, sizes, rotations, 1) the number of its class."""
    return [
        torch.full((*anchors.shape[:-1], 1), number) for number, anchors in enumerate(head.anchors)
    ]


def _anchor_grid(head: Any, classes: Tensor) -> PredictionGrid:
    """PredictionGrid of ``flat_anchors`` (A, 7 + C) that are of classes (A,), numbers of the generator's classes."""
    anchors = flat_anchors(head).detach().cpu()
    names = [entry["class_name"] for entry in head.model_cfg["ANCHOR_GENERATOR_CONFIG"]]
    heights = anchors[:, 2:7].double().mul(1000).round().long()
    kinds, index = torch.unique(
        torch.cat([classes[:, None], heights], dim=1), dim=0, return_inverse=True
    )
    keys = [
        (names[number], *(value / 1000 for value in numbers)) for number, *numbers in kinds.tolist()
    ]
    return PredictionGrid(anchors[:, :2], index, keys)


def _anchor_rows(
    parts: list[Tensor], anchors: Tensor, rows: Tensor | None, form: Any
) -> Predictions:
    """From logits, codes and perhaps directions, each (B, A, ...)."""
    return _rows(parts, anchors[:, :3], anchors, rows, form)


def _rows(
    parts: list[Tensor], coords: Tensor, references: Tensor, rows: Tensor | None, form: Any
) -> Predictions:
    """From logits, codes and perhaps directions, each (B, A, ...), of sites at ``coords`` (A, 3)."""
    if rows is not None:
        parts, coords, references = (
            [part[:, rows] for part in parts],
            coords[rows],
            references[rows],
        )
    frames = len(parts[0])
    index = torch.arange(frames, device=coords.device).repeat_interleave(len(coords))
    logits, codes, *directions = (at_least_float32(part).flatten(0, 1) for part in parts)
    return Predictions(
        logits,
        codes,
        index,
        coords.repeat(frames, 1),
        references.repeat(frames, 1),
        form,
        directions[0] if directions else None,
    )


PREDICTION_READERS: dict[str, Callable[[str, Any, list[str]], PredictionReader]] = {
    "AnchorHeadSingle": AnchorReader,
    "AnchorHeadMulti": MultiAnchorReader,
    "CenterHead": CentreReader,
    "PointHeadBox": PointReader,
}
