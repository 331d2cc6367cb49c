"""TapSource: what a detector offers to be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from torch import nn

from ..config import nearest
from ..errors import ConfigError
from ..models.dense_heads.prediction_layout import PredictionLayout
from ..models.taps import TapInfo
from ..moved import warn_renamed
from .node_converters import GRIDLESS_KINDS
from .nodes import NodeGrid, VoxelData, grid_of

# What ``capture`` recorded, by tap path: tensors, sparse tensors or dicts of tensors.
Features: TypeAlias = Mapping[str, Any]

# Describes the raw predictions of a head; None for a head whose predictions cannot be read.
HeadLayout: TypeAlias = Callable[[nn.Module], PredictionLayout | None]


def own_layout(head: nn.Module) -> PredictionLayout | None:
    """The layout that a head publishes; None for a head without ``prediction_layout()``."""
    describe = getattr(head, "prediction_layout", None)
    return describe() if callable(describe) else None


def score_paths_of(model: object) -> tuple[str, ...]:
    """The modules of class logits that a detector publishes by ``score_taps()``, if it does."""
    publish = getattr(model, "score_taps", None)
    return tuple(publish()) if callable(publish) else ()


@dataclasses.dataclass(frozen=True)
class TapSource:
    """Student or teacher, as the terms find their taps.

    Attributes:
        role: ``student`` or ``teacher``.
        taps: the features that can be captured, by path.
        grid: the voxel grid of its data; None without voxels.
        model: the detector; only inputs that read its head need it.
        class_names: in the order of their labels; label 1 is the first.
        score_paths: modules whose outputs are class logits; they may or may not be taps.
        head_layout: describes the raw predictions of a head.
    """

    role: str
    taps: Mapping[str, TapInfo]
    grid: NodeGrid | None
    model: nn.Module | None = None
    class_names: tuple[str, ...] = ()
    score_paths: tuple[str, ...] = ()
    head_layout: HeadLayout = own_layout

    @property
    def who(self) -> str:
        """The old name of ``role``."""
        warn_renamed("TapSource.who", "TapSource.role")
        return self.role

    @classmethod
    def of(cls, role: str, model: nn.Module, data: VoxelData) -> TapSource:
        """From a detector that publishes its taps, and its dataset or DataSpec."""
        return cls(
            role=role,
            taps=model.taps(),  # type: ignore[operator]
            grid=grid_of(data),
            model=model,
            class_names=tuple(data.class_names),
            score_paths=score_paths_of(model),
        )

    def find(self, path: str, kind: str | None, where: str) -> TapInfo:
        """The tap ``path``; with ``kind`` it must give features of that kind."""
        if path not in self.taps:
            raise ConfigError(
                f"{where}: the {self.role} has no tap '{path}'{self._similar_taps(path)}"
            )
        info = self.taps[path]
        if kind is not None and info.kind != kind:
            raise ConfigError(
                f"{where}: tap '{path}' gives {info.kind} features, NODES is {kind}; "
                f"{kind} taps of the {self.role}: {self.taps_of(kind) or 'none'}"
            )
        return info

    def taps_of(self, kind: str) -> str:
        """The paths of all taps of a kind, for messages."""
        return ", ".join(sorted(tap.path for tap in self.taps.values() if tap.kind == kind))

    @property
    def has_class_scores(self) -> bool:
        """Whether the detector publishes class scores that can be captured."""
        return any(name in self.taps for name in self.score_paths)

    def class_score_taps(self, path: str | None, where: str) -> list[TapInfo]:
        """The taps of the class scores of the first stage, or only the tap ``path`` if given."""
        if path is not None:
            return [self.find(path, None, where)]
        scores = [self.taps[name] for name in self.score_paths if name in self.taps]
        if not scores:
            raise ConfigError(
                f"{where}: the {self.role} has no tap of class scores that it publishes by "
                "score_taps(); name one"
            )
        # PV-RCNN scores map cells and keypoints. The map is dense, so it scores every place.
        of_cells = [tap for tap in scores if tap.kind == "bev"]
        return of_cells or scores

    def node_grid(self, info: TapInfo, where: str) -> NodeGrid | None:
        """The grid on which a tap's features stand; None if their places are given in metres."""
        if info.kind in GRIDLESS_KINDS:
            return None
        if self.grid is None:
            raise ConfigError(
                f"{where}: the {self.role}'s data has no voxels, so {info.kind} features have no "
                "place"
            )
        stride = info.stride or 1
        if info.kind == "sparse":
            return self.grid.coarsen(stride, layers=self.grid.size[2])
        if info.kind == "bev":
            return self.grid.coarsen(stride)
        return self.grid

    def _similar_taps(self, path: str) -> str:
        hint = nearest(str(path), self.taps)
        if "known:" in hint:
            return hint
        return f"{hint} ({self.role}'s taps: {', '.join(sorted(self.taps))})"


def distinct(paths: Iterable[str]) -> list[str]:
    """Without repetitions, in order."""
    return list(dict.fromkeys(paths))
