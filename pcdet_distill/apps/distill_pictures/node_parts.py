"""A term in one frame: salient nodes, the neighbours of one, the loss by node; or its places."""

from __future__ import annotations

from torch import Tensor

from ...distill import DistillTerm, GraphDistillLoss
from ...report.page import Html, figure, heading, note, paragraph
from .contents import FrameData, Shown
from .feature_parts import feature_parts
from .features import TermSpaces, common_space, labels_of
from .node_pictures import (
    choose_graph,
    draw_graph,
    draw_parts,
    draw_places,
    draw_weights,
    in_percent,
)
from .sides import Side
from .spaces import on_objects
from .terms import TermNodes
from .words import percent, title_of, webp


def node_parts(shown: Shown, data: FrameData, name: str, term: DistillTerm) -> list[Html]:
    """Weights, neighbours, features and the loss by node."""
    after = shown.sides.after
    nodes = data.sides[after.name].nodes[name]
    if len(nodes.teacher) == 0:
        return [paragraph("Student and teacher have no node at the same place in this frame.")]
    spaces = shown.spaces[name]
    parts = []
    if nodes.details is not None and bool((nodes.details.weights > 0).any()):
        parts += weight_parts(data, nodes)
        if len(nodes.details.queries):
            parts += graph_parts(data, nodes, term, spaces, after.name)
    elif nodes.details is None:
        parts.append(
            note(
                f"{type(term.loss).__name__} does not tell how much each node counts. Below is "
                "where it pulls at the student instead: the length of its gradient at each node."
            )
        )
    else:
        parts.append(note("This term compares nothing in this frame."))
    parts += value_parts(shown, data, name)
    parts += feature_parts(shown, data, name, spaces)
    return parts


def weight_parts(data: FrameData, nodes: TermNodes) -> list[Html]:
    """The salient nodes."""
    details = nodes.details
    assert details is not None
    weights = details.weights
    is_object = on_objects(nodes.teacher, labels_of(data.batch))
    count = int((weights > 0).sum())
    share = float(weights[is_object].sum() / weights.sum())
    nodes_share = float(is_object.float().mean())
    words = (
        f"{count} of {len(weights)} nodes count in the loss. Labelled objects (with half a metre "
        f"around them) hold {percent(share)} of the weight and {percent(nodes_share)} of the nodes."
    )
    picture = draw_weights(data.scene, nodes)
    caption = (
        "Left: the points that both models see, low ones dark, high ones bright. Right: the nodes "
        "that the loss compares, by their weight. The teacher alone chooses and weighs them."
    )
    return [
        heading("Salient nodes"),
        paragraph(words),
        figure(webp(picture, "nodes by weight"), caption),
    ]


def graph_parts(
    data: FrameData, nodes: TermNodes, term: DistillTerm, spaces: TermSpaces, side_name: str
) -> list[Html]:
    """The neighbours of one node."""
    details = nodes.details
    assert details is not None
    if not bool((details.is_neighbour.sum(dim=1) > 1).any()):
        words = "Every node is its own and only neighbour (NUM_NEIGHBORS: 1): there is no graph."
        return [heading("Neighbours"), paragraph(words)]
    by_feature = (
        isinstance(term.loss, GraphDistillLoss) and term.loss.options.neighbor_space == "feature"
    )
    is_object = on_objects(nodes.teacher, labels_of(data.batch))
    graph = choose_graph(nodes, is_object, in_feature_space=by_feature)
    space = common_space(term, nodes) if spaces.of_loss is not None else None
    behind = "behind the adapters of the loss"
    if space is None:
        space = spaces.fitted.features(nodes, side_name)
        behind = "with the student behind the fitted linear map"
    words = f"The node of the largest weight has {len(graph.neighbours)} neighbours besides itself."
    if graph.of_student is not None:
        words += (
            f" {graph.shared()} of them are also among the {len(graph.of_student)} nearest nodes "
            "in the student's own features. The loss uses the teacher's graph for both."
        )
    caption = (
        "Left: a line joins the query (star) with each neighbour. "
        "Right: the same nodes on the plane in which the teacher's features of this graph differ "
        f"most, {behind}. Dotted lines lead from the teacher's feature of a node to the "
        "student's: their lengths are what the loss makes short."
    )
    return [
        heading("Neighbours of one node"),
        paragraph(words),
        figure(webp(draw_graph(data.scene, nodes, graph, space), "a local graph"), caption),
    ]


def value_parts(shown: Shown, data: FrameData, name: str) -> list[Html]:
    """The loss by node, of each student that has adapters."""
    named = []
    sentences = []
    for side in shown.sides.both:
        nodes = data.sides[side.name].nodes[name]
        if nodes.loss is None or nodes.pull is None:
            continue
        values = nodes.pull if nodes.details is None else nodes.details.values
        named.append((title_of(side.name), nodes.teacher, in_percent(values)))
        sentences.append(value_sentence(side, nodes, values, data))
    if not named:
        return []
    of_gradient = data.sides[shown.sides.after.name].nodes[name].details is None
    words = "length of the gradient, % of the sum" if of_gradient else "% of the loss"
    caption = (
        "How strongly the loss pulls at the student's feature of each node."
        if of_gradient
        else "The parts of all nodes add up to the loss. Bright nodes are those that the student "
        "still represents differently from the teacher, times their weight."
    )
    return [
        heading("The loss by node"),
        paragraph(" ".join(sentences)),
        figure(webp(draw_parts(data.scene, named, words), words), caption),
    ]


def value_sentence(side: Side, nodes: TermNodes, values: Tensor, data: FrameData) -> str:
    """The loss of one student, and where it arises."""
    is_object = on_objects(nodes.teacher, labels_of(data.batch))
    total = float(values.sum())
    share = float(values[is_object].sum()) / total if total else 0.0
    return (
        f"Student {side.name}: loss {nodes.loss:.3g} before its weight; {percent(share)} of it on "
        "labelled objects."
    )


def place_parts(shown: Shown, data: FrameData, name: str) -> list[Html]:
    """A term without nodes: where it pulls at scores and boxes."""
    named = []
    sentences = []
    for side in shown.sides.both:
        if not side.is_trained:
            continue
        places = data.sides[side.name].places[name]
        named.append((title_of(side.name), places))
        sentences.append(f"Student {side.name}: loss {places.loss:.3g} before its weight.")
    caption = (
        "Positions of the head by the length of the loss's gradient at their scores and boxes. "
        "Positions without colour are left alone."
    )
    words = "length of the gradient"
    return [
        paragraph(
            "This term compares predictions, not features: it has no nodes, neighbours or adapters."
        ),
        paragraph(" ".join(sentences)),
        figure(webp(draw_places(data.scene, named, words), words), caption),
    ]
