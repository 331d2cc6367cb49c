"""The options of GraphDistillLoss, its presets, and which options exclude each other."""

from __future__ import annotations

import dataclasses

from ...config import nearest, option, read_options
from ...errors import ConfigError
from ...models.taps import TapInfo
from ...types import ConfigDict
from .edges import EDGE_FORMS, ELEMENT_DISTANCES, POOLS

PRESETS = ("default", "official")


@dataclasses.dataclass(frozen=True)
class GraphOptions:
    """Every choice of the method; the defaults are those of PRESET: default.

    A query is a node whose local graph is compared; K is NUM_NEIGHBORS.
    """

    num_nodes: float = option(
        1500.0,
        above=0,
        help="queries of each frame (with MIX_FRAMES of the batch); a number below 1 is a share of "
        "the nodes",
    )
    num_neighbors: int = option(
        32, above=0, help="K, the neighbours of a query; the first of them is the query itself"
    )
    embed_dim: int = option(
        32, above=0, help="output channels of the adapters; not with TEACHER_ADAPTER: none"
    )
    edge: str = option(
        "concat",
        choices=EDGE_FORMS,
        help="features of an edge. concat: [neighbour ; query]. difference: [query - neighbour ; "
        "query]",
    )
    pool: str = option(
        "none",
        choices=POOLS,
        help="none: compare every edge. max, mean: pool the edges of a query first",
    )
    score: str = option(
        "objectness",
        choices=("saliency", "channel_max", "norm", "objectness"),
        help="importance of a node. saliency: number of points of a voxel, or largest channel of a "
        "map cell or point; also the default for a teacher that publishes no class scores. "
        "channel_max, norm: largest channel or norm of the teacher's feature. objectness: largest "
        "class score of the teacher's head at this place",
    )
    sampling: str = option(
        "top",
        choices=("top", "bottom", "random"),
        help="take the nodes of the highest or lowest score as queries, or random ones",
    )
    weighting: str = option(
        "softmax",
        choices=("none", "softmax", "softmax_raw", "batch_size"),
        help="weights of the queries. none: equal. softmax: softmax of the scores, after scaling "
        "them to 0..1 in each frame. softmax_raw: softmax of the scores as they are. batch_size: "
        "all equal to the batch size, as published for SECOND. Both softmaxes have a mean of 1",
    )
    temperature: float = option(
        0.5, above=0, help="of the softmax; a small one gives few queries all the weight"
    )
    distance: str = option(
        "mse",
        choices=(*ELEMENT_DISTANCES, "published", "frobenius"),
        help="distance between edges. published: twice the weighted mean square. frobenius, also "
        "published: 5e-4 times the norm of all differences, without weights",
    )
    teacher_adapter: str = option(
        "frozen",
        choices=("trained", "frozen", "none"),
        help="trained: as published, with ReLU in both adapters. frozen: a fixed random projection "
        "with standardised output. none: no projection, the target is the teacher's standardised "
        "edge",
    )
    neighbor_space: str = option(
        "feature",
        choices=("feature", "metres"),
        help="neighbours are near in the teacher's feature space, or in metres",
    )
    mix_frames: bool = option(
        False, help="queries, neighbours and weights over the whole batch, as published"
    )
    preset: str = option(
        "default",
        choices=PRESETS,
        help="values of all other keys. default: ours. official: those of the published code for "
        "the student's kind of nodes. A key that is given has precedence",
    )


# PRESET: official, by the kind of the student's tap. The published code differs in each.
OFFICIAL = {
    "voxel": GraphOptions(
        num_nodes=6000.0,
        num_neighbors=128,
        score="saliency",
        weighting="softmax_raw",
        temperature=0.01,
        distance="published",
        teacher_adapter="trained",
        mix_frames=True,
        preset="official",
    ),
    "bev": GraphOptions(
        num_nodes=256.0,
        num_neighbors=128,
        score="saliency",
        weighting="batch_size",
        distance="published",
        teacher_adapter="trained",
        preset="official",
    ),
    "point": GraphOptions(
        num_nodes=6000.0,
        num_neighbors=128,
        score="saliency",
        pool="max",
        weighting="none",
        distance="published",
        teacher_adapter="trained",
        preset="official",
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
            f"{where}.PRESET: nothing is published for {student.kind} nodes, only for "
            f"{', '.join(OFFICIAL)}; use default"
        )
    options = OFFICIAL[student.kind]
    if student.kind == "point":
        # The published adapters for PointRCNN are as wide as the student's own features.
        options = dataclasses.replace(options, embed_dim=student.channels)
    return options


def graph_options(
    cfg: ConfigDict, student: TapInfo, where: str, also_known: tuple[str, ...] = ()
) -> GraphOptions:
    """The options of a term's block.

    Args:
        cfg: the options, in capitals.
        student: the student's tap; PRESET: official depends on its kind.
        where: key path of the block, for errors.
        also_known: keys of the term, to suggest for an unknown one.
    """
    preset = preset_options(str(cfg.get("PRESET") or "default"), student, where)
    options = read_options(preset, cfg, where, also_known=also_known)
    _refuse_keys_without_effect(options, cfg, where)
    return options


def _refuse_keys_without_effect(options: GraphOptions, cfg: ConfigDict, where: str) -> None:
    if options.num_nodes > 1 and options.num_nodes != int(options.num_nodes):
        raise ConfigError(
            f"{where}.NUM_NODES: expected a whole number, or a fraction below 1, "
            f"found {options.num_nodes}"
        )
    if options.teacher_adapter == "none" and "EMBED_DIM" in cfg:
        raise ConfigError(
            f"{where}.EMBED_DIM: has no effect with TEACHER_ADAPTER: none; remove one of them"
        )
    if not options.weighting.startswith("softmax") and "TEMPERATURE" in cfg:
        raise ConfigError(
            f"{where}.TEMPERATURE: has no effect with WEIGHTING: {options.weighting}; "
            "remove one of them"
        )
    if options.distance == "frobenius" and options.weighting != "none":
        raise ConfigError(
            f"{where}.DISTANCE: frobenius has no place for weights; it needs WEIGHTING: none, "
            f"not {options.weighting}"
        )
