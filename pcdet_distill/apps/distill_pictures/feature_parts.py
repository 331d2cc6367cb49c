"""The features of a term in one frame: pictures and tables of distances."""

from __future__ import annotations

from ...distill.losses.collapse import DEAD_DEVIATION, DEAD_SHARE
from ...report.page import Html, figure, heading, note, table
from .contents import FrameData, Shown
from .feature_pictures import draw_features
from .features import (
    FeatureView,
    LossSpace,
    Regions,
    TermSpaces,
    constant_share,
    mean_of,
    regions_of,
)
from .sides import Side, Sides
from .words import percent, webp


def feature_parts(shown: Shown, data: FrameData, name: str, spaces: TermSpaces) -> list[Html]:
    """Features as colours, and distances, in the fitted space and in that of the loss."""
    sides = shown.sides
    views = {
        side.name: spaces.fitted.view(side, data.sides[side.name].nodes[name])
        for side in sides.both
    }
    explained = percent(spaces.fitted.basis.explained)
    caption = (
        f"First three principal components of the teacher's features ({explained} of their "
        "variance) as red, green and blue; grey is the teacher's mean. Each student is "
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
    parts += [
        heading("As the loss compares them"),
        figure(webp(draw_features(data.scene, own), "features behind the adapters"), caption),
        distance_table(sides, data, name, own),
        collapse_note(data, name, sides.after, spaces.of_loss),
    ]
    return parts


def collapse_note(data: FrameData, name: str, side: Side, space: LossSpace) -> Html:
    """A warning where the adapters give the same at every node that counts."""
    nodes = data.sides[side.name].nodes[name]
    if nodes.details is None or not bool((nodes.details.weights > 0).any()):
        return Html("")
    student, teacher = space.features(nodes)
    of_student = constant_share(student, nodes.details.weights)
    of_teacher = constant_share(teacher, nodes.details.weights)
    if max(of_student, of_teacher) < DEAD_SHARE:
        return Html("")
    return note(
        f"Collapsed: over the nodes that count, {percent(of_teacher)} of the teacher's and "
        f"{percent(of_student)} of the student's channels behind the adapters hardly vary (a "
        f"standard deviation below {DEAD_DEVIATION:g}). The loss is small because both adapters "
        "say the same everywhere, not because the student has learned.",
        "bad",
    )


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
