"""The distillation methods once more, each as its file's formula says, in numpy and float64, sharing no code with it.

Arrays: s, t features (N, C) of student and teacher, frames (N,), maps (B, C, H, W).
"""

from __future__ import annotations

import numpy as np


def gradient(function, values, step=1e-6):
    """Central differences of a scalar ``function`` at ``values``."""
    slopes = np.zeros_like(values)
    for place in np.ndindex(values.shape):
        up, down = values.copy(), values.copy()
        up[place] += step
        down[place] -= step
        slopes[place] = (function(up) - function(down)) / (2 * step)
    return slopes


def softmax(values):
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def fitnets(s, t, matrix, bias):
    return 0.5 * np.mean((s @ matrix.T + bias - t) ** 2)


def attention_transfer(s, t, frames, power):
    total = 0.0
    for frame in np.unique(frames):
        own, theirs = ((np.abs(side[frames == frame]) ** power).sum(1) for side in (s, t))
        total += ((own / np.sqrt((own**2).sum()) - theirs / np.sqrt((theirs**2).sum())) ** 2).sum()
    return total / len(np.unique(frames))


def similarity(s, t):
    """Rows (n, D) of what is compared with each other."""

    def alike(rows):
        gram = np.array([[a @ b for b in rows] for a in rows])
        return gram / np.sqrt((gram**2).sum(1))[:, None]

    return ((alike(s) - alike(t)) ** 2).sum() / len(s) ** 2


def surest(score, frames, count):
    """The ``count`` rows of highest score in each frame."""
    chosen = []
    for frame in np.unique(frames):
        rows = np.flatnonzero(frames == frame)
        chosen += sorted(rows, key=lambda row: -score[row])[:count]
    return np.array(chosen)


def contrastive(s, t, own, theirs, temperature):
    """``own`` and ``theirs``: matrix and bias of an embedding."""
    unit = []
    for side, (matrix, bias) in ((s, own), (t, theirs)):
        values = side @ matrix.T + bias
        unit.append(values / np.sqrt((values**2).sum(1))[:, None])
    parts = [
        -np.log(softmax(unit[1] @ row / temperature)[place]) for place, row in enumerate(unit[0])
    ]
    return np.mean(parts)


def overhaul(s, t, matrix, gamma, beta, epsilon=1e-5):
    """The first training batch: its own margins and batch statistics."""
    margin = np.array([column[column < 0].mean() if (column < 0).any() else 0.0 for column in t.T])
    adapted = s @ matrix.T
    adapted = (adapted - adapted.mean(0)) / np.sqrt(adapted.var(0) + epsilon) * gamma + beta
    total = 0.0
    for row, column in np.ndindex(t.shape):
        target, value = max(t[row, column], margin[column]), adapted[row, column]
        total += 0.0 if value <= target <= 0 else (target - value) ** 2
    return total / t.size


def attention_nonlocal(s, seen, t, matrix, bias, weights, temperature, pool):
    """Maps; ``weights`` of attention, features under attention, relations. The masks are of ``seen``, not learned."""
    total = 0.0
    for own, mask, theirs in zip(s, seen, t):
        own, mask = (
            np.einsum("dc,chw->dhw", matrix, side) + bias[:, None, None] for side in (own, mask)
        )
        cells, masks = (
            [np.abs(side).mean(0) for side in pair] for pair in ((own, theirs), (mask, theirs))
        )
        channels, lanes = (
            [np.abs(side).mean((1, 2)) for side in pair] for pair in ((own, theirs), (mask, theirs))
        )
        attention = np.linalg.norm(cells[0] - cells[1]) + np.linalg.norm(channels[0] - channels[1])
        over_cells = (softmax((masks[0] + masks[1]).ravel() / temperature) * masks[0].size).reshape(
            masks[0].shape
        )
        over_channels = softmax((lanes[0] + lanes[1]) / temperature) * len(lanes[0])
        masked = np.sqrt(((theirs - own) ** 2 * over_cells * over_channels[:, None, None]).sum())
        told = [relations(side, pool) for side in (own, theirs)]
        total += np.dot(weights, [attention, masked, np.linalg.norm(told[0] - told[1])])
    return total / len(s)


def relations(feature, pool):
    """What all cells of (C, H, W) tell each of them, of maxima over ``pool`` x ``pool`` cells."""
    channels, height, width = feature.shape
    cells = np.array(
        [
            feature[:, y : y + pool, x : x + pool].max((1, 2))
            for y in range(0, height, pool)
            for x in range(0, width, pool)
        ]
    )
    return np.array([softmax(cells @ cell / np.sqrt(channels)) @ cells for cell in cells])


def in_box_units(place, box):
    """How far a place is from a box's centre along and across it, in lengths and widths."""
    turned = complex(*(place[:2] - box[:2])) * np.exp(-1j * box[6])
    return turned.real / box[3], turned.imag / box[4]


def gaussian_mask(coords, frames, boxes, sigma):
    """Of the nearest object; nothing beyond three sigmas."""
    weights = np.zeros(len(coords))
    for row, frame in enumerate(frames):
        for box in boxes[frame][boxes[frame][:, 3] > 0]:
            square = sum(part**2 for part in in_box_units(coords[row], box)) / sigma**2
            if square <= 9:
                weights[row] = max(weights[row], np.exp(-square / 2))
    return weights


def box_mask(coords, frames, boxes):
    return np.array(
        [
            float(
                any(
                    box[3] > 0 and max(map(abs, in_box_units(place, box))) < 0.5
                    for box in boxes[frame]
                )
            )
            for place, frame in zip(coords, frames)
        ]
    )


def score_mask(score, frames):
    largest = {frame: max(1.0, score[frames == frame].max()) for frame in np.unique(frames)}
    return np.array([max(0.0, value) / largest[frame] for value, frame in zip(score, frames)])


def masked_imitation(s, t, matrix, bias, weights):
    """The first training batch, whose own statistics standardise the teacher."""
    mean = (weights[:, None] * t).sum(0) / weights.sum()
    spread = np.sqrt((weights[:, None] * t**2).sum(0) / weights.sum() - mean**2)
    return (
        ((s @ matrix.T + bias - (t - mean) / spread) ** 2).mean(1) * weights
    ).sum() / weights.sum()


def cross_entropy(p, q):
    return -(q * np.log(p) + (1 - q) * np.log(1 - p))


def logit_box(logits, codes, teacher_logits, teacher_codes, threshold, weights):
    """``weights`` of scores and boxes."""
    s, t = sigmoid(logits), sigmoid(teacher_logits)
    confidence = t.max(1)
    sure = confidence > threshold
    scores = (cross_entropy(s, t) - cross_entropy(t, t)).sum() / sure.sum()
    gap = np.abs(codes - teacher_codes)
    smooth = np.where(gap < 1 / 9, gap**2 * 9 / 2, gap - 1 / 18)
    return weights[0] * scores + weights[1] * (confidence * smooth.sum(1))[sure].sum() / sure.sum()


def pivotal_logit(logits, codes, teacher_logits, teacher_codes, pivots, weights):
    """``pivots`` (N,): the weight of each position."""
    s, t = sigmoid(logits), sigmoid(teacher_logits)
    scores = ((s - t) ** 2).sum(1)
    boxes = t.max(1) * np.abs(codes - teacher_codes).mean(1)
    return (pivots * (weights[0] * scores + weights[1] * boxes)).sum() / pivots.sum()


def overlap(first, second):
    """Bird's eye IoU of two boxes that stand along the axes."""
    sides = []
    for box in (first, second):
        length, width = (box[3], box[4]) if abs(np.sin(box[6])) < 0.5 else (box[4], box[3])
        sides.append(
            [(box[0] - length / 2, box[0] + length / 2), (box[1] - width / 2, box[1] + width / 2)]
        )
    shared = np.prod([max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a, b in zip(*sides)])
    return shared / (first[3] * first[4] + second[3] * second[4] - shared)


def localisation(codes, teacher_codes, teacher_logits, teacher_boxes, frames, labels, options):
    """``options``: temperature, IoU of the main and of the valuable region, weight of the latter, least score."""
    temperature, main, valuable, weight, least = options
    total, counted = 0.0, 0.0
    for row, frame in enumerate(frames):
        best = max(
            [overlap(teacher_boxes[row], label) for label in labels[frame] if label[3] > 0],
            default=0.0,
        )
        share = 1.0 if best > main else weight if best > valuable else 0.0
        if sigmoid(teacher_logits[row]).max() > least:
            gap = np.abs(codes[row] - teacher_codes[row]) / temperature
            total += share * (gap + np.exp(-gap) - 1).sum()
            counted += share
    return total / counted


def joined_labels(labels, boxes, scores, classes, threshold, most):
    """The labels (G, 8) of a frame and the teacher's boxes that are sure and stand where no label of their class is."""
    added = [
        [*box, kind]
        for box, score, kind in zip(boxes, scores, classes)
        if score > threshold
        and all(overlap(box, label) <= most for label in labels if label[7] == kind)
    ]
    return [*labels, *added]
