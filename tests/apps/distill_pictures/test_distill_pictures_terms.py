"""What the page shows of a term is what its training step computes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from made_nodes import map_nodes, nodes
from picture_toys import CLASSES, GRAPH, LOGITS, MAP, Toys

from pcdet_distill.apps.distill_pictures.draw import extent_of, map_size, node_image
from pcdet_distill.apps.distill_pictures.features import labels_of
from pcdet_distill.apps.distill_pictures.frames import Frame, named_frames, other_frames
from pcdet_distill.apps.distill_pictures.node_pictures import choose_graph, in_percent
from pcdet_distill.apps.distill_pictures.sides import (
    Side,
    load_side,
    take_strongest_weights,
    without_stored_outputs,
)
from pcdet_distill.apps.distill_pictures.terms import TermNodes, look_at
from pcdet_distill.config import load_config
from pcdet_distill.datasets import build_dataset
from pcdet_distill.distill.losses.node_details import NodeDetails
from pcdet_distill.errors import ConfigError

ATTENTION = {"NAME": "AttentionTransferLoss", "STUDENT": MAP, "TEACHER": MAP}
RELATIONS = {"NAME": "GraphRelationLoss", "STUDENT": MAP, "TEACHER": MAP}
CPU = torch.device("cpu")


def test_nodes_weights_and_loss_are_those_of_a_training_step(toys: Toys):
    """With a student in eval, as after training, and the frame as its only batch."""
    path = toys.student("step", {"GRAPH": GRAPH, "LOGITS": LOGITS, "AT": ATTENTION})
    distiller = toys.distiller(path)
    assert load_side(distiller, str(path.with_suffix(".pth")))
    config = load_config(path)
    dataset = build_dataset(config.DATA_CONFIG, CLASSES, training=False)
    batch = Frame("0", 1, dataset).batch(CPU)
    shown = look_at(Side("after", distiller.eval(), True), batch)
    nodes_of_graph = shown.nodes["GRAPH"]
    # The training step: the same batch, the loss in eval so that its statistics are the same.
    chosen = []
    distiller.train()
    loss = distiller.head.terms["GRAPH"].loss
    choose = loss.local_graphs
    loss.local_graphs = lambda *inputs: chosen.append(choose(*inputs)) or chosen[-1]
    with torch.no_grad():
        distiller(batch)
    (graphs,) = chosen
    weights = torch.zeros(len(nodes_of_graph.teacher)).index_copy(0, graphs.queries, graphs.weights)
    torch.testing.assert_close(nodes_of_graph.details.weights, weights)
    order = graphs.queries.argsort()
    shown_order = nodes_of_graph.details.queries.argsort()
    assert torch.equal(
        nodes_of_graph.details.neighbours[shown_order].sort(dim=1).values,
        graphs.neighbours[order].sort(dim=1).values,
    )
    assert float(nodes_of_graph.details.values.sum()) == pytest.approx(
        nodes_of_graph.loss, rel=1e-5
    )


def test_the_pull_is_the_gradient_of_the_loss(toys: Toys):
    """Of attention transfer, by a small step of one cell's feature."""
    path = toys.student("pull", {"AT": ATTENTION, "LOGITS": LOGITS})
    distiller = toys.distiller(path).eval()
    dataset = build_dataset(load_config(path).DATA_CONFIG, CLASSES, training=False)
    batch = Frame("0", 1, dataset).batch(CPU)
    shown = look_at(Side("after", distiller, True), batch)
    found = shown.nodes["AT"]
    assert found.details is None and found.pull.shape == (len(found.student),)
    leaf = found.student.features.double().clone().requires_grad_()
    student = dataclasses.replace(found.student, features=leaf)
    loss = distiller.head.terms["AT"].loss(student, found.teacher, batch)
    (gradient,) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(found.pull.double(), gradient.norm(dim=1), rtol=1e-3, atol=1e-9)
    places = shown.places["LOGITS"]
    assert places.coords.shape == (len(places.pull), 2)
    assert places.loss > 0 and float(places.pull.max()) > 0


def test_a_term_that_fades_is_shown_where_it_weighs_most(toys: Toys):
    late = {"START": 0.0, "END": 2.0, "SCHEDULE": "linear"}
    path = toys.student("late", {"GRAPH": {**GRAPH, "WEIGHT": late}})
    distiller = toys.distiller(path)
    assert distiller.head.terms["GRAPH"].weight == 0
    take_strongest_weights(distiller.head)
    assert distiller.head.terms["GRAPH"].weight == 2.0


def test_frames_of_both_splits_are_found_and_others_serve_the_fit(toys: Toys):
    config = load_config(toys.student("frames", {"GRAPH": GRAPH}))
    dataset = build_dataset(config.DATA_CONFIG, CLASSES, training=False)
    known = [dataset.frame_name(index) for index in range(3)]
    training, test = named_frames(config, dataset, ["000000", known[1]])
    assert test.dataset is dataset and test.index == 1
    assert training.dataset is not dataset and training.dataset.frame_name(0) == "000000"
    assert not training.dataset.training  # no augmentation
    others = other_frames(dataset, [training, test])
    assert [frame.name for frame in others] == [known[0], known[2]]
    every = [Frame(name, index, dataset) for index, name in enumerate(known)]
    assert other_frames(dataset, every) == every


class Unlabelled:
    """A dataset whose frames have no labels."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.box_fields = dataset.box_fields
        self.collate_batch = dataset.collate_batch

    def __getitem__(self, index):
        item = self.dataset[index]
        return {key: value for key, value in item.items() if key != "gt_boxes"}


def test_a_frame_without_labels_has_no_objects_to_relate(toys: Toys):
    path = toys.student("unlabelled", {"RELATIONS": RELATIONS, "GRAPH": GRAPH})
    dataset = build_dataset(load_config(path).DATA_CONFIG, CLASSES, training=False)
    batch = Frame("0", 1, Unlabelled(dataset)).batch(CPU)
    assert len(labels_of(batch)) == 0
    shown = look_at(Side("after", toys.distiller(path).eval(), True), batch)
    assert float(shown.nodes["RELATIONS"].details.weights.sum()) == 0
    assert shown.nodes["RELATIONS"].loss == 0
    assert float(shown.nodes["GRAPH"].details.weights.sum()) > 0


def test_a_config_without_distillation_is_refused(toys: Toys):
    with pytest.raises(ConfigError, match="has no DISTILL block"):
        without_stored_outputs(load_config(toys.teacher_yaml))


# Pictures


def test_a_map_is_drawn_as_it_lies_on_the_ground():
    """Forward is up; the sensor's left, large y, is at the left."""
    map_values = torch.arange(6.0).view(1, 1, 2, 3)  # value 3 y + x
    made = map_nodes(map_values, cell_m=2.0)
    image = node_image(made, made.features.numpy())[..., 0]
    assert image.tolist() == [[3.0, 0.0], [4.0, 1.0], [5.0, 2.0]]
    assert extent_of(made) == (-4.0, 0.0, 0.0, 6.0)
    few = made.select(torch.tensor([0, 5]))
    assert np.isnan(node_image(few, few.features.numpy())[..., 0]).sum() == 4


def made_graph(weights, queries, neighbours, features):
    """Nodes on a line, with local graphs."""
    made = nodes(features, coords=[[float(row), 0, 0] for row in range(len(features))])
    rows = torch.tensor(neighbours)
    details = NodeDetails(
        torch.tensor(weights),
        torch.zeros(len(features)),
        torch.tensor(queries),
        rows,
        torch.ones_like(rows, dtype=torch.bool),
    )
    return TermNodes(made, made, details, None, None)


def test_the_drawn_graph_is_that_of_the_heaviest_query_on_an_object():
    features = [[0.0], [1.0], [1.5], [10.0]]
    made = made_graph([0.0, 1.0, 2.0, 9.0], [1, 2, 3], [[1, 0], [2, 3], [3, 2]], features)
    on_object = torch.tensor([True, True, True, False])
    graph = choose_graph(made, on_object, in_feature_space=True)
    assert graph.query == 2
    assert graph.neighbours.tolist() == [3]
    assert graph.of_student.tolist() == [1]  # 1.0 is nearer to 1.5 than 10.0
    assert graph.shared() == 0
    nowhere = choose_graph(made, torch.zeros(4, dtype=torch.bool), in_feature_space=False)
    assert nowhere.query == 3 and nowhere.of_student is None


def test_parts_in_percent():
    assert in_percent(torch.tensor([1.0, 3.0])).tolist() == [25.0, 75.0]
    assert in_percent(torch.zeros(2)).tolist() == [0.0, 0.0]


def test_a_map_that_reaches_beyond_its_grid_is_drawn_whole():
    """A sparse encoder pads its map by a cell or two."""
    made = map_nodes(torch.arange(6.0).view(1, 1, 2, 3))
    smaller = dataclasses.replace(made.grid, size=(2, 1, 1))
    beyond = dataclasses.replace(made, grid=smaller)
    assert map_size(beyond) == (3, 2)
    assert extent_of(beyond) == (-2.0, 0.0, 0.0, 3.0)
    image = node_image(beyond, beyond.features.numpy())[..., 0]
    assert image.tolist() == [[3.0, 0.0], [4.0, 1.0], [5.0, 2.0]]
