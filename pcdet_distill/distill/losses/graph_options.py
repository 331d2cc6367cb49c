"""The options of GraphDistillLoss, the presets that set them, and what of a yaml block makes no sense together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...config import nearest
from ...errors import ConfigError
from ...models.taps import TapInfo
from .base import read_options
from .edges import EDGE_FORMS, ELEMENT_DISTANCES, POOLS

SCORES = ("saliency", "channel_max", "norm", "objectness")
SAMPLINGS = ("top", "bottom", "random")
WEIGHTINGS = ("none", "softmax", "softmax_raw", "batch_size")
SPACES = ("feature", "metres")
TEACHER_ADAPTERS = ("trained", "frozen", "none")


@dataclasses.dataclass(frozen=True)
class GraphOptions:
    """Every choice of the method. In yaml the names are in capitals; the values here are ``PRESET: default``.

    Attributes:
        num_nodes: queries per frame (per batch with ``mix_frames``); a fraction of the nodes when below 1.
        num_neighbors: K; the query is its own first neighbour.
        embed_dim: D, output channels of the adapters; without effect with ``teacher_adapter: none``.
        edge: ``concat`` [neighbour ; centre], ``difference`` [centre - neighbour ; centre].
        pool: of the graph feature over the neighbours: ``none`` (edge by edge), ``max``, ``mean``.
        score: ``saliency`` (points in a voxel, channel maximum of a BEV cell or a point), of the teacher's feature
            ``channel_max`` or ``norm``, or ``objectness``: the largest class score of the teacher's head at the place.
        sampling: which scores become queries: ``top``, ``bottom``, ``random`` (any).
        weighting: ``none``; ``softmax`` of the score scaled to 0..1 among the queries of a frame; ``softmax_raw`` of
            the score as it is. Mean 1 over the queries of a frame (of the batch with ``mix_frames``). ``batch_size``:
            each query weighs as much as there are frames, as published for SECOND.
        temperature: of the softmax.
        distance: ``mse``, ``smooth_l1``, ``cosine``; as published, ``published``: twice the weighted mean square, or
            ``frobenius``: 5e-4 times the norm of all differences, without weights.
        teacher_adapter: ``trained`` as published, ReLU on both sides; ``frozen``, a random projection, standardised;
            ``none``, the student predicts the teacher's standardised edges themselves.
        neighbor_space: neighbours are near in the teacher's ``feature`` space, or in ``metres``.
        mix_frames: queries, neighbours and weights over the whole batch, as published.
    """

    num_nodes: float = 1500.0
    num_neighbors: int = 32
    embed_dim: int = 32
    edge: str = "concat"
    pool: str = "none"
    score: str = "saliency"
    sampling: str = "top"
    weighting: str = "softmax"
    temperature: float = 0.5
    distance: str = "mse"
    teacher_adapter: str = "frozen"
    neighbor_space: str = "feature"
    mix_frames: bool = False


CHOICES = {
    "edge": EDGE_FORMS,
    "pool": POOLS,
    "score": SCORES,
    "sampling": SAMPLINGS,
    "weighting": WEIGHTINGS,
    "distance": (*ELEMENT_DISTANCES, "published", "frobenius"),
    "teacher_adapter": TEACHER_ADAPTERS,
    "neighbor_space": SPACES,
}
PRESETS = ("default", "official")
OFFICIAL = {  # by the kind of the student's tap
    "voxel": GraphOptions(
        num_nodes=6000.0,
        num_neighbors=128,
        weighting="softmax_raw",
        temperature=0.01,
        distance="published",
        teacher_adapter="trained",
        mix_frames=True,
    ),
    "bev": GraphOptions(
        num_nodes=256.0,
        num_neighbors=128,
        weighting="batch_size",
        distance="published",
        teacher_adapter="trained",
    ),
    "point": GraphOptions(
        num_nodes=6000.0,
        num_neighbors=128,
        pool="max",
        weighting="none",
        distance="published",
        teacher_adapter="trained",
    ),
}


def preset_options(name: str, student: TapInfo, where: str) -> GraphOptions:
    """The options of a preset for nodes of the student's kind."""
    if name not in PRESETS:
        raise ConfigError(f"{where}.PRESET: unknown value '{name}'{nearest(name, PRESETS)}")
    if name == "default":
        return GraphOptions()
    if student.kind not in OFFICIAL:
        raise ConfigError(
            f"{where}.PRESET: the published code has no way for {student.kind} nodes, only for "
            f"{', '.join(OFFICIAL)}; use default"
        )
    if student.kind == "point":  # as wide as the student's own features
        return dataclasses.replace(OFFICIAL["point"], embed_dim=student.channels)
    return OFFICIAL[student.kind]


def graph_options(cfg: Mapping[str, Any], student: TapInfo, where: str) -> GraphOptions:
    """The options of a term's block, for nodes of the student's kind; ``where`` is its key path."""
    settings = dict(cfg)
    preset = preset_options(str(settings.pop("PRESET", "default")), student, where)
    options = read_options(preset, settings, where, CHOICES)
    _refuse_without_effect(options, settings, where)
    return options


def _refuse_without_effect(options: GraphOptions, settings: Mapping[str, Any], where: str) -> None:
    """What was asked for must make a difference."""
    if options.num_nodes > 1 and options.num_nodes != int(options.num_nodes):
        raise ConfigError(
            f"{where}.NUM_NODES: expected a whole number, or a fraction below 1, "
            f"found {options.num_nodes}"
        )
    if options.teacher_adapter == "none" and "EMBED_DIM" in settings:
        raise ConfigError(
            f"{where}.EMBED_DIM: has no effect with TEACHER_ADAPTER: none; remove one of them"
        )
    if not options.weighting.startswith("softmax") and "TEMPERATURE" in settings:
        raise ConfigError(
            f"{where}.TEMPERATURE: has no effect with WEIGHTING: {options.weighting}; remove one of them"
        )
    if options.distance == "frobenius" and options.weighting != "none":
        raise ConfigError(
            f"{where}.DISTANCE: frobenius has no place for weights; it needs WEIGHTING: none, "
            f"not {options.weighting}"
        )
