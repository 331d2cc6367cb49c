"""Every method against numpy_methods.py on random numbers: value and gradient."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy_methods as plain
import pytest
import torch
from made_nodes import map_nodes, nodes, tap
from made_predictions import PlainForm

from pcdet_distill.distill.batch_transforms.labels import TeacherLabelOptions, TeacherLabels
from pcdet_distill.distill.losses import DISTILL_LOSSES
from pcdet_distill.distill.node_converters import bev_nodes
from pcdet_distill.distill.predictions import Predictions

CHANNELS = 3
THEIRS = 4
FRAMES = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
RNG = np.random.default_rng(7)
S = RNG.normal(size=(10, CHANNELS))
T = RNG.normal(size=(10, THEIRS))
COORDS = RNG.uniform(-3, 3, size=(10, 3))
SALIENCY = RNG.uniform(0, 5, size=10)
OBJECTNESS = RNG.uniform(size=10)
MAP_S = RNG.normal(size=(2, CHANNELS, 4, 5))
MAP_T = RNG.normal(size=(2, THEIRS, 4, 5))
LABELS = np.array(
    [
        [[0.5, 0.3, 0, 4.0, 2.0, 1.5, 0.4, 1], [0] * 8],
        [[-1.0, 1.0, 0, 2.0, 3.0, 1.5, -1.0, 2], [1.5, -1.0, 0, 3.0, 1.0, 1.5, 2.0, 1]],
    ]
)


def built(name, **options):
    torch.manual_seed(3)
    loss = (
        DISTILL_LOSSES[name].from_config(options, tap(CHANNELS), tap(THEIRS), "T").double().train()
    )
    for parameter in loss.parameters():
        torch.nn.init.normal_(parameter)
    return loss


def weights_of(linear):
    return [part.detach().numpy() for part in (linear.weight, linear.bias) if part is not None]


def agrees(loss, make, expected, values, *, relative=1e-9):
    """``loss`` of ``make(tensor)`` equals ``expected(array)``, and so does its gradient."""
    leaf = torch.tensor(values, requires_grad=True)
    value = loss(*make(leaf), {"gt_boxes": torch.tensor(LABELS)})
    value.backward()
    assert value.item() == pytest.approx(expected(values), rel=relative, abs=1e-12)
    assert value.item() != 0
    np.testing.assert_allclose(
        leaf.grad.numpy(),
        plain.gradient(expected, values),
        rtol=max(relative, 1e-5),
        atol=max(relative, 1e-7),
    )


def node_pair(leaf):
    made = nodes(S, FRAMES.tolist(), COORDS), nodes(T, FRAMES.tolist(), COORDS)
    own, theirs = (dataclasses.replace(side, coords=torch.tensor(COORDS)) for side in made)
    return (
        dataclasses.replace(own, features=leaf),
        dataclasses.replace(
            theirs,
            features=torch.tensor(T),
            saliency=torch.tensor(SALIENCY),
            objectness=torch.tensor(OBJECTNESS),
        ),
    )


def map_pair(leaf):
    grid = map_nodes(torch.zeros(1, 1, 4, 5)).grid
    return bev_nodes(leaf, {}, grid), bev_nodes(torch.tensor(MAP_T), {}, grid)


def plain_map_pair(leaf):
    return leaf, torch.tensor(MAP_T)


def test_fitnets():
    loss = built("FeatureMimicLoss")
    agrees(loss, node_pair, lambda s: plain.fitnets(s, T, *weights_of(loss.adapter)), S)


@pytest.mark.parametrize("power", [1, 2, 3.5])
def test_attention_transfer(power):
    agrees(
        built("AttentionTransferLoss", POWER=power),
        node_pair,
        lambda s: plain.attention_transfer(s, T, FRAMES, power),
        S,
    )


def test_similarity_of_frames():
    agrees(
        built("SimilarityLoss"),
        map_pair,
        lambda s: plain.similarity(s.reshape(2, -1), MAP_T.reshape(2, -1)),
        MAP_S,
    )


@pytest.mark.parametrize("score", ["saliency", "objectness"])
def test_similarity_of_nodes(score):
    rows = plain.highest({"saliency": SALIENCY, "objectness": OBJECTNESS}[score], FRAMES, 3)
    agrees(
        built("SimilarityLoss", OVER="nodes", NUM_NODES=3, SCORE=score),
        node_pair,
        lambda s: np.mean([plain.similarity(s[part], T[part]) for part in (rows[:3], rows[3:])]),
        S,
    )


def test_contrastive():
    loss = built("ContrastiveLoss", NUM_NODES=3, EMBED_DIM=5, TEMPERATURE=0.3)
    rows = plain.highest(SALIENCY, FRAMES, 3)
    agrees(
        loss,
        node_pair,
        lambda s: plain.contrastive(
            s[rows],
            T[rows],
            weights_of(loss.student_embedding),
            weights_of(loss.teacher_embedding),
            0.3,
        ),
        S,
    )


def test_overhaul():
    loss = built("OverhaulLoss")
    agrees(
        loss,
        node_pair,
        lambda s: plain.overhaul(s, T, *weights_of(loss.adapter), *weights_of(loss.norm)),
        S,
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"POOL": 1, "MASKED_WEIGHT": 0},
        {
            "POOL": 2,
            "ATTENTION_WEIGHT": 0.1,
            "MASKED_WEIGHT": 2,
            "NONLOCAL_WEIGHT": 0.5,
            "TEMPERATURE": 2,
        },
    ],
)
def test_attention_nonlocal(options):
    loss = built("AttentionNonlocalLoss", **options)
    matrix, bias = weights_of(loss.adapter)
    chosen = loss.options
    weights = [chosen.attention_weight, chosen.masked_weight, chosen.nonlocal_weight]
    agrees(
        loss,
        plain_map_pair,
        lambda s: plain.attention_nonlocal(
            s, MAP_S, MAP_T, matrix[:, :, 0, 0], bias, weights, chosen.temperature, chosen.pool
        ),
        MAP_S,
    )


@pytest.mark.parametrize(
    "options, mask",
    [
        ({}, lambda: plain.gaussian_mask(COORDS, FRAMES, LABELS, 0.5)),
        ({"SIGMA": 1.5, "BACKGROUND": 0}, lambda: plain.gaussian_mask(COORDS, FRAMES, LABELS, 1.5)),
        ({"MASK": "box"}, lambda: plain.box_mask(COORDS, FRAMES, LABELS)),
        ({"MASK": "score", "SCORE": "saliency"}, lambda: plain.score_mask(SALIENCY, FRAMES)),
        ({"MASK": "score", "SCORE": "objectness"}, lambda: plain.score_mask(OBJECTNESS, FRAMES)),
    ],
)
def test_masked_imitation(options, mask):
    loss = built("MaskedImitationLoss", **options)
    weights = mask() + options.get("BACKGROUND", 0.05)
    assert (weights > 0.06).any()
    assert not np.allclose(weights, weights[0])
    agrees(
        loss,
        node_pair,
        lambda s: plain.masked_imitation(s, T, *weights_of(loss.adapter), weights),
        S,
    )


LOGITS = RNG.normal(size=(10, 2))
TEACHER_LOGITS = RNG.normal(-0.5, 1, size=(10, 2))
CODES = RNG.normal(scale=0.3, size=(10, 7))
TEACHER_CODES = RNG.normal(scale=0.3, size=(10, 7))
REFERENCES = np.array(
    [
        [x, y, 0, 4.0, 2.0, 1.5, heading]
        for x, y, heading in zip(RNG.uniform(-2, 2, 10), RNG.uniform(-1, 1, 10), [0, np.pi / 2] * 5)
    ]
)
TEACHER_CODES[:, 6] = 0  # the teacher's boxes stand along the axes
UPRIGHT = LABELS * np.array([1, 1, 1, 1, 1, 1, 0, 1])


def prediction_pair(logits, codes):
    def side(logits, codes):
        return Predictions(
            logits,
            codes,
            torch.tensor(FRAMES),
            torch.tensor(COORDS),
            torch.tensor(REFERENCES),
            PlainForm(),
        )

    return side(logits, codes), side(torch.tensor(TEACHER_LOGITS), torch.tensor(TEACHER_CODES))


def both_agree(loss, expected):
    agrees(
        loss,
        lambda leaf: prediction_pair(leaf, torch.tensor(CODES)),
        lambda logits: expected(logits, CODES),
        LOGITS,
    )
    agrees(
        loss,
        lambda leaf: prediction_pair(torch.tensor(LOGITS), leaf),
        lambda codes: expected(LOGITS, codes),
        CODES,
    )


@pytest.mark.parametrize("threshold, weights", [(0.1, (1.0, 1.0)), (0.5, (0.5, 2.0))])
def test_logit_box(threshold, weights):
    loss = built(
        "LogitBoxLoss", SCORE_THRESH=threshold, LOGIT_WEIGHT=weights[0], BOX_WEIGHT=weights[1]
    )
    both_agree(
        loss,
        lambda logits, codes: plain.logit_box(
            logits, codes, TEACHER_LOGITS, TEACHER_CODES, threshold, weights
        ),
    )


@pytest.mark.parametrize("select", ["confidence", "top_k", "rank", "gaussian"])
def test_pivotal_logit(select):
    confidence = plain.sigmoid(TEACHER_LOGITS).max(1)
    pivots = {
        "confidence": (confidence > 0.4).astype(float),
        "gaussian": plain.gaussian_mask(COORDS, FRAMES, LABELS, 0.7),
    }.get(select, np.zeros(10))
    if select in ("top_k", "rank"):
        pivots[plain.highest(confidence, FRAMES, 3)] = (
            [1, 2 / 3, 1 / 3] * 2 if select == "rank" else 1
        )
    loss = built(
        "PivotalLogitLoss",
        SELECT=select,
        SCORE_THRESH=0.4,
        NUM_POSITIONS=3,
        SIGMA=0.7,
        CLS_WEIGHT=2,
        BOX_WEIGHT=0.5,
    )
    both_agree(
        loss,
        lambda logits, codes: plain.pivotal_logit(
            logits, codes, TEACHER_LOGITS, TEACHER_CODES, pivots, (2, 0.5)
        ),
    )


def test_localisation(monkeypatch):
    monkeypatch.setitem(globals(), "LABELS", UPRIGHT)
    options = (0.2, 0.3, 0.1, 0.4, 0.35)
    names = ("TEMPERATURE", "MAIN_IOU", "VALUABLE_IOU", "VALUABLE_WEIGHT", "SCORE_THRESH")
    best = []
    for box, frame in zip(TEACHER_CODES + REFERENCES, FRAMES):
        overlaps = [plain.overlap(box, label) for label in UPRIGHT[frame] if label[3]]
        best.append(max(overlaps))
    # both regions, and outside of them
    assert min(best) < 0.1 < sorted(best)[5]
    assert max(best) > 0.3
    agrees(
        built("LocalisationLoss", **dict(zip(names, options))),
        lambda leaf: prediction_pair(torch.tensor(LOGITS), leaf),
        lambda codes: plain.localisation(
            codes,
            TEACHER_CODES,
            TEACHER_LOGITS,
            TEACHER_CODES + REFERENCES,
            FRAMES,
            UPRIGHT,
            options,
        ),
        CODES,
    )


def test_teacher_labels():
    boxes = np.concatenate([TEACHER_CODES + REFERENCES, UPRIGHT[0, :1, :7] + 0.05])
    scores = RNG.uniform(size=11)
    classes = RNG.integers(1, 3, size=11)
    # stands on the label of its class
    scores[-1] = 0.9
    classes[-1] = 1
    said = {
        "pred_boxes": torch.tensor(boxes),
        "pred_scores": torch.tensor(scores),
        "pred_labels": torch.tensor(classes),
    }
    loss = TeacherLabels(TeacherLabelOptions(score_thresh=0.3, max_overlap=0.2))
    expected = plain.joined_labels(
        UPRIGHT[0, :1].tolist(), boxes.tolist(), scores, classes, 0.3, 0.2
    )
    assert 1 < len(expected) < (scores > 0.3).sum() + 1
    found = loss.labels_of_frame(torch.tensor(UPRIGHT[0]), said)
    np.testing.assert_allclose(found.numpy(), expected)
