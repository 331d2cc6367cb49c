"""SimilarityLoss: values computed by hand, over frames and over nodes."""

from __future__ import annotations

from math import sqrt

import pytest
from made_nodes import map_nodes, nodes, tap

from pcdet_distill.distill.losses.similarity import SimilarityLoss, SimilarityOptions
from pcdet_distill.errors import ConfigError, DataError

# The student's rows are (1, 0) and (1, 1): Q Q^T = (1 1; 1 2), with its rows normalised
# (1 1) / sqrt(2) and (1 2) / sqrt(5). The teacher's rows are at right angles: the identity.
FIRST_ROW = (1 / sqrt(2) - 1) ** 2 + (1 / sqrt(2) - 0) ** 2
SECOND_ROW = (1 / sqrt(5) - 0) ** 2 + (2 / sqrt(5) - 1) ** 2
EXPECTED = (FIRST_ROW + SECOND_ROW) / 4


def test_similarity_of_frames():
    student = map_nodes([[[[1.0, 0.0]]], [[[1.0, 1.0]]]])
    teacher = map_nodes([[[[2.0, 0.0]]], [[[0.0, 3.0]]]])
    assert SimilarityLoss()(student, teacher, {}).item() == pytest.approx(EXPECTED, abs=1e-6)


def test_one_frame_is_similar_to_itself():
    student = map_nodes([[[[1.0, 0.0]]]])
    teacher = map_nodes([[[[0.5, 3.0]]]])
    assert SimilarityLoss()(student, teacher, {}).item() == 0


def over_nodes(**options):
    return SimilarityLoss(options=SimilarityOptions(over="nodes", num_nodes=2, **options))


# The third node has the lowest score and is left out.
STUDENT_ROWS = [[1, 0], [1, 1], [4, 4]]
TEACHER_ROWS = [[2, 0], [0, 3], [0, 0]]


def test_similarity_of_nodes():
    value = over_nodes()(nodes(STUDENT_ROWS), nodes(TEACHER_ROWS), {})
    assert value.item() == pytest.approx(EXPECTED, abs=1e-6)


def test_nodes_are_compared_with_those_of_their_frame():
    """The second frame agrees with itself, which halves the mean over the frames."""
    frames = [0, 0, 0, 1, 1, 1]
    same_rows = [[1, 0], [1, 0], [1, 0]]
    student = nodes(STUDENT_ROWS + same_rows, frames)
    teacher = nodes(TEACHER_ROWS + same_rows, frames)
    assert over_nodes()(student, teacher, {}).item() == pytest.approx(EXPECTED / 2, abs=1e-6)


def test_nodes_may_be_chosen_by_the_scores_of_the_head():
    """The same rows, of which the first one has the lowest score now."""
    student = nodes([[4, 4], [1, 0], [1, 1]])
    teacher = nodes([[0, 0], [2, 0], [0, 3]], objectness=[0.1, 0.8, 0.9])
    value = over_nodes(score="objectness")(student, teacher, {})
    assert value.item() == pytest.approx(EXPECTED, abs=1e-6)


def test_nodes_without_scores_of_the_head_are_an_error():
    with pytest.raises(DataError, match="objectness"):
        over_nodes(score="objectness")(nodes(STUDENT_ROWS), nodes(TEACHER_ROWS), {})


def test_frames_of_voxels_are_refused():
    with pytest.raises(ConfigError, match="compares whole maps, but tap .* gives voxel"):
        SimilarityLoss.from_config({}, tap(2, "voxel"), tap(2, "voxel"), "T")
