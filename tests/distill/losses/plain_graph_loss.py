"""The graph loss written out edge by edge, in float64, as a slow reference."""

from __future__ import annotations

import math

import torch


def plain_loss(module, student, teacher, queries):
    """What ``module.compare`` must give."""
    options = module.options
    rows = queries.tolist()
    neighbours = [nearest_rows(options, teacher, row) for row in rows]
    weights = query_weights(options, teacher, queries)
    rectify = options.teacher_adapter == "trained"
    embedded = []
    for adapter, nodes in ((module.student_adapter, student), (module.teacher_adapter, teacher)):
        edges = edge_list(nodes.features, rows, neighbours, options.edge)
        edges = normalised_edges(adapter, edges, rectify)
        of_queries = edges.reshape(len(rows), -1, edges.shape[1])
        embedded.append(pooled(of_queries, options.pool))
    return mean_distance(options.distance, weights, *embedded)


def frame_of_rows(options, teacher):
    """The frame of every node; one for all where frames are mixed."""
    if options.mix_frames:
        return torch.zeros_like(teacher.batch_index)
    return teacher.batch_index


def nearest_rows(options, teacher, query):
    """The K rows of the query's frame that are nearest to it; the first is the query itself."""
    frames = frame_of_rows(options, teacher)
    points = teacher.coords if options.neighbor_space == "metres" else teacher.features
    in_frame = [row for row in range(len(teacher)) if frames[row] == frames[query]]

    def squared_distance(row):
        return float((points[row] - points[query]).square().sum())

    in_frame.sort(key=squared_distance)
    return in_frame[: options.num_neighbors]


def node_scores(options, teacher):
    """(N,) how much every node matters."""
    scores = {
        "saliency": teacher.saliency,
        "objectness": teacher.objectness,
        "channel_max": teacher.features.max(dim=1).values,
        "norm": teacher.features.square().sum(dim=1).sqrt(),
    }
    return scores[options.score]


def query_weights(options, teacher, queries):
    """(M,) weights with a mean of 1 in every frame, or the batch size for all."""
    weights = torch.ones(len(queries), dtype=torch.float64)
    if options.weighting == "batch_size":
        num_frames = len(set(teacher.batch_index.tolist()))
        return weights * num_frames
    if options.weighting == "none":
        return weights
    scores = node_scores(options, teacher)[queries].double()
    frames = frame_of_rows(options, teacher)[queries]
    for frame in set(frames.tolist()):
        inside = frames == frame
        values = scores[inside]
        if options.weighting == "softmax":
            values = (values - values.min()) / (values.max() - values.min())
        weights[inside] = softmax_with_mean_1(values.tolist(), options.temperature)
    return weights


def softmax_with_mean_1(values, temperature):
    highest = max(values)
    powers = [math.exp((value - highest) / temperature) for value in values]
    mean = sum(powers) / len(powers)
    return torch.tensor([power / mean for power in powers], dtype=torch.float64)


def edge_list(features, queries, neighbours, form):
    """(M * K, 2C) one row for every edge, query after query."""
    edges = []
    for query, around in zip(queries, neighbours):
        for neighbour in around:
            first = features[neighbour]
            if form == "difference":
                first = features[query] - features[neighbour]
            edges.append(torch.cat([first, features[query]]))
    return torch.stack(edges)


def normalised_edges(adapter, edges, rectify):
    """Convolution and batch normalisation over all edges (E, 2C) -> (E, D)."""
    values = edges @ adapter.weight.t()
    mean = values.mean(dim=0)
    variance = values.var(dim=0, unbiased=False)
    values = (values - mean) / torch.sqrt(variance + 1e-5)
    if adapter.gamma is not None:
        values = values * adapter.gamma + adapter.beta
    return torch.relu(values) if rectify else values


def pooled(edges, pool):
    """(M, K, D) -> (M, 1, D), or unchanged without pooling."""
    if pool == "max":
        return edges.max(dim=1, keepdim=True).values
    if pool == "mean":
        return edges.sum(dim=1, keepdim=True) / edges.shape[1]
    return edges


def mean_distance(kind, weights, student, teacher):
    """The weighted mean over queries, edges and channels, or the published Frobenius norm."""
    parts = []
    for weight, student_edges, teacher_edges in zip(weights, student, teacher):
        parts.append(weight * element_distance(kind, student_edges, teacher_edges))
    distances = torch.stack(parts)
    if kind == "frobenius":
        return 5e-4 * distances.sum().sqrt()
    if kind == "published":
        return 2 * distances.mean()
    return distances.mean()


def element_distance(kind, student, teacher):
    """The edges (K, D) of a query, compared: numbers that are to be averaged."""
    if kind == "cosine":
        product = (student * teacher).sum(dim=1)
        norms = student.norm(dim=1) * teacher.norm(dim=1)
        return 1 - product / norms.clamp_min(1e-8)
    difference = (student - teacher).abs()
    if kind == "smooth_l1":
        return torch.where(difference < 1, difference**2 / 2, difference - 0.5)
    return difference**2
