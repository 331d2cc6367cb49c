"""Relations within objects: each form against loops, what it does not see, and its limits."""

from __future__ import annotations

import numpy as np
import numpy_relations
import pytest
import torch
from numpy_methods import gradient

from pcdet_distill.distill.losses.graph_relation import RELATIONS
from pcdet_distill.distill.losses.relations import relation_distance

TEMPERATURE = 0.3


def plain(relation, x, t):
    """One graph, by loops."""
    if relation == "attention":
        return numpy_relations.attention(x, t, TEMPERATURE)
    return getattr(numpy_relations, relation)(x, t)


def graphs(seed=0, channels=(5, 5), nodes=(6, 4, 2)):
    """Three graphs with some nodes each, of six at most."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (
        torch.randn(len(nodes), 6, width, generator=generator, dtype=torch.float64)
        for width in channels
    )
    is_valid = torch.arange(6)[None] < torch.tensor(nodes)[:, None]
    return student, teacher, is_valid


@pytest.mark.parametrize("relation", RELATIONS)
def test_against_loops(relation):
    student, teacher, is_valid = graphs()
    found = relation_distance(relation, TEMPERATURE)(student, teacher, is_valid)
    for number, count in enumerate(is_valid.sum(dim=1).tolist()):
        x = student[number, :count].numpy()
        t = teacher[number, :count].numpy()
        assert found[number].item() == pytest.approx(plain(relation, x, t), abs=1e-12)


@pytest.mark.parametrize("relation", RELATIONS)
def test_gradient_against_differences(relation):
    student, teacher, is_valid = graphs(nodes=(6,))
    student.requires_grad_()
    relation_distance(relation, TEMPERATURE)(student, teacher, is_valid).sum().backward()
    expected = gradient(
        lambda x: plain(relation, x, teacher[0].numpy()), student.detach()[0].numpy()
    )
    np.testing.assert_allclose(student.grad[0].numpy(), expected, atol=1e-7)


@pytest.mark.parametrize("relation", ["affinity", "attention"])
def test_student_and_teacher_may_differ_in_channels(relation):
    student, teacher, is_valid = graphs(channels=(3, 8))
    found = relation_distance(relation, TEMPERATURE)(student, teacher, is_valid)
    x, t = student[0].numpy(), teacher[0].numpy()
    assert found[0].item() == pytest.approx(plain(relation, x, t), abs=1e-12)


@pytest.mark.parametrize("relation", RELATIONS)
def test_equal_nodes_have_equal_relations(relation):
    _, teacher, is_valid = graphs()
    found = relation_distance(relation, TEMPERATURE)(teacher, teacher, is_valid)
    torch.testing.assert_close(found, torch.zeros(3).double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("relation", RELATIONS)
def test_what_all_nodes_share_does_not_count_and_neither_does_their_size(relation):
    """No function of one node alone can tell these apart: this is what makes it a relation."""
    student, teacher, is_valid = graphs()
    distance = relation_distance(relation, TEMPERATURE)
    moved = 3 * student + torch.arange(5.0).double() * 100
    torch.testing.assert_close(
        distance(moved, teacher, is_valid), distance(student, teacher, is_valid)
    )


@pytest.mark.parametrize("relation", RELATIONS)
def test_nodes_changed_among_each_other_have_other_relations(relation):
    """The same nodes at other places: their mean, norms and statistics stay as they were."""
    _, teacher, is_valid = graphs(nodes=(6,))
    shuffled = teacher[:, [1, 2, 3, 4, 5, 0]]
    assert relation_distance(relation, TEMPERATURE)(shuffled, teacher, is_valid)[0] > 0.1


@pytest.mark.parametrize("relation", RELATIONS)
def test_one_node_has_no_relations(relation):
    student, teacher, is_valid = graphs(nodes=(1,))
    student.requires_grad_()
    found = relation_distance(relation, TEMPERATURE)(student, teacher, is_valid)
    found.sum().backward()
    assert found.tolist() == [0.0]
    assert student.grad.abs().max() == 0


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("constant", ["student", "teacher"])
def test_nodes_that_are_all_equal_give_a_finite_gradient(relation, constant):
    """Dead units of a student, or an empty region of a map."""
    student, teacher, is_valid = (part.clone() for part in graphs())
    (student if constant == "student" else teacher).zero_()
    student = student.float().requires_grad_()
    found = relation_distance(relation, TEMPERATURE)(student, teacher.float(), is_valid)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(student.grad).all()


def test_short_differences_have_a_bounded_gradient():
    """Two nodes of the student that are nearly equal, where the teacher's differ by 1."""
    teacher = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]]).double()
    is_valid = torch.ones(1, 2, dtype=torch.bool)
    sizes = []
    for gap in (1e-3, 1e-6):
        student = torch.tensor([[[0.0, 0.0], [0.0, gap]]]).double().requires_grad_()
        distance = relation_distance("difference", TEMPERATURE)(student, teacher, is_valid)
        distance.sum().backward()
        sizes.append(student.grad.abs().max().item())
    assert sizes == pytest.approx([10.0, 10.0])


def test_a_small_temperature_attends_to_few_nodes():
    student, teacher, is_valid = graphs()
    sharp, even = (
        relation_distance("attention", temperature)(student, teacher, is_valid)[0]
        for temperature in (0.1, 10.0)
    )
    assert sharp > 100 * even
