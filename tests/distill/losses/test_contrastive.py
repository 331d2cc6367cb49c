"""ContrastiveLoss: values computed by hand, and which nodes are sampled."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from made_nodes import identity, nodes, tap

from pcdet_distill.distill.losses.contrastive import ContrastiveLoss, ContrastiveOptions


def contrastive(**options):
    """Both embeddings pass on the features as they are."""
    loss = ContrastiveLoss(tap(2), tap(2), ContrastiveOptions(embed_dim=2, **options))
    identity(loss.student_embedding)
    identity(loss.teacher_embedding)
    return loss


STUDENT = nodes([[2, 0], [3, 4]])
TEACHER = nodes([[5, 0], [0, 1]])


def test_the_value_by_hand():
    """Cosines of the students with both teachers: (1, 0) and (0.6, 0.8).

    At temperature 0.5 the right teacher is ahead by 2 and by 0.4.
    """
    loss = contrastive(temperature=0.5)
    expected = (log(1 + exp(-2.0)) + log(1 + exp(-0.4))) / 2
    assert loss(STUDENT, TEACHER, {}).item() == pytest.approx(expected, abs=1e-6)
    assert loss.logs["found"] == 1


def test_at_a_high_temperature_both_teachers_are_as_likely():
    value = contrastive(temperature=1e6)(STUDENT, TEACHER, {})
    assert value.item() == pytest.approx(log(2), abs=1e-5)


def test_a_constant_embedding_has_the_largest_loss():
    loss = contrastive()
    torch.nn.init.zeros_(loss.teacher_embedding.weight)
    student = nodes(torch.randn(64, 2))
    teacher = nodes(torch.randn(64, 2))
    assert loss(student, teacher, {}).item() == pytest.approx(log(64), abs=1e-4)


# Rows 0 to 2 are frame 0, rows 3 to 5 are frame 1.
FRAMES = [0, 0, 0, 1, 1, 1]
ROWS = torch.eye(2).repeat(3, 1)
SCORED = nodes(
    ROWS,
    FRAMES,
    saliency=[1.0, 2, 3, 3, 2, 1],
    objectness=[0.9, 0.8, 0.1, 0.1, 0.2, 0.3],
)


def sampled(**options):
    return contrastive(**options)._sample(SCORED).tolist()


def test_the_best_nodes_of_each_frame_are_sampled():
    assert sampled(num_nodes=2) == [2, 1, 3, 4]
    assert sampled(num_nodes=2, score="objectness") == [0, 1, 5, 4]


def test_random_nodes_of_each_frame_are_sampled():
    torch.manual_seed(0)
    drawn = [sampled(num_nodes=1, sampling="random") for _ in range(20)]
    for of_frame_0, of_frame_1 in drawn:
        assert of_frame_0 in (0, 1, 2)
        assert of_frame_1 in (3, 4, 5)
    different = {tuple(rows) for rows in drawn}
    assert len(different) > 4


@pytest.mark.parametrize("block, width", [({}, 64), ({"EMBED_DIM": 5}, 5)])
def test_width_of_the_embeddings(block, width):
    loss = ContrastiveLoss.from_config(block, tap(2), tap(3), "T")
    assert loss.student_embedding.out_features == width
    assert loss.teacher_embedding.out_features == width


def test_more_nodes_are_harder_to_tell_apart():
    student = nodes(ROWS, FRAMES)
    of_four = contrastive(num_nodes=2)(student, SCORED, {})
    of_two = contrastive(num_nodes=1)(student, SCORED, {})
    assert of_four > of_two
