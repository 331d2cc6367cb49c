"""Every tap of every detector has the right places: added points change only the nodes nearby."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pcdet_distill.config import load_config
from pcdet_distill.datasets.collate import collate_items
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.datasets.view import PointView
from pcdet_distill.distill.term_inputs import NodeInput, TapSource
from pcdet_distill.models import build_network, load_data_to_device
from pcdet_distill.models.taps import capture

LIMITS = [0, -12.8, -3, 25.6, 12.8, 1]
HEAP = np.array([19.1, -7.3, -0.9])
REACH_M = 1.4  # the largest cells, that also smear what is upsampled from them
STORED = ["x", "y", "z", "intensity"]
DETECTORS = [
    "pointpillar",
    "second",
    "second_multihead",
    "centerpoint_pillar",
    "centerpoint_voxel",
    "pillarnet",
    "pv_rcnn",
    "pv_rcnn_plusplus_reproduced_by_community",
    "PartA2",
]


def batch_of(config, clouds):
    """The batch of these clouds, one a frame."""
    view = PointView(config.DATA_CONFIG, STORED, training=True)
    batch = collate_items([view.make(cloud, np.random.RandomState(0)) for cloud in clouds])
    load_data_to_device(batch, "cpu")
    return batch


def clouds():
    """Scattered points; the same and a heap."""
    random = np.random.RandomState(0)
    scattered = random.uniform([*LIMITS[:3], 0], [*LIMITS[3:], 1], (300, 4)).astype(np.float32)
    heap = np.column_stack(
        [HEAP + random.normal(0, 0.1, (60, 3)), random.uniform(0, 1, 60)]
    ).astype(np.float32)
    return scattered, np.concatenate([scattered, heap])


def changes(nodes):
    """Places (N, 3) of all nodes of two frames, and how much their features differ (N,)."""
    places, index = torch.unique(nodes.coords, dim=0, return_inverse=True)
    sign = 1.0 - 2.0 * nodes.batch_index[:, None]
    difference = torch.zeros(len(places), nodes.features.shape[1]).index_add_(
        0, index, sign * nodes.features
    )
    return places, difference.norm(dim=1)


@pytest.mark.parametrize("name", DETECTORS)
def test_nodes_stand_where_the_points_are(repo: Path, name: str) -> None:
    config = load_config(
        repo / "cfgs" / "kitti_models" / f"{name}.yaml",
        ["DATA_CONFIG.POINT_CLOUD_RANGE", str(LIMITS)],
    )
    spec = DataSpec.from_config(config.DATA_CONFIG, config.CLASS_NAMES)
    torch.manual_seed(0)
    model = build_network(
        config.MODEL, len(config.CLASS_NAMES), spec
    ).train()  # untrained statistics hide a lot
    taps = [tap for tap in model.taps().values() if tap.kind in ("voxel", "bev", "sparse")]
    source = TapSource.of("teacher", model, spec)
    batch = batch_of(config, clouds())
    paths = [tap.path for tap in taps]
    with torch.no_grad(), capture(model, paths, stop_when_complete=True) as features:
        model.run_modules(batch)
    for tap in taps:
        grid = source.node_grid(tap, "TERM")
        nodes = NodeInput(tap, grid).read(features, batch, detached=True)
        assert nodes.features.shape[1] == tap.channels, tap.path
        places, amounts = changes(nodes)
        strongest = places[amounts > 0.5 * amounts.max()].mean(dim=0)
        apart_m = np.abs(strongest[:2].numpy() - HEAP[:2])
        assert (apart_m <= REACH_M).all(), f"{tap.path}: {apart_m} m beside the heap"
