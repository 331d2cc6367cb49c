"""One side of a comparison: which taps it needs, and what of them a loss sees.

A loss states by its ``sees`` what it compares; ``INPUTS`` in ``distill_head.py`` has the class for it. ``nodes``
are here: one tap, whose rows stand at places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..config import lookup, nearest
from ..errors import ConfigError
from ..models.taps import TapInfo
from .deprecated import warn_renamed
from .nodes import (
    GRIDLESS_KINDS,
    NODE_CONVERTERS,
    NodeFeatures,
    NodeGrid,
    grid_of,
    match_nodes,
    with_objectness,
)


@dataclasses.dataclass(frozen=True)
class TapSource:
    """A detector as the terms see it.

    Attributes:
        role: ``student`` or ``teacher``, for messages.
        taps: what it offers to be captured.
        grid: of its voxels; None when its data has none.
        model: the detector itself, for sides that must know their head.
        class_names: of its data; label 1 is the first.
    """

    role: str
    taps: Mapping[str, TapInfo]
    grid: NodeGrid | None
    model: Any = None
    class_names: tuple[str, ...] = ()

    @property
    def who(self) -> str:
        """The old name of ``role``."""
        warn_renamed("TapSource.who", "TapSource.role")
        return self.role

    @classmethod
    def of(cls, role: str, model: Any, data: Any) -> TapSource:
        """From a detector with ``taps()`` and its dataset or DataSpec."""
        return cls(role, model.taps(), grid_of(data), model, tuple(data.class_names))

    def find(self, path: Any, kind: str | None, where: str) -> TapInfo:
        """The tap ``path``, which must give nodes of ``kind`` (any when None)."""
        if path not in self.taps:
            hint = nearest(str(path), self.taps)
            others = (
                "" if "known:" in hint else f" ({self.role}'s taps: {', '.join(sorted(self.taps))})"
            )
            raise ConfigError(f"{where}: the {self.role} has no tap '{path}'{hint}{others}")
        info = self.taps[path]
        if kind is not None and info.kind != kind:
            raise ConfigError(
                f"{where}: tap '{path}' gives {info.kind} features, NODES asks for {kind}; "
                f"{kind} taps of the {self.role}: {self.taps_of(kind) or 'none'}"
            )
        return info

    def taps_of(self, kind: str) -> str:
        """The taps of a kind, for messages."""
        return ", ".join(sorted(tap.path for tap in self.taps.values() if tap.kind == kind))

    def class_score_taps(self, path: Any, where: str) -> list[TapInfo]:
        """The tap ``path``, or where it is None those that give the class scores of the first stage."""
        if path is not None:
            return [self.find(path, None, where)]
        scores = [
            tap for name, tap in self.taps.items() if name.rpartition(".")[2] in CLASS_SCORE_LAYERS
        ]
        of_cells = [tap for tap in scores if tap.kind == "bev"]
        if not scores:
            raise ConfigError(
                f"{where}: the {self.role} has no tap of class scores known by its name; name it"
            )
        return of_cells or scores

    def node_grid(self, info: TapInfo, where: str) -> NodeGrid | None:
        """The grid of a tap's nodes; None for those whose places are given in metres."""
        if info.kind in GRIDLESS_KINDS:
            return None
        if self.grid is None:
            raise ConfigError(
                f"{where}: the {self.role}'s data has no voxels, so {info.kind} features have no place"
            )
        if info.kind == "sparse":
            return self.grid.coarsen(info.stride or 1, layers=self.grid.size[2])
        return self.grid.coarsen(info.stride or 1) if info.kind == "bev" else self.grid


CLASS_SCORE_LAYERS = (
    "conv_cls",
    "hm",
    "cls_layers",
)  # of dense heads with anchors, with centres, of point heads


class TermInput:
    """Student or teacher in one term.

    Attributes:
        paths: the taps it needs.
        info: what the loss sizes itself by.
    """

    paths: Sequence[str]
    info: Any

    @property
    def needs_batch(self) -> bool:
        """Whether the features alone do not say where they stand: ``read`` looks for that in the batch after a run."""
        return True

    @classmethod
    def pair(
        cls, cfg: Mapping[str, Any], student: TapSource, teacher: TapSource, where: str
    ) -> tuple[TermInput, TermInput]:
        """Both sides of the term ``cfg``, checked to be comparable; ``where`` is its key path."""
        raise TypeError(f"{cls.__name__} does not say how its sides are found")

    def read(
        self, features: Mapping[str, Any], batch_dict: Mapping[str, Any], *, detached: bool
    ) -> Any:
        """What the loss sees of the captured ``features`` (by tap path), with or without a way back for gradients."""
        raise TypeError(f"{type(self).__name__} does not say what a loss sees")

    def match(self, student: Any, teacher: Any) -> tuple[Any, Any]:
        """What ``read`` gave for both sides, brought together by place."""
        raise TypeError(f"{type(self).__name__} does not say how its sides are matched")

    def __str__(self) -> str:
        return ", ".join(self.paths)


class NodeInput(TermInput):
    """The nodes of one tap.

    Args:
        info: the tap, of a kind that becomes nodes.
        grid: where its nodes stand; None for points.
        class_scores: taps, with their grids, whose largest score becomes the nodes' objectness.
    """

    def __init__(
        self,
        info: TapInfo,
        grid: NodeGrid | None,
        class_scores: Sequence[tuple[TapInfo, NodeGrid | None]] = (),
    ) -> None:
        self.info, self.grid, self.class_scores = info, grid, class_scores
        self.paths = (info.path, *(tap.path for tap, _ in class_scores))

    @property
    def needs_batch(self) -> bool:
        """Maps do not."""
        return any(tap.kind != "bev" for tap in (self.info, *(tap for tap, _ in self.class_scores)))

    @classmethod
    def pair(
        cls, cfg: Mapping[str, Any], student: TapSource, teacher: TapSource, where: str
    ) -> tuple[TermInput, TermInput]:
        """STUDENT and TEACHER name one tap each, of one kind; NODES may say of which.

        With SCORE: objectness the teacher's class scores are needed as well: SCORE_TAP, or those of its first stage.
        """
        kind = cfg.get("NODES")
        if kind is not None:
            lookup(NODE_CONVERTERS, kind, f"{where}.NODES")
        own = student.find(cfg["STUDENT"], kind, f"{where}.STUDENT")
        other = teacher.find(cfg["TEACHER"], kind, f"{where}.TEACHER")
        if own.kind != other.kind:
            raise ConfigError(
                f"{where}: tap '{own.path}' of the student gives {own.kind} features, tap '{other.path}' "
                f"of the teacher {other.kind} ones; {_comparable(student, teacher)}"
            )
        lookup(NODE_CONVERTERS, own.kind, f"{where}.STUDENT: nodes of kind")
        scores: list[TapInfo] = []
        if cfg.get("SCORE") == "objectness":
            scores = teacher.class_score_taps(cfg.get("SCORE_TAP"), f"{where}.SCORE_TAP")
        elif cfg.get("SCORE_TAP") is not None:
            raise ConfigError(
                f"{where}.SCORE_TAP: has no effect without SCORE: objectness; remove it"
            )
        return (
            cls(own, student.node_grid(own, where)),
            cls(
                other,
                teacher.node_grid(other, where),
                [(tap, teacher.node_grid(tap, where)) for tap in scores],
            ),
        )

    def read(
        self, features: Mapping[str, Any], batch_dict: Mapping[str, Any], *, detached: bool
    ) -> NodeFeatures:
        """The tap's feature as nodes."""
        nodes = NODE_CONVERTERS[self.info.kind](features[self.info.path], batch_dict, self.grid)
        if self.class_scores:
            nodes = with_objectness(
                nodes,
                (
                    NODE_CONVERTERS[tap.kind](features[tap.path], batch_dict, grid)
                    for tap, grid in self.class_scores
                ),
            )
        return nodes.detach() if detached else nodes

    def match(
        self, student: NodeFeatures, teacher: NodeFeatures
    ) -> tuple[NodeFeatures, NodeFeatures]:
        """By place."""
        return match_nodes(student, teacher)

    def __str__(self) -> str:
        return f"{self.info.path} ({self.info.channels} channels)"


def _comparable(student: TapSource, teacher: TapSource) -> str:
    """Which taps could be compared, for messages."""
    pairs = [
        f"{kind}: {student.taps_of(kind)} with {teacher.taps_of(kind)}"
        for kind in NODE_CONVERTERS
        if student.taps_of(kind) and teacher.taps_of(kind)
    ]
    if not pairs:
        return "no features of the two can be compared, only labels (NAME: TeacherLabels)"
    return f"what can be compared, student with teacher: {'; '.join(pairs)}"
