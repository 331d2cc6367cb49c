"""Feature maps as colours on the teacher's components, and how far each student is from them."""

from __future__ import annotations

from .draw import Scene, add_bar, as_webp, draw_colours, draw_values, panels, prepare
from .features import FeatureView

BAR_INCH = 0.8
FURTHEST = 1.5  # distance of the last colour; 1 is a student that knows nothing


def draw_features(scene: Scene, views: dict[str, FeatureView]) -> bytes:
    """The teacher's features, those of each student, and the distance of each student.

    Args:
        views: by the name of the side; all of them in one space.
    """
    figure, axes = panels(scene, 1 + 2 * len(views), BAR_INCH)
    first = next(iter(views.values()))
    prepare(axes[0], scene, "teacher", with_points=False)
    draw_colours(axes[0], first.nodes, first.teacher_colours)
    for number, (name, view) in enumerate(views.items()):
        colours = axes[1 + number]
        prepare(colours, scene, f"student\n{name}", with_points=False)
        draw_colours(colours, view.nodes, view.student_colours)
        distances = axes[1 + len(views) + number]
        prepare(distances, scene, f"distance\n{name}", with_points=False)
        drawn = draw_values(distances, view.nodes, view.distances, largest=FURTHEST)
    words = "distance to the teacher: 0 equal, 1 as far as a student that knows nothing"
    add_bar(figure, axes, drawn, words)
    return as_webp(figure)
