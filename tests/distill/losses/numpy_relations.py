"""The relations within objects in numpy, loop by loop, from their formulas alone."""

from __future__ import annotations

import numpy as np


def regions(places, frames, boxes, margin):
    """The rows in the region of each object, from the inside out; objects without any are left out.

    Args:
        places: (N, 2). frames: (N,).
        boxes: for each frame a list of x, y, z, length, width, height, yaw.
        margin: metres around a box.
    """
    found = []
    for frame, frame_boxes in enumerate(boxes):
        for x, y, _, length, width, _, yaw in frame_boxes:
            reach = {}
            for row in np.flatnonzero(frames == frame):
                offset = places[row] - (x, y)
                along = abs(offset @ (np.cos(yaw), np.sin(yaw)))
                across = abs(offset @ (-np.sin(yaw), np.cos(yaw)))
                distance = max(along / (length / 2 + margin), across / (width / 2 + margin))
                if distance <= 1:
                    reach[row] = distance
            if reach:
                found.append(sorted(reach, key=reach.get))
    return found


def evenly(members, count):
    """``count`` of the members, the first and the last among them."""
    if len(members) <= count:
        return members
    if count == 1:
        return members[:1]
    return [members[rank * (len(members) - 1) // (count - 1)] for rank in range(count)]


def cosine(first, second):
    return first @ second / np.sqrt((first @ first) * (second @ second))


def difference(x, t):
    """Nodes (n, C) of one object, both in one space."""
    total = 0.0
    weight = 0.0
    for j in range(len(t)):
        for k in range(len(t)):
            if j != k:
                gap = t[j] - t[k]
                ours = x[j] - x[k]
                size = np.sqrt(gap @ gap)
                length = max(np.sqrt(ours @ ours), 0.1 * size)
                total += gap @ gap * (1 - ours @ gap / (length * size))
                weight += gap @ gap
    return total / weight if weight else 0.0


def affinity(x, t):
    """1 - CKA, by its definition with the centring matrix."""
    count = len(t)
    if count < 2:
        return 0.0
    centring = np.eye(count) - 1 / count
    first = centring @ x @ x.T @ centring
    second = centring @ t @ t.T @ centring
    return 1 - np.trace(first @ second) / (np.linalg.norm(first) * np.linalg.norm(second))


def attention(x, t, temperature):
    if len(t) < 2:
        return 0.0
    total = 0.0
    for j in range(len(t)):
        ours = attention_row(x - x.mean(0), j, temperature)
        theirs = attention_row(t - t.mean(0), j, temperature)
        total += sum(theirs * np.log(theirs / ours))
    return total / len(t)


def attention_row(nodes, j, temperature):
    """How much node j attends to each of the other nodes."""
    others = [k for k in range(len(nodes)) if k != j]
    powers = np.exp([cosine(nodes[j], nodes[k]) / temperature for k in others])
    return powers / powers.sum()


def standardise(features, members, object_weights):
    """Mean and deviation of each channel over the members, an object's weight shared by them."""
    rows = np.concatenate(members)
    shares = [weight / len(own) for own, weight in zip(members, object_weights) for _ in own]
    shares = np.array(shares) / sum(shares)
    mean = shares @ features[rows]
    deviation = np.sqrt(shares @ features[rows] ** 2 - mean**2)
    return (features - mean) / deviation


def relation_loss(s, t, members, object_weights, *, adapter, count, relation, node_weight=1.0):
    """The loss on the first training batch, which gives its own statistics.

    Args:
        s: (N, C_s). t: (N, C_t).
        members: rows of every object from the inside out.
        object_weights: of the objects.
        adapter: matrix and bias.
        count: NUM_NEIGHBORS.
        relation: of the student's and the teacher's nodes; it gets (n, C_s) and adapted (n, C_t).
        node_weight: NODE_WEIGHT.
    """
    matrix, bias = adapter
    target = standardise(t, members, object_weights)
    adapted = s @ matrix.T + bias
    total = 0.0
    for own, weight in zip(members, object_weights):
        nodes = np.mean((adapted[own] - target[own]) ** 2)
        related = evenly(own, count)
        relations = relation(s[related], adapted[related], target[related]) if count > 1 else 0.0
        total += weight * (node_weight * nodes + relations)
    return total / sum(object_weights)
