"""The sections of the page: pictures, what they show, and the numbers behind them."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import torch
from easydict import EasyDict
from torch import Tensor

from ...distill import DistillTerm, GraphDistillLoss
from ...report.page import (
    Html,
    figure,
    heading,
    items,
    note,
    page,
    paragraph,
    section,
    table,
)
from ...types import BatchDict
from ...visualize import Limits
from .box_pictures import draw_boxes
from .boxes import MOVED_M, RIGHT_IOU, Boxes, Change, changed_boxes
from .draw import Scene
from .feature_pictures import draw_features
from .features import (
    FeatureView,
    Regions,
    TermSpaces,
    common_space,
    labels_of,
    mean_of,
    regions_of,
)
from .frames import Frame
from .node_pictures import choose_graph, draw_graph, draw_parts, draw_places, draw_weights
from .sides import Side, Sides, describe_terms
from .spaces import on_objects
from .terms import FrameOfSide, TermNodes, look_at, teacher_boxes


@dataclasses.dataclass(frozen=True)
class Shown:
    """Everything that the page is made of.

    Attributes:
        cfg: of the distilled student.
        frames: that are shown.
        spaces: by the name of the term.
        score: least score of a shown box.
        files: checkpoints by role.
    """

    cfg: EasyDict
    sides: Sides
    frames: Sequence[Frame]
    spaces: dict[str, TermSpaces]
    device: torch.device
    score: float
    files: dict[str, str | None]


@dataclasses.dataclass(frozen=True)
class FrameData:
    """One frame as both students and the teacher see it."""

    scene: Scene
    batch: BatchDict
    sides: dict[str, FrameOfSide]  # by the name of the side
    boxes: dict[str, Boxes]  # of the teacher and of both sides
    labels: Boxes


def distill_page(shown: Shown) -> Html:
    """The whole page."""
    name = Path(str(shown.cfg.get("CONFIG_FILE", "yaml"))).name
    sections = [introduction(shown)]
    for frame in shown.frames:
        sections += frame_sections(shown, read_frame(shown, frame))
    return page(f"What distillation does: {name}", *sections)


def read_frame(shown: Shown, frame: Frame) -> FrameData:
    """Run everything on one frame."""
    batch = frame.batch(shown.device)
    x0, y0, _, x1, y1, _ = (float(value) for value in frame.dataset.point_cloud_range)
    labels = labels_of(batch).cpu().numpy()
    names = np.array(shown.cfg.CLASS_NAMES, dtype=str)
    truth = Boxes(labels[:, :-1], np.ones(len(labels)), names[labels[:, -1].astype(int) - 1])
    points = batch["points"][:, 1:4].cpu().numpy()
    scene = Scene(frame.name, points, labels, Limits(x0, y0, x1, y1))
    sides = {side.name: look_at(side, batch) for side in shown.sides.both}
    found = teacher_boxes(shown.sides.after.distiller, batch)
    boxes = {"teacher": named_boxes(*found, names).above(shown.score)}
    for name, seen in sides.items():
        detected = named_boxes(seen.boxes, seen.scores, seen.labels, names)
        boxes[name] = detected.above(shown.score)
    return FrameData(scene, batch, sides, boxes, truth)


def named_boxes(boxes: Tensor, scores: Tensor, labels: Tensor, names: np.ndarray) -> Boxes:
    """Detections as arrays with the names of their classes."""
    return Boxes(
        boxes.detach().cpu().numpy(),
        scores.detach().cpu().numpy(),
        names[labels.cpu().numpy().astype(int) - 1],
    )


def introduction(shown: Shown) -> Html:
    """What is compared, and by which files."""
    head = shown.sides.after.distiller.head
    terms = describe_terms(shown.cfg, head)
    files = [f"{role}: {file}" for role, file in shown.files.items() if file]
    parts = [
        paragraph(
            "A teacher, a student trained without it and a student trained with it look at the "
            "same frames, without augmentation. Nodes, neighbours, weights and adapters are those "
            "of the training. Forward is up, the sensor is at the bottom. Dashed boxes are the "
            "labelled objects."
        ),
        items(files),
    ]
    if terms:
        header = ["term", "method", "student", "teacher", "weight"]
        parts.append(table(header, terms))
    parts += [note(words, "warn") for words in shown.sides.notes]
    return section("What is compared", *parts)


def frame_sections(shown: Shown, data: FrameData) -> list[Html]:
    """The sections of one frame: boxes, then each term."""
    sections = [box_section(shown, data)]
    for name, term in shown.sides.after.distiller.head.named_terms():
        if name in shown.spaces:
            parts = node_parts(shown, data, name, term)
        elif name in data.sides[shown.sides.after.name].places:
            parts = place_parts(shown, data, name)
        else:
            parts = [paragraph(f"{name} compares neither features nor predictions of taps.")]
        sections.append(section(f"Frame {data.scene.name}: {name}", *parts))
    return sections


# Boxes


def box_section(shown: Shown, data: FrameData) -> Html:
    """Which boxes changed."""
    before, after = shown.sides.both
    names = ["teacher", after.name]
    compared = ("teacher", after.name)
    if before.is_trained:
        names = ["teacher", before.name, after.name]
        compared = (before.name, after.name)
    first, second = data.boxes[compared[0]], data.boxes[compared[1]]
    changes = changed_boxes(first, second, data.labels)
    picture = draw_boxes(
        data.scene,
        [(title_of(name), data.boxes[name]) for name in names],
        changes,
        shown.cfg.CLASS_NAMES,
        (first, second),
    )
    return section(
        f"Frame {data.scene.name}: boxes",
        paragraph(summary_of_changes(changes, compared, shown.score)),
        figure(webp(picture, "boxes of both students"), box_caption(shown.score)),
        change_table(changes),
    )


def title_of(name: str) -> str:
    """The title of a panel."""
    return name if name == "teacher" else f"student\n{name}"


def summary_of_changes(
    changes: Sequence[Change], compared: tuple[str, str], least_score: float
) -> str:
    """One sentence with the numbers."""
    words = []
    for kind in ("gained", "lost", "moved"):
        chosen = [change for change in changes if change.kind == kind]
        right = sum(change.is_right for change in chosen)
        words.append(f"{len(chosen)} {kind} ({right} right)")
    of = "teacher" if compared[0] == "teacher" else f"student {compared[0]}"
    return (
        f"Boxes of the student {compared[1]}, compared with the {of}: {', '.join(words)}, at a "
        f"score of {least_score:g} or more."
    )


def box_caption(least_score: float) -> str:
    """How to read the picture."""
    return (
        f"Boxes with a score of {least_score:g} or more, with their scores; dashed: labelled "
        "objects. The last panel shows only boxes that differ; the numbers are those of the table."
    )


def change_table(changes: Sequence[Change]) -> Html:
    """One row for each changed box."""
    if not changes:
        return Html("")
    rows = []
    for number, change in enumerate(changes, start=1):
        errors = [metres(change.error_before_m), metres(change.error_after_m)]
        right = "yes" if change.is_right else "no"
        rows.append([str(number), change.kind, change.name, right, *errors])
    header = ["box", "change", "class", "right", "centre off before", "centre off after"]
    caption = (
        f"Right: overlaps a labelled object of its class by an IoU of {RIGHT_IOU:g} seen from "
        f"above. Moved: by more than {MOVED_M:g} m or 10 degrees."
    )
    return table(header, rows, caption=caption)


def metres(distance: float) -> str:
    """``0.42 m``, or a dash."""
    return "–" if math.isnan(distance) else f"{distance:.2f} m"


# Terms with nodes


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
            parts += graph_parts(data, nodes, term, spaces)
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
    data: FrameData, nodes: TermNodes, term: DistillTerm, spaces: TermSpaces
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
    words = f"The node of the largest weight has {len(graph.neighbours)} neighbours besides itself."
    if graph.of_student is not None:
        words += (
            f" {graph.shared()} of them are also among the {len(graph.of_student)} nearest nodes "
            "in the student's own features. The loss uses the teacher's graph for both."
        )
    caption = (
        "Left: a line joins the query (star) with each neighbour. "
        "Right: the same nodes on the plane in which the teacher's features of this graph differ "
        "most, behind the adapters of the loss. Dotted lines lead from the teacher's feature of a "
        "node to the student's: their lengths are what the loss makes short."
    )
    if space is None:
        caption = "A line joins the query (star) with each neighbour."
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


def feature_parts(shown: Shown, data: FrameData, name: str, spaces: TermSpaces) -> list[Html]:
    """Features as colours, and distances, in the fitted space and in that of the loss."""
    sides = shown.sides
    views = {
        side.name: spaces.fitted.view(side, data.sides[side.name].nodes[name])
        for side in sides.both
    }
    caption = (
        f"First three principal components of the teacher's features ({shares(spaces.fitted)} of "
        "their variance) as red, green and blue; grey is the teacher's mean. Each student is "
        "mapped to the teacher's channels by the linear map that fits best on other frames, and "
        "drawn with the same mean, directions and scale: equal colours are equal features."
    )
    parts = [
        heading("Features of both models"),
        figure(webp(draw_features(data.scene, views), "features as colours"), caption),
        distance_table(sides, data, name, views),
    ]
    if spaces.of_loss is None:
        return parts
    own = {}
    for side in sides.both:
        if side.has_adapters:
            own[side.name] = spaces.of_loss.view(data.sides[side.name].nodes[name])
    caption = (
        "The same behind the trained adapters, which is what the loss compares: the teacher's "
        "target and the student's features, on the first three components of the target "
        f"({percent(spaces.of_loss.basis.explained)} of its variance)."
    )
    if spaces.of_loss.basis.variance < 1e-6:
        caption += (
            " The target is the same at every node: the adapters have collapsed, and the loss says "
            "nothing any more."
        )
    parts += [
        heading("As the loss compares them"),
        figure(webp(draw_features(data.scene, own), "features behind the adapters"), caption),
        distance_table(sides, data, name, own),
    ]
    return parts


def shares(space: object) -> str:
    """The explained variance of a fitted space."""
    return percent(space.basis.explained)  # type: ignore[attr-defined]


def distance_table(sides: Sides, data: FrameData, name: str, views: dict[str, FeatureView]) -> Html:
    """Mean distances and cosines by region."""
    nodes = data.sides[sides.after.name].nodes[name]
    weights = None if nodes.details is None else nodes.details.weights
    regions: Regions = regions_of(nodes.teacher, data.batch, weights)
    header = ["mean over", "nodes"]
    header += [f"distance, {side}" for side in views] + [f"cosine, {side}" for side in views]
    rows = []
    for region, mask in regions.items():
        cells = [region, str(int(mask.sum()))]
        for numbers in ("distances", "cosines"):
            for view in views.values():
                values = getattr(view, numbers)
                same_nodes = len(values) == len(mask)
                cells.append(f"{mean_of(values, mask):.3f}" if same_nodes else "–")
        rows.append(cells)
    caption = (
        "Distance: mean squared difference in units of the teacher's variance; 1 is a student "
        "that knows nothing. Cosine: of both features, seen from the teacher's mean."
    )
    return table(header, rows, caption=caption)


# Terms on predictions


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


# Small things


def in_percent(values: Tensor) -> Tensor:
    """Parts >= 0 as percent of their sum."""
    return 100 * values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)


def percent(share: float) -> str:
    """``37 %``; small shares with a digit more."""
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def webp(content: bytes, about: str) -> Html:
    """A picture as part of the page."""
    packed = base64.b64encode(content).decode("ascii")
    return Html(f"<img alt='{escape(about)}' src='data:image/webp;base64,{packed}'>")
