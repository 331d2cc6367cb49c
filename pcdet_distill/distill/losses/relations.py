"""Relations between the nodes of one object, and how far those of a student are from the teacher's.

Every function compares x_j of a student with t_j of its teacher for the nodes j of G graphs, and
returns one number for each graph, 0 when the relations are equal. A node alone has no relation: of
graphs with one node the result is 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST = 1e-12  # squared lengths below this have no direction
# The gradient of a direction grows without end as its length goes to zero. A student's difference
# shorter than this share of the teacher's is treated as that long.
SHORTEST = 0.1


def difference_distance(student: Tensor, teacher: Tensor, is_valid: Tensor) -> Tensor:
    """(G,) by how much the differences between two nodes point elsewhere than the teacher's.

        sum over j, k of d_jk (1 - cos(x_j - x_k, t_j - t_k)) / sum of d_jk,  d_jk = |t_j - t_k|^2

    Pairs that the teacher does not tell apart have no weight. A difference of the student shorter
    than SHORTEST of the teacher's counts as that long, so that its gradient stays bounded. All
    products of differences follow from products of nodes, so that no difference is stored.

    Args:
        student, teacher: (G, K, C), in one space.
        is_valid: (G, K) nodes that exist.
    """
    # Differences stay what they are without the mean, and their products lose no digits to it.
    student = _centred(student, is_valid)
    teacher = _centred(teacher, is_valid)
    products = student @ teacher.transpose(1, 2)  # x_j . t_k
    same = products.diagonal(dim1=1, dim2=2)
    across = same[:, :, None] + same[:, None] - products - products.transpose(1, 2)
    student_lengths = _squared_distances(student)
    teacher_lengths = _squared_distances(teacher)
    student_lengths = torch.maximum(student_lengths, SHORTEST**2 * teacher_lengths)
    lengths = student_lengths.clamp_min(SMALLEST) * teacher_lengths.clamp_min(SMALLEST)
    cosines = across / lengths.sqrt()
    weights = teacher_lengths * _pairs(is_valid)
    total = (weights * (1 - cosines)).sum(dim=(1, 2))
    return total / weights.sum(dim=(1, 2)).clamp_min(SMALLEST)


def affinity_distance(student: Tensor, teacher: Tensor, is_valid: Tensor) -> Tensor:
    """(G,) by how much centred, normalised similarities differ: 1 - CKA.

        1 - <S, T> / (|S| |T|),  S_jk = (x_j - mean x) . (x_k - mean x),  T likewise

    That is half of |S / |S| - T / |T||^2. What all nodes of an object share, and the size of the
    features, do not count.

    Args:
        student: (G, K, C). teacher: (G, K, C').
        is_valid: (G, K) nodes that exist.
    """
    student_centred = _centred(student, is_valid)
    teacher_centred = _centred(teacher, is_valid)
    student_products = (student_centred @ student_centred.transpose(1, 2)).flatten(1)
    teacher_products = (teacher_centred @ teacher_centred.transpose(1, 2)).flatten(1)
    alike = functional.cosine_similarity(student_products, teacher_products, eps=SMALLEST)
    return (1 - alike) * (is_valid.sum(dim=1) > 1)


def attention_distance(
    student: Tensor, teacher: Tensor, is_valid: Tensor, temperature: float
) -> Tensor:
    """(G,) by how much each node attends to other nodes of its object than in the teacher.

        mean over j of KL(a_t(j) | a_s(j)),  a_s(j) = softmax over k != j of cos(x_j, x_k) / T

    with features centred on the mean of the object, a_t likewise.

    Args:
        student: (G, K, C). teacher: (G, K, C').
        is_valid: (G, K) nodes that exist.
        temperature: T.
    """
    student_logs = _log_attention(student, is_valid, temperature)
    teacher_logs = _log_attention(teacher, is_valid, temperature)
    divergence = (teacher_logs.exp() * (teacher_logs - student_logs)).sum(dim=2)
    nodes = is_valid.sum(dim=1).clamp_min(1)
    return (divergence * is_valid).sum(dim=1) / nodes


def relation_distance(name: str, temperature: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The function of a RELATION."""
    if name == "difference":
        return difference_distance
    if name == "affinity":
        return affinity_distance
    return lambda student, teacher, is_valid: attention_distance(
        student, teacher, is_valid, temperature
    )


def _pairs(is_valid: Tensor) -> Tensor:
    """(G, K, K) two nodes that exist; a node with itself is one of them."""
    return is_valid[:, :, None] & is_valid[:, None]


def _squared_distances(nodes: Tensor) -> Tensor:
    """(G, K, K) between the nodes (G, K, C) of each graph."""
    products = nodes @ nodes.transpose(1, 2)
    squares = products.diagonal(dim1=1, dim2=2)
    return squares[:, :, None] + squares[:, None] - 2 * products


def _centred(nodes: Tensor, is_valid: Tensor) -> Tensor:
    """Nodes (G, K, C) without the mean of their graph; 0 where there is no node."""
    exists = is_valid[:, :, None].to(nodes.dtype)
    mean = (nodes * exists).sum(dim=1, keepdim=True) / exists.sum(dim=1, keepdim=True).clamp_min(1)
    return (nodes - mean) * exists


def _log_attention(nodes: Tensor, is_valid: Tensor, temperature: float) -> Tensor:
    """(G, K, K) logarithm of the attention of node j to node k; 0 where there is none."""
    centred = _centred(nodes, is_valid)
    squares = centred.square().sum(dim=2, keepdim=True)
    directions = centred * torch.rsqrt(squares.clamp_min(SMALLEST))
    similarities = directions @ directions.transpose(1, 2) / temperature
    itself = torch.eye(nodes.shape[1], dtype=torch.bool, device=nodes.device)
    others = _pairs(is_valid) & ~itself
    # A finite low number: a row without any other node would give NaN with minus infinity.
    logs = similarities.masked_fill(~others, torch.finfo(nodes.dtype).min / 2).log_softmax(dim=2)
    return logs.masked_fill(~others, 0.0)
