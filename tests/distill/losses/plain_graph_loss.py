"""The graph loss written out edge by edge, in float64, as a slow reference."""

from __future__ import annotations

import math

import torch


def normalised_edges(adapter, edges, rectify):
    """Convolution and batch normalisation over all edges (E, 2C) -> (E, D)."""
    values = edges @ adapter.weight.t()
    values = (values - values.mean(0)) / torch.sqrt(values.var(0, unbiased=False) + 1e-5)
    if adapter.gamma is not None:
        values = values * adapter.gamma + adapter.beta
    return torch.relu(values) if rectify else values


def edge_list(features, queries, neighbours, form):
    rows = []
    for query, around in zip(queries, neighbours):
        for other in around:
            first = features[other] if form == "concat" else features[query] - features[other]
            rows.append(torch.cat([first, features[query]]))
    return torch.stack(rows)


def distance(student, teacher, kind):
    """(K or 1, D) each -> a list of numbers to be averaged."""
    if kind == "cosine":
        return 1 - (student * teacher).sum(1) / (
            student.norm(dim=1) * teacher.norm(dim=1)
        ).clamp_min(1e-8)
    gap = (student - teacher).abs()
    return torch.where(gap < 1, gap**2 / 2, gap - 0.5) if kind == "smooth_l1" else gap**2


def plain_loss(module, student, teacher, queries):
    """What ``module.compare`` must give."""
    options = module.options
    frames = teacher.batch_index * 0 if options.mix_frames else teacher.batch_index
    points = teacher.coords if options.neighbor_space == "metres" else teacher.features
    neighbours = []
    for query in queries.tolist():
        own = [row for row in range(len(teacher)) if frames[row] == frames[query]]
        own.sort(key=lambda row: float((points[row] - points[query]).square().sum()))
        neighbours.append(own[: options.num_neighbors])
    score = {
        "saliency": teacher.saliency,
        "objectness": teacher.objectness,
        "channel_max": teacher.features.max(1)[0],
        "norm": teacher.features.square().sum(1).sqrt(),
    }[options.score]
    weights = torch.ones(len(queries), dtype=torch.float64)
    if options.weighting == "batch_size":
        weights *= len(set(teacher.batch_index.tolist()))
    for frame in set(frames[queries].tolist()) if options.weighting.startswith("softmax") else ():
        inside = frames[queries] == frame
        values = score[queries][inside].double()
        if options.weighting == "softmax":
            values = (values - values.min()) / (values.max() - values.min())
        powers = [
            math.exp((value - float(values.max())) / options.temperature)
            for value in values.tolist()
        ]
        weights[inside] = torch.tensor(
            [power / sum(powers) * len(powers) for power in powers], dtype=torch.float64
        )
    rectify = options.teacher_adapter == "trained"
    sides = []
    for adapter, nodes in ((module.student_adapter, student), (module.teacher_adapter, teacher)):
        edges = edge_list(nodes.features, queries.tolist(), neighbours, options.edge)
        edges = normalised_edges(adapter, edges, rectify)
        edges = edges.reshape(len(queries), -1, edges.shape[1])
        if options.pool == "max":
            edges = edges.max(1, keepdim=True)[0]
        elif options.pool == "mean":
            edges = edges.sum(1, keepdim=True) / edges.shape[1]
        sides.append(edges)
    kind = options.distance if options.distance in ("smooth_l1", "cosine") else "mse"
    parts = torch.stack(
        [weight * distance(ours, theirs, kind) for weight, ours, theirs in zip(weights, *sides)]
    )
    if options.distance == "frobenius":
        return 5e-4 * parts.sum().sqrt()
    return (2 if options.distance == "published" else 1) * parts.mean()
