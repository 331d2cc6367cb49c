"""InterchangeLoss: values and gradients against numpy, and why it does not collapse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_nodes import nodes, tap
from test_numpy_methods import OBJECTNESS, S, T, agrees, built, node_pair, weights_of

from pcdet_distill.distill.losses.interchange import InterchangeLoss, InterchangeOptions


def network(layers, rows):
    """Two linear layers with a ReLU between them."""
    (first, first_bias), (second, second_bias) = layers
    return np.maximum(rows @ first.T + first_bias, 0) @ second.T + second_bias


def interchange(s, adapter, encoder, decoder, weights, part_weights):
    """The decompressed teacher is compared with the student's feature S as a constant."""
    matrix, bias = adapter
    adapted = s @ matrix.T + bias
    constant = S @ matrix.T + bias
    target = (T - T.mean(0)) / T.std(0)
    code = network(encoder, adapted)
    target_code = network(encoder, target)
    compressed = (weights * ((code - target_code) ** 2).mean(1)).sum() / weights.sum()
    there = ((network(decoder, code) - target) ** 2).mean()
    back = ((network(decoder, target_code) - constant) ** 2).mean()
    return part_weights[0] * compressed + part_weights[1] * (there + back)


@pytest.mark.parametrize(
    "options, weights",
    [
        ({"SCORE": "objectness"}, OBJECTNESS + 0.05),
        ({"SCORE": "objectness", "BACKGROUND": 0.5, "COMPRESSED": 2}, OBJECTNESS + 0.5),
        ({"SCORE": "none", "COMPRESSED_WEIGHT": 3.0, "INTERCHANGE_WEIGHT": 0.5}, np.ones(10)),
    ],
)
def test_against_numpy(options, weights):
    loss = built("InterchangeLoss", **options)
    part_weights = (loss.options.compressed_weight, loss.options.interchange_weight)
    layers = [[weights_of(part[0]), weights_of(part[2])] for part in (loss.encoder, loss.decoder)]
    agrees(
        loss,
        node_pair,
        lambda s: interchange(s, weights_of(loss.adapter), *layers, weights, part_weights),
        S,
    )


def test_an_encoder_that_forgets_everything_still_costs():
    """Its codes are equal, but nothing can be decompressed from them."""
    loss = InterchangeLoss(tap(3), tap(4), InterchangeOptions(score="none"))
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.zero_()
    value = loss(nodes(S), nodes(T), {})
    assert loss.logs["compressed"] == 0
    assert value.item() == pytest.approx(1, abs=1e-4)  # the variance of the standardised target


def test_training_it_does_not_shrink_the_students_features():
    torch.manual_seed(0)
    loss = InterchangeLoss(tap(3), tap(4), InterchangeOptions(score="none", compressed=4))
    theirs = torch.randn(200, 4)
    own = theirs @ torch.randn(4, 3)
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        loss(nodes(own), nodes(theirs), {}).backward()
        optimizer.step()
    assert loss.adapter(own).std(dim=0).mean() > 0.3
