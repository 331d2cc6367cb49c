"""AttentionNonlocalLoss against the formulas, written once more with loops."""

from __future__ import annotations

from math import exp, sqrt

import pytest
import torch
from made_nodes import BEV, identity, tap

from pcdet_distill.distill.losses.attention_nonlocal import (
    AttentionNonlocalLoss,
    AttentionNonlocalOptions,
    attention_distance,
    masked_distance,
    relations,
)
from pcdet_distill.distill.nodes import NodeGrid
from pcdet_distill.distill.tap_source import TapSource
from pcdet_distill.distill.term_inputs import MapInput
from pcdet_distill.errors import ConfigError

STUDENT = torch.tensor([[[[1.0, -2.0]], [[0.0, 4.0]]]])  # one frame, two channels, 1 x 2 cells
TEACHER = torch.tensor([[[[0.0, 2.0]], [[3.0, 1.0]]]])


def test_attention():
    # Over cells (0.5, 3) against (1.5, 1.5); over channels (1.5, 2) against (1, 2).
    assert attention_distance(STUDENT, TEACHER).item() == pytest.approx(
        sqrt(1 + 2.25) + 0.5, abs=1e-6
    )


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_masked(temperature):
    cells = [exp((0.5 + 1.5) / temperature), exp((3 + 1.5) / temperature)]
    channels = [exp((1.5 + 1) / temperature), exp((2 + 2) / temperature)]
    total = 0.0
    for channel in (0, 1):
        for cell in (0, 1):
            mask = 2 * cells[cell] / sum(cells) * 2 * channels[channel] / sum(channels)
            total += (
                mask * (STUDENT[0, channel, 0, cell] - TEACHER[0, channel, 0, cell]).item() ** 2
            )
    assert masked_distance(STUDENT, TEACHER, temperature).item() == pytest.approx(
        sqrt(total), rel=1e-5
    )


def test_relations():
    first = exp(9 / sqrt(2))
    second = exp((0 * 2 + 3 * 1) / sqrt(2))
    share = first / (first + second)  # how much the teacher's first cell looks at itself
    expected = [share * 0 + (1 - share) * 2, share * 3 + (1 - share) * 1]
    assert relations(TEACHER, 1)[0, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert relations(torch.rand(2, 3, 5, 6), 4).shape == (2, 4, 3)


def loss_of(**options):
    weights = {"attention_weight": 0.0, "masked_weight": 0.0, "nonlocal_weight": 0.0, "pool": 1}
    loss = AttentionNonlocalLoss(tap(2), tap(2), AttentionNonlocalOptions(**{**weights, **options}))
    identity(loss.adapter)
    return loss(STUDENT, TEACHER, {}).item()


def test_every_option_acts():
    apart = (relations(STUDENT, 1) - relations(TEACHER, 1)).norm().item()
    pooled = (
        (STUDENT.amax(dim=3) - TEACHER.amax(dim=3)).norm().item()
    )  # one cell looks at itself alone
    assert loss_of(attention_weight=2.0) == pytest.approx(2 * (sqrt(3.25) + 0.5), rel=1e-5)
    assert loss_of(masked_weight=3.0) == pytest.approx(
        3 * masked_distance(STUDENT, TEACHER, 0.5).item(), rel=1e-5
    )
    assert loss_of(masked_weight=1.0, temperature=2.0) == pytest.approx(
        masked_distance(STUDENT, TEACHER, 2.0).item()
    )
    assert loss_of(nonlocal_weight=2.0) == pytest.approx(2 * apart, rel=1e-5)
    assert loss_of(nonlocal_weight=1.0, pool=2) == pytest.approx(pooled, rel=1e-5)
    assert apart != pytest.approx(pooled)


def test_frames_are_averaged():
    loss = AttentionNonlocalLoss(tap(2), tap(2))
    identity(loss.adapter)
    one = loss(STUDENT, TEACHER, {}).item()
    both = [torch.cat([TEACHER, side]) for side in (STUDENT, TEACHER)]
    assert loss(*both, {}).item() == pytest.approx(one / 2, rel=1e-3)


def test_only_whole_maps():
    source = TapSource("student", {BEV: tap(2, "voxel")}, NodeGrid((1, 1, 1), (0, 0, 0), (4, 4, 1)))
    with pytest.raises(
        ConfigError,
        match="AttentionNonlocalLoss compares whole maps, but tap .* gives voxel features",
    ):
        MapInput.pair(
            {"NAME": "AttentionNonlocalLoss", "STUDENT": BEV, "TEACHER": BEV}, source, source, "T"
        )
