"""The options of GraphDistillLoss: presets, blocks of yaml, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from pcdet_distill.distill.losses.graph import GraphDistillLoss, GraphOptions
from pcdet_distill.distill.losses.graph_options import OFFICIAL
from pcdet_distill.errors import ConfigError
from pcdet_distill.models.taps import TapInfo

STUDENT = TapInfo("s", 3, 1, "voxel")
TEACHER = TapInfo("t", 6, 1, "voxel")


def from_config(block, student=STUDENT):
    return GraphDistillLoss.from_config(block, student, TEACHER, "T")


def test_an_empty_block_gives_the_defaults():
    assert from_config({}).options == GraphOptions()


def test_a_key_beside_a_preset_has_precedence():
    module = from_config({"PRESET": "official", "NUM_NODES": 50, "EDGE": "difference"})
    expected = dataclasses.replace(OFFICIAL["voxel"], num_nodes=50, edge="difference")
    assert module.options == expected


def test_adapters_map_edges_to_the_embedding():
    """An edge holds two nodes: twice 3 channels of the student, twice 6 of the teacher."""
    module = from_config({"PRESET": "official"})
    assert module.student_adapter.weight.shape == (32, 6)
    assert module.teacher_adapter.weight.shape == (32, 12)


def test_without_a_teacher_adapter_the_student_predicts_the_teachers_edges():
    module = from_config({"TEACHER_ADAPTER": "none"})
    assert module.student_adapter.weight.shape == (12, 6)


@pytest.mark.parametrize("kind, width", [("voxel", 32), ("bev", 32), ("point", 3)])
def test_the_official_preset_follows_the_kind_of_nodes(kind, width):
    """The embedding of points is as wide as the student's features."""
    student = TapInfo("s", 3, 1, kind)
    module = from_config({"PRESET": "official"}, student)
    assert module.options == dataclasses.replace(OFFICIAL[kind], embed_dim=width)


def test_every_key_of_a_block_reaches_the_loss():
    other = GraphOptions(
        num_nodes=7.0,
        num_neighbors=3,
        embed_dim=8,
        edge="difference",
        pool="mean",
        score="norm",
        sampling="random",
        weighting="softmax_raw",
        temperature=0.1,
        distance="cosine",
        teacher_adapter="trained",
        neighbor_space="metres",
        mix_frames=True,
        preset="official",
    )
    values = dataclasses.asdict(other)
    usual = dataclasses.asdict(GraphOptions())
    assert all(values[name] != usual[name] for name in usual)
    block = {name.upper(): value for name, value in values.items()}
    assert from_config(block).options == other


@pytest.mark.parametrize(
    "cfg, words",
    [
        ({"NUM_NEIGBORS": 3}, ["T: unknown key 'NUM_NEIGBORS'", "NUM_NEIGHBORS"]),
        ({"STUDNT": "x"}, ["did you mean 'STUDENT'"]),
        ({"PRESET": "offical"}, ["T.PRESET", "did you mean 'official'"]),
        ({"POOL": "maximum"}, ["T.POOL", "max"]),
        ({"NUM_NEIGHBORS": 0}, ["T.NUM_NEIGHBORS", "above 0"]),
        ({"NUM_NEIGHBORS": 2.5}, ["whole number"]),
        ({"NUM_NODES": 2.5}, ["T.NUM_NODES", "fraction below 1"]),
        ({"TEMPERATURE": "hot"}, ["T.TEMPERATURE", "a number", "'hot'"]),
        ({"MIX_FRAMES": 1}, ["T.MIX_FRAMES", "true or false"]),
        ({"EMBED_DIM": True}, ["T.EMBED_DIM", "a whole number"]),
        ({"TEACHER_ADAPTER": "none", "EMBED_DIM": 8}, ["T.EMBED_DIM", "no effect"]),
        ({"WEIGHTING": "none", "TEMPERATURE": 0.1}, ["T.TEMPERATURE", "no effect"]),
        ({"DISTANCE": "frobenius"}, ["T.DISTANCE", "WEIGHTING: none", "not softmax"]),
    ],
)
def test_from_config_refuses(cfg, words):
    with pytest.raises(ConfigError) as error:
        from_config(cfg)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("kind", ["sparse", "roi"])
def test_official_is_refused_where_nothing_is_published(kind):
    student = dataclasses.replace(STUDENT, kind=kind)
    words = f"nothing is published for {kind} nodes, only for voxel, bev, point"
    with pytest.raises(ConfigError, match=words):
        from_config({"PRESET": "official"}, student)
