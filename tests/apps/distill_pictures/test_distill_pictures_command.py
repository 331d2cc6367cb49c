"""The page from the command line: every kind of term, and what a wrong input gets."""

from __future__ import annotations

import html
import re

import pytest
from picture_toys import GRAPH, LOGITS, MAP, PILLARS, POINTS, Toys

from pcdet_distill.checkpoint import load_checkpoint, save_checkpoint

RELATIONS = {"NAME": "GraphRelationLoss", "STUDENT": MAP, "TEACHER": MAP, "NUM_NEIGHBORS": 4}
ATTENTION = {"NAME": "AttentionTransferLoss", "STUDENT": MAP, "TEACHER": MAP}
DENSIFY = {"NAME": "DensifyLoss", "STUDENT": MAP, "TEACHER": MAP}


def words_of(page: str) -> str:
    """What a reader reads; text within tables, too."""
    without_pictures = re.sub(r"src='data:[^']*'", "", page)
    without_style = re.sub(r"<style>.*?</style>", "", without_pictures, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", without_style))


def pictures_in(page: str) -> int:
    return page.count("src='data:image/webp;base64,")


def test_a_graph_on_a_map_with_a_plain_student_beside_it(toys: Toys):
    page = toys.report(toys.student("graph", {"GRAPH": GRAPH}), "--before", toys.plain())
    words = words_of(page)
    # Two frames; each with boxes, weights, a graph, the loss by node, and two rows of features.
    assert pictures_in(page) == 12
    assert words.count("Salient nodes") == words.count("As the loss compares them") == 2
    assert "48 of 512 nodes count in the loss" in words
    assert "7 neighbours besides itself" in words
    assert "without distillation" in words
    assert "cells without points" in words
    assert "http" not in re.sub(r"data:[^']*", "", page)


def test_a_chosen_frame_of_the_training_split(toys: Toys):
    page = toys.report(toys.student("pillars", {"LOCAL": PILLARS}), "--frames", "000001")
    words = words_of(page)
    assert "Frame 000001: LOCAL" in words
    assert words.count("Salient nodes") == 1
    assert "random weights that a training begins with" in words
    assert "compared with the teacher" in words


def test_terms_of_other_kinds(toys: Toys):
    """Relations, a map, a loss without nodes of its own, and predictions."""
    terms = {"RELATIONS": RELATIONS, "DENSE": DENSIFY, "AT": ATTENTION, "LOGITS": LOGITS}
    plain = toys.plain()
    page = toys.report(toys.student("kinds", terms), "--before", plain, "--frames", "000003")
    words = words_of(page)
    for name in terms:
        assert f"Frame 000003: {name}" in words
    assert "AttentionTransferLoss does not tell how much each node counts" in words
    assert "DensifyLoss does not tell how much each node counts" in words
    assert "compares predictions, not features" in words


def test_one_neighbour_is_no_graph(toys: Toys):
    control = {**GRAPH, "NUM_NEIGHBORS": 1}
    page = toys.report(toys.student("control", {"GRAPH": control}), "--frames", "000003")
    assert "there is no graph" in words_of(page)
    assert "Neighbours of one node" not in words_of(page)


def test_a_student_that_is_only_initialised_has_no_nodes(toys: Toys):
    path = toys.student("init", {}, INIT_STUDENT="SLICE")
    words = words_of(toys.report(path, "--frames", "000003"))
    assert "INIT_STUDENT sets the weights that this training begins with" in words
    assert "there are no nodes, neighbours or features to show" in words
    assert "Frame 000003: boxes" in words
    assert "Salient nodes" not in words


def test_a_student_without_adapters_is_compared_by_a_linear_map(toys: Toys):
    path = toys.student("plainly", {"GRAPH": GRAPH})
    words = words_of(toys.report(path, "--frames", "000003", ckpt=toys.plain("other", seed=5)))
    assert "other.pth holds no adapters that fit these terms" in words
    assert "Salient nodes" in words
    assert "with the student behind the fitted linear map" in words
    assert "The loss by node" not in words
    assert "As the loss compares them" not in words


def test_adapters_of_another_recipe_do_not_fit(toys: Toys):
    wide = toys.student("wide", {"GRAPH": {**GRAPH, "EMBED_DIM": 16}})
    path = toys.student("narrow", {"GRAPH": GRAPH})
    page = toys.report(path, "--frames", "000003", ckpt=wide.with_suffix(".pth"))
    assert "wide.pth holds no adapters that fit these terms" in words_of(page)


def test_collapsed_adapters_are_called_so(toys: Toys):
    """Zeros everywhere, as the published form learns them."""
    path = toys.student("collapsed", {"LOCAL": PILLARS})
    state = dict(load_checkpoint(path.with_suffix(".pth")))
    for name, value in state["distill_state"].items():
        if name.endswith(("gamma", "beta")):
            state["distill_state"][name] = value * 0
    save_checkpoint(state, path.with_suffix(".pth"))
    words = words_of(toys.report(path, "--frames", "000003"))
    assert "Collapsed: over the nodes that count, 100 % of the teacher's and 100 %" in words


def test_a_cached_teacher_runs_for_the_pictures(toys: Toys):
    path = toys.student("cached", {"LOGITS": LOGITS})
    page = toys.report(path, "--frames", "000003", "--set", "DISTILL.TEACHER.CACHE", "predictions")
    assert "compares predictions, not features" in words_of(page)


@pytest.mark.slow
def test_points_of_pointrcnn(tmp_path_factory: pytest.TempPathFactory):
    toys = Toys(tmp_path_factory.mktemp("points"), "pointrcnn")
    path = toys.student("points", {"GRAPH": {**POINTS, "SCORE": "norm"}})
    page = toys.report(path, "--before", toys.plain(), "--frames", "000003")
    words = words_of(page)
    assert "48 of 2048 nodes count in the loss" in words
    assert pictures_in(page) == 6


def refusal(toys: Toys, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a refused call prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        toys.report(*arguments)  # type: ignore[arg-type]
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_wrong_inputs_get_one_sentence(toys: Toys, capsys: pytest.CaptureFixture[str]):
    path = toys.student("graph", {"GRAPH": GRAPH})
    message = refusal(toys, capsys, path, "--frames", "00003")
    assert "--frames 00003: no such frame in the test split (3 frames)" in message
    assert "did you mean '000003'" in message
    message = refusal(toys, capsys, path, "--score", "3")
    assert "--score 3.0: expected a number from 0 to 1" in message
    message = refusal(toys, capsys, path, "--before", "nothing.pth")
    assert "nothing.pth" in message
    plain = toys.plain()
    message = refusal(toys, capsys, plain.with_suffix(".yaml"))
    assert "has no DISTILL block" in message
    message = refusal(toys, capsys, path, "--before", toys.teacher)
    assert "does not fit the model" in message


def test_a_teacher_of_other_channels_is_refused(toys: Toys, capsys: pytest.CaptureFixture[str]):
    path = toys.student("graph", {"GRAPH": GRAPH})
    toys.teacher, teacher = toys.plain(), toys.teacher
    try:
        message = refusal(toys, capsys, path)
    finally:
        toys.teacher = teacher
    assert "as the teacher of" in message
    assert "does not fit the model" in message


def test_a_folder_that_cannot_be_written(toys: Toys, capsys: pytest.CaptureFixture[str]):
    path = toys.student("graph", {"GRAPH": GRAPH})
    file = toys.folder / "file"
    file.write_text("")
    message = refusal(toys, capsys, path, "--frames", "000003", "--out", file / "below")
    assert "cannot be written" in message
