"""The distillation methods in numpy, written from their formulas and without their code.

Arrays: ``s``, ``t`` are features (N, C) of student and teacher, ``frames`` is (N,), maps are
(B, C, H, W).
"""

from __future__ import annotations

import numpy as np


def gradient(function, values, step=1e-6):
    """Central differences of a scalar ``function`` at ``values``."""
    slopes = np.zeros_like(values)
    for place in np.ndindex(values.shape):
        above = values.copy()
        below = values.copy()
        above[place] += step
        below[place] -= step
        slopes[place] = (function(above) - function(below)) / (2 * step)
    return slopes


def softmax(values):
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def normalise_rows(rows):
    """Rows divided by their norms."""
    return rows / np.sqrt((rows**2).sum(1))[:, None]


def fitnets(s, t, matrix, bias):
    return 0.5 * np.mean((s @ matrix.T + bias - t) ** 2)


def attention_transfer(s, t, frames, power):
    total = 0.0
    for frame in np.unique(frames):
        student = (np.abs(s[frames == frame]) ** power).sum(1)
        teacher = (np.abs(t[frames == frame]) ** power).sum(1)
        student = student / np.sqrt((student**2).sum())
        teacher = teacher / np.sqrt((teacher**2).sum())
        total += ((student - teacher) ** 2).sum()
    return total / len(np.unique(frames))


def similarity(s, t):
    """Rows (n, D) of what is compared with each other."""
    difference = similarity_matrix(s) - similarity_matrix(t)
    return (difference**2).sum() / len(s) ** 2


def similarity_matrix(rows):
    products = np.zeros((len(rows), len(rows)))
    for first, second in np.ndindex(products.shape):
        products[first, second] = rows[first] @ rows[second]
    return normalise_rows(products)


def highest(score, frames, count):
    """The ``count`` rows of the highest score in each frame."""
    chosen = []
    for frame in np.unique(frames):
        rows = np.flatnonzero(frames == frame)
        chosen += sorted(rows, key=lambda row: -score[row])[:count]
    return np.array(chosen)


def contrastive(s, t, student_embedding, teacher_embedding, temperature):
    """An embedding is a matrix and a bias."""
    matrix, bias = student_embedding
    student = normalise_rows(s @ matrix.T + bias)
    matrix, bias = teacher_embedding
    teacher = normalise_rows(t @ matrix.T + bias)
    losses = []
    for place, row in enumerate(student):
        probabilities = softmax(teacher @ row / temperature)
        losses.append(-np.log(probabilities[place]))
    return np.mean(losses)


def overhaul(s, t, matrix, gamma, beta, epsilon=1e-5):
    """On the first training batch, which gives its own margins and batch statistics."""
    adapted = s @ matrix.T
    adapted = (adapted - adapted.mean(0)) / np.sqrt(adapted.var(0) + epsilon) * gamma + beta
    total = 0.0
    for row, column in np.ndindex(t.shape):
        negative = t[t[:, column] < 0, column]
        margin = negative.mean() if len(negative) else 0.0
        target = max(t[row, column], margin)
        value = adapted[row, column]
        if not value <= target <= 0:
            total += (target - value) ** 2
    return total / t.size


def attention_nonlocal(s, mask_s, t, matrix, bias, weights, temperature, pool):
    """Maps. The attention masks are made of ``mask_s``: they are constants.

    ``weights`` are those of attention, features under attention, and relations.
    """
    total = 0.0
    for student, constant, teacher in zip(s, mask_s, t):
        student = adapt_map(student, matrix, bias)
        constant = adapt_map(constant, matrix, bias)
        parts = [
            np.linalg.norm(cell_attention(student) - cell_attention(teacher))
            + np.linalg.norm(channel_attention(student) - channel_attention(teacher)),
            masked_distance(student, constant, teacher, temperature),
            np.linalg.norm(relations(student, pool) - relations(teacher, pool)),
        ]
        total += np.dot(weights, parts)
    return total / len(s)


def adapt_map(feature, matrix, bias):
    """A 1x1 convolution of a map (C, H, W)."""
    return np.einsum("dc,chw->dhw", matrix, feature) + bias[:, None, None]


def cell_attention(feature):
    """(H, W) of (C, H, W)."""
    return np.abs(feature).mean(0)


def channel_attention(feature):
    """(C,) of (C, H, W)."""
    return np.abs(feature).mean((1, 2))


def masked_distance(student, constant, teacher, temperature):
    cells = cell_attention(constant) + cell_attention(teacher)
    cell_mask = softmax(cells.ravel() / temperature).reshape(cells.shape) * cells.size
    channels = channel_attention(constant) + channel_attention(teacher)
    channel_mask = softmax(channels / temperature) * len(channels)
    weighted = (teacher - student) ** 2 * cell_mask * channel_mask[:, None, None]
    return np.sqrt(weighted.sum())


def relations(feature, pool):
    """What all cells of (C, H, W) contribute to each, of maxima over ``pool`` x ``pool`` cells."""
    channels, height, width = feature.shape
    cells = []
    for y in range(0, height, pool):
        for x in range(0, width, pool):
            cells.append(feature[:, y : y + pool, x : x + pool].max((1, 2)))
    cells = np.array(cells)
    return np.array([softmax(cells @ cell / np.sqrt(channels)) @ cells for cell in cells])


def in_box_units(place, box):
    """Distance of a place from a box's centre along and across it, in lengths and widths."""
    offset = complex(*(place[:2] - box[:2])) * np.exp(-1j * box[6])
    return offset.real / box[3], offset.imag / box[4]


def gaussian_mask(coords, frames, boxes, sigma):
    """Of the nearest object; zero beyond three sigmas."""
    weights = np.zeros(len(coords))
    for row, frame in enumerate(frames):
        for box in boxes[frame]:
            if box[3] <= 0:
                continue
            along, across = in_box_units(coords[row], box)
            square = (along**2 + across**2) / sigma**2
            if square <= 9:
                weights[row] = max(weights[row], np.exp(-square / 2))
    return weights


def box_mask(coords, frames, boxes):
    weights = np.zeros(len(coords))
    for row, frame in enumerate(frames):
        for box in boxes[frame]:
            if box[3] <= 0:
                continue
            along, across = in_box_units(coords[row], box)
            if max(abs(along), abs(across)) < 0.5:
                weights[row] = 1.0
    return weights


def score_mask(score, frames):
    weights = np.zeros(len(score))
    for row, frame in enumerate(frames):
        largest = max(1.0, score[frames == frame].max())
        weights[row] = max(0.0, score[row]) / largest
    return weights


def masked_imitation(s, t, matrix, bias, weights):
    """On the first training batch, whose own statistics standardise the teacher."""
    mean = (weights[:, None] * t).sum(0) / weights.sum()
    spread = np.sqrt((weights[:, None] * t**2).sum(0) / weights.sum() - mean**2)
    difference = s @ matrix.T + bias - (t - mean) / spread
    return ((difference**2).mean(1) * weights).sum() / weights.sum()


def cross_entropy(p, q):
    return -(q * np.log(p) + (1 - q) * np.log(1 - p))


def logit_box(logits, codes, teacher_logits, teacher_codes, threshold, weights):
    """``weights`` are those of scores and boxes."""
    s = sigmoid(logits)
    t = sigmoid(teacher_logits)
    confidence = t.max(1)
    positive = confidence > threshold
    scores = (cross_entropy(s, t) - cross_entropy(t, t)).sum() / positive.sum()
    gap = np.abs(codes - teacher_codes)
    smooth = np.where(gap < 1 / 9, gap**2 * 9 / 2, gap - 1 / 18)
    boxes = (confidence * smooth.sum(1))[positive].sum() / positive.sum()
    return weights[0] * scores + weights[1] * boxes


def pivotal_logit(logits, codes, teacher_logits, teacher_codes, pivots, weights):
    """``pivots`` (N,) are the weights of the positions."""
    s = sigmoid(logits)
    t = sigmoid(teacher_logits)
    scores = ((s - t) ** 2).sum(1)
    boxes = t.max(1) * np.abs(codes - teacher_codes).mean(1)
    return (pivots * (weights[0] * scores + weights[1] * boxes)).sum() / pivots.sum()


def extent(box):
    """(x, y) minimum and maximum of a box whose sides are parallel to the axes."""
    is_along_x = abs(np.sin(box[6])) < 0.5
    size = np.array([box[3], box[4]] if is_along_x else [box[4], box[3]])
    centre = np.array(box[:2])
    return centre - size / 2, centre + size / 2


def overlap(first, second):
    """Bird's eye IoU of two boxes whose sides are parallel to the axes."""
    first_low, first_high = extent(first)
    second_low, second_high = extent(second)
    sides = np.minimum(first_high, second_high) - np.maximum(first_low, second_low)
    shared = np.prod(np.maximum(sides, 0.0))
    return shared / (first[3] * first[4] + second[3] * second[4] - shared)


def localisation(codes, teacher_codes, teacher_logits, teacher_boxes, frames, labels, options):
    """``options``: temperature, both IoUs, weight of the valuable region, least score."""
    temperature, main_iou, valuable_iou, valuable_weight, least_score = options
    total = 0.0
    total_weight = 0.0
    for row, frame in enumerate(frames):
        if sigmoid(teacher_logits[row]).max() <= least_score:
            continue
        overlaps = [overlap(teacher_boxes[row], label) for label in labels[frame] if label[3] > 0]
        best = max(overlaps, default=0.0)
        weight = 0.0
        if best > valuable_iou:
            weight = valuable_weight
        if best > main_iou:
            weight = 1.0
        gap = np.abs(codes[row] - teacher_codes[row]) / temperature
        total += weight * (gap + np.exp(-gap) - 1).sum()
        total_weight += weight
    return total / total_weight


def joined_labels(labels, boxes, scores, classes, threshold, max_overlap):
    """The labels (G, 8) of a frame, and the teacher's boxes that overlap none of their class."""
    joined = list(labels)
    for box, score, kind in zip(boxes, scores, classes):
        overlaps = [overlap(box, label) for label in labels if label[7] == kind]
        if score > threshold and max(overlaps, default=0.0) <= max_overlap:
            joined.append([*box, kind])
    return joined
