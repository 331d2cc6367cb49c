"""What a loss compares: features of one tap on each side, as nodes or maps, matched by place.

``TermInput`` is one side of a comparison. Which one a loss needs is its class attribute ``inputs``:
``NodeInput`` and ``MapInput`` are here, ``PredictionInput`` is in ``prediction_input.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from ..config import lookup
from ..errors import ConfigError
from ..models.taps import TapInfo
from ..types import BatchDict, ConfigDict
from .node_converters import NODE_CONVERTERS
from .node_matching import match_nodes, with_objectness
from .nodes import NodeFeatures, NodeGrid, as_map
from .predictions import PredictionReader
from .tap_source import Features, TapSource

Data = TypeVar("Data")


class TermInput(Generic[Data]):
    """Student or teacher in one term.

    Attributes:
        paths: the taps that ``read`` needs.
        info: describes the input, so that a loss can size its adapters.
        reads_taps: whether STUDENT and TEACHER of a term are taps.
    """

    reads_taps: ClassVar[bool] = False

    paths: Sequence[str]
    info: TapInfo | PredictionReader

    @property
    def needs_batch(self) -> bool:
        """Whether ``read`` needs what a run of the detector added to its batch.

        Otherwise the captured features are enough, and can be kept in files.
        """
        return True

    @classmethod
    def pair(
        cls, cfg: ConfigDict, student: TapSource, teacher: TapSource, where: str
    ) -> tuple[TermInput[Data], TermInput[Data]]:
        """Both inputs of the term ``cfg``; taps that cannot be compared are refused.

        Args:
            cfg: the block DISTILL.TERMS.<name>.
            student, teacher: the two detectors.
            where: key path of the block, for errors.
        """
        raise NotImplementedError(f"{cls.__name__} does not define pair")

    def read(self, features: Features, batch_dict: BatchDict, *, detached: bool) -> Data:
        """The captured ``features`` in the form that is matched; ``detached`` from the graph."""
        raise NotImplementedError(f"{type(self).__name__} does not define read")

    def match(self, student: Data, teacher: Data) -> tuple[object, object]:
        """What the loss compares: position i of both belongs to the same place."""
        raise NotImplementedError(f"{type(self).__name__} does not define match")

    def leave_out_unsure(
        self, student: Any, teacher: Any, batch_dict: BatchDict
    ) -> tuple[object, object]:
        """Matched data without places at which the teacher is unsure; features have all of them."""
        return student, teacher

    def __str__(self) -> str:
        return ", ".join(self.paths)


class NodeInput(TermInput[NodeFeatures]):
    """The nodes of one tap.

    Args:
        info: the tap.
        grid: the grid on which its nodes stand; None for points.
        class_scores: taps of class scores with their grids. The largest score at the place of a
            node becomes its objectness.
    """

    reads_taps = True

    info: TapInfo

    def __init__(
        self,
        info: TapInfo,
        grid: NodeGrid | None,
        class_scores: Sequence[tuple[TapInfo, NodeGrid | None]] = (),
    ) -> None:
        self.info = info
        self.grid = grid
        self.class_scores = class_scores
        self.paths = [info.path, *(tap.path for tap, _ in class_scores)]

    @property
    def needs_batch(self) -> bool:
        """The cells of a map have known places. Those of voxels and points are in the batch."""
        taps = [self.info, *(tap for tap, _ in self.class_scores)]
        return any(tap.kind != "bev" for tap in taps)

    @classmethod
    def pair(
        cls, cfg: ConfigDict, student: TapSource, teacher: TapSource, where: str
    ) -> tuple[NodeInput, NodeInput]:
        """STUDENT and TEACHER name one tap each, of the same kind; NODES may state which.

        SCORE: objectness also needs the teacher's class scores: the tap SCORE_TAP, or those of its
        first stage.
        """
        kind = cfg.get("NODES")
        if kind is not None:
            lookup(NODE_CONVERTERS, kind, f"{where}.NODES")
        student_tap = student.find(cfg["STUDENT"], kind, f"{where}.STUDENT")
        teacher_tap = teacher.find(cfg["TEACHER"], kind, f"{where}.TEACHER")
        if student_tap.kind != teacher_tap.kind:
            raise ConfigError(
                f"{where}: tap '{student_tap.path}' of the student gives {student_tap.kind} "
                f"features, tap '{teacher_tap.path}' of the teacher {teacher_tap.kind} ones; "
                f"{_comparable_taps(student, teacher)}"
            )
        lookup(NODE_CONVERTERS, student_tap.kind, f"{where}.STUDENT: nodes of kind")
        score_taps = _score_taps(cfg, teacher, where)
        score_grids = [teacher.node_grid(tap, where) for tap in score_taps]
        return (
            cls(student_tap, student.node_grid(student_tap, where)),
            cls(
                teacher_tap,
                teacher.node_grid(teacher_tap, where),
                list(zip(score_taps, score_grids)),
            ),
        )

    def read(self, features: Features, batch_dict: BatchDict, *, detached: bool) -> NodeFeatures:
        """The tap's features as nodes."""
        nodes = _as_nodes(self.info, self.grid, features, batch_dict)
        if self.class_scores:
            scores = [_as_nodes(tap, grid, features, batch_dict) for tap, grid in self.class_scores]
            nodes = with_objectness(nodes, scores)
        return nodes.detach() if detached else nodes

    def match(
        self, student: NodeFeatures, teacher: NodeFeatures
    ) -> tuple[NodeFeatures | Tensor, NodeFeatures | Tensor]:
        """The nodes that both have at the same place; row i of both belongs together."""
        return match_nodes(student, teacher)

    def __str__(self) -> str:
        nodes = f"{self.info.path} ({self.info.channels} channels)"
        if not self.class_scores:
            return nodes
        scores = ", ".join(tap.path for tap, _ in self.class_scores)
        return f"{nodes}, scored by {scores}"


class MapInput(NodeInput):
    """The dense bird's eye view map of one tap."""

    @classmethod
    def pair(
        cls, cfg: ConfigDict, student: TapSource, teacher: TapSource, where: str
    ) -> tuple[NodeInput, NodeInput]:
        """As of nodes, but both taps must give maps."""
        pair = super().pair(cfg, student, teacher, where)
        for side in pair:
            require_map(side.info, str(cfg["NAME"]), where)
        return pair

    def match(self, student: NodeFeatures, teacher: NodeFeatures) -> tuple[Tensor, Tensor]:
        """Both as maps (B, C, H, W) on the student's grid; a cell that only one side has is zero.

        Maps of different strides or ranges have different sizes. A loss over whole maps needs equal
        ones, so the teacher's features move to the cells of the student that they are matched with.
        """
        student, teacher = match_nodes(student, teacher)
        return as_map(student), as_map(teacher.at_cells_of(student))


def require_map(tap: TapInfo, name: str, where: str) -> None:
    """Refuse a tap that does not fill a map."""
    if tap.kind != "bev":
        raise ConfigError(
            f"{where}: {name} compares whole maps, but tap '{tap.path}' gives {tap.kind} features; "
            "name a bev tap"
        )


def _as_nodes(
    tap: TapInfo, grid: NodeGrid | None, features: Features, batch_dict: BatchDict
) -> NodeFeatures:
    return NODE_CONVERTERS[tap.kind](features[tap.path], batch_dict, grid)


def _score_taps(cfg: ConfigDict, teacher: TapSource, where: str) -> list[TapInfo]:
    """The taps of the teacher's class scores, if the loss ranks nodes by them."""
    if cfg.get("SCORE") == "objectness":
        return teacher.class_score_taps(cfg.get("SCORE_TAP"), f"{where}.SCORE_TAP")
    if cfg.get("SCORE_TAP") is not None:
        raise ConfigError(f"{where}.SCORE_TAP: has no effect without SCORE: objectness; remove it")
    return []


def _comparable_taps(student: TapSource, teacher: TapSource) -> str:
    """Which taps could be compared, for messages."""
    pairs = []
    for kind in NODE_CONVERTERS:
        student_taps = student.taps_of(kind)
        teacher_taps = teacher.taps_of(kind)
        if student_taps and teacher_taps:
            pairs.append(f"{kind}: {student_taps} with {teacher_taps}")
    if not pairs:
        return "no features of the two can be compared, only labels (NAME: TeacherLabels)"
    return f"what can be compared, student with teacher: {'; '.join(pairs)}"
