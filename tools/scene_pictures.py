"""Pictures of simulated scenes, for docs/synthetic.md: easy beside hard, and the look-alikes.

``tools/docs_pictures.py`` draws them; they need no trained detector.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pcdet_distill.datasets.kitti.folder import TRUE_LABELS, KittiFolder
from pcdet_distill.datasets.kitti.kitti_infos import make_annos
from pcdet_distill.datasets.synthetic import create_synthetic_kitti, read_scenes
from pcdet_distill.datasets.synthetic.scenes.builder import Scene
from pcdet_distill.datasets.synthetic.scenes.ground import Ground
from pcdet_distill.datasets.synthetic.sensors.camera import Camera
from pcdet_distill.datasets.synthetic.sensors.lidar import cast, rays_for_camera
from pcdet_distill.datasets.synthetic.sensors.raycast import Instances
from pcdet_distill.datasets.synthetic.templates.library import library
from pcdet_distill.datasets.synthetic.templates.lookalike_shapes import TEMPLATES
from pcdet_distill.datasets.synthetic.templates.more_road_users import FAMILIES
from pcdet_distill.datasets.synthetic.writer import simulate_frame
from pcdet_distill.visualize import (
    BACKGROUND,
    CLASS_COLOURS,
    PALE,
    TEXT,
    BevPanel,
    Limits,
    box_outline,
    colours_of,
    draw_panel,
    draw_points,
    import_pyplot,
    prepare_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SEED = 3
LIMITS = Limits(0.0, -12.8, 44.8, 12.8)
CLASSES = ("Car", "Pedestrian", "Cyclist", "Van", "Truck")
LOOKALIKE_COLOUR = "#ff6b6b"
GALLERY_COLUMNS = 9
GALLERY_DISTANCE_M = 9.0


def draw_easy_and_hard(file: Path, frame: int) -> None:
    """One frame in easy and in hard scenes, from above, with labels and true boxes."""
    plt = import_pyplot()
    figure, axes = plt.subplots(
        1, 2, figsize=(8.4, 8.2), facecolor=BACKGROUND, layout="constrained"
    )
    for axis, name in zip(axes, ("easy", "hard")):
        prepare_axis(axis, f"--scenes {name}", LIMITS)
        draw_scene_panel(axis, name, frame)
    colours = colours_of(CLASSES)
    handles = [plt.Line2D([], [], color=colours[name], linewidth=2) for name in CLASSES]
    handles.append(plt.Line2D([], [], color=TEXT, linestyle="--", linewidth=0.8))
    handles.append(plt.Line2D([], [], color=LOOKALIKE_COLOUR, linestyle=":", linewidth=1.2))
    names = [*CLASSES, "true box", "look-alike"]
    figure.legend(
        handles, names, loc="outside lower center", ncols=7, frameon=False, labelcolor=TEXT
    )
    figure.savefig(file, dpi=80, facecolor=BACKGROUND)
    plt.close(figure)


def draw_scene_panel(axis: Axes, name: str, frame: int) -> None:
    """Points, labels, true boxes and look-alikes of a frame, as its folder holds them."""
    scenes = read_scenes(name)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "kitti"
        create_synthetic_kitti(root, frame + 1, SEED, scenes=scenes, workers=1, progress=False)
        folder = KittiFolder(root, "train")
        frame_id = f"{frame:06d}"
        points = folder.points(frame_id)
        annos = annos_of(folder, frame_id, "label_2")
        truth = None
        if folder.has_true_labels():
            truth = annos_of(folder, frame_id, TRUE_LABELS)["gt_boxes_lidar"]
    boxes = annos["gt_boxes_lidar"]
    panel = BevPanel(name, boxes, list(annos["name"][: len(boxes)]), reference=truth)
    draw_points(axis, points, LIMITS, point_size=1.2)
    draw_panel(axis, panel, colours_of(CLASSES), LIMITS, metres_per_point=0.1)
    scene, _ = simulate_frame(SEED, frame, scenes=scenes)
    for outline in lookalike_outlines(scene):
        right, forward = np.vstack([outline, outline[:1]]).T
        axis.plot(right, forward, color=LOOKALIKE_COLOUR, linestyle=":", linewidth=1.2, zorder=6)


def annos_of(folder: KittiFolder, frame_id: str, labels: str) -> dict[str, np.ndarray]:
    """The labels of a frame, as the info files hold them."""
    return make_annos(
        folder.labels(frame_id, labels),
        folder.points(frame_id),
        folder.calibration(frame_id),
        folder.image_shape(frame_id),
    )


def lookalike_outlines(scene: Scene) -> list[np.ndarray]:
    """The footprints of all look-alikes."""
    names = [*TEMPLATES, "bicycle"]
    rows = [library().index[name] for name in names]
    outlines = []
    instances = scene.instances
    for template, pose, size_m in zip(instances.template, instances.poses, instances.sizes_m):
        if template in rows:
            outlines.append(box_outline(np.array([*pose[:3], *size_m, pose[3]])))
    return outlines


def draw_shapes(file: Path) -> None:
    """Every further shape and every look-alike, as a dense scan would show it from the side."""
    plt = import_pyplot()
    labels = {family.name: family.label for family in FAMILIES}
    kept = {family.name for family in FAMILIES if family.is_kept}
    names = [*labels, *TEMPLATES]
    rows = -(-len(names) // GALLERY_COLUMNS)
    figure, axes = plt.subplots(
        rows,
        GALLERY_COLUMNS,
        figsize=(11.0, 1.05 * rows),
        facecolor=BACKGROUND,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names):
        colour = CLASS_COLOURS.get(labels.get(name, ""), LOOKALIKE_COLOUR)
        draw_shape(axis, name, colour)
        title = f"{name}*" if name in kept else name
        axis.set_title(title.replace("_", " "), color=TEXT, fontsize=8, pad=2)
    figure.savefig(file, dpi=80, facecolor=BACKGROUND)
    plt.close(figure)


def draw_shape(axis: Axes, name: str, colour: str) -> None:
    """One template, a quarter turned, in front of the sensor."""
    index = library().index[name]
    size_m = library().shapes.sizes_m[index]
    yaw = np.pi / 2 + 0.5
    instances = Instances(
        template=np.array([index]),
        poses=np.array([[GALLERY_DISTANCE_M, 0.0, -1.73, yaw]]),
        sizes_m=size_m[None],
        shade=np.ones(1),
        counted=np.ones(1, dtype=bool),
    )
    rng = np.random.default_rng(0)
    camera = Camera.standard()
    points = []
    for _ in range(6):  # several turns fill the gaps between the firings
        rays = rays_for_camera(camera, rng)
        sweep = cast(rays, library().shapes, instances, ground=Ground(), camera=camera, rng=rng)
        points.append(sweep.points[sweep.owner == 0])
    cloud = np.concatenate(points)
    axis.set_visible(True)
    axis.scatter(-cloud[:, 1], cloud[:, 2], s=0.7, color=colour, linewidths=0)
    axis.set(xlim=(-2.6, 2.6), ylim=(-1.85, 0.75), aspect="equal", xticks=[], yticks=[])
    axis.set_facecolor(BACKGROUND)
    for spine in axis.spines.values():
        spine.set_color(PALE)
        spine.set_linewidth(0.3)
