"""Draw the pictures in docs/images that explain an idea.

    python tools/docs_pictures.py

draws those of simulated scenes. The others need a trained teacher:

    python tools/create_data.py synthetic --out data/synthetic_kitti --frames 240 --val_frames 40
    python tools/create_data.py kitti cfgs/synthetic/dataset.yaml
    python tools/train.py --cfg_file cfgs/synthetic/pointpillar_teacher.yaml --epochs 5
    python tools/docs_pictures.py --teacher_ckpt FILE

It need not be good. Five epochs take three minutes on one CPU core.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import drive_pictures
import numpy as np
import scene_pictures
import sensor_pictures
import torch
from torch import Tensor

from pcdet_distill.checkpoint import load_checkpoint, load_model_state
from pcdet_distill.config import load_config
from pcdet_distill.datasets import build_dataset
from pcdet_distill.distill import GraphDistillLoss, GraphOptions, NodeFeatures
from pcdet_distill.distill.init.plan import ChannelPlan
from pcdet_distill.distill.init.scores import channel_score_matrices
from pcdet_distill.distill.init.selection import select_channels
from pcdet_distill.distill.init.student import plan_channels
from pcdet_distill.distill.init.topology import find_narrower_layers
from pcdet_distill.distill.node_converters import voxel_nodes
from pcdet_distill.distill.nodes import grid_of
from pcdet_distill.models import Detector3DTemplate, build_network, load_data_to_device
from pcdet_distill.models.eval_mode import evaluating
from pcdet_distill.models.taps import capture
from pcdet_distill.ops.knn import knn
from pcdet_distill.types import BatchDict
from pcdet_distill.visualize import (
    BACKGROUND,
    CLASS_COLOURS,
    PALE,
    TEXT,
    Limits,
    draw_box,
    import_pyplot,
    prepare_axis,
    to_picture,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
TEACHER_CFG = ROOT / "cfgs/synthetic/pointpillar_teacher.yaml"
STUDENT_CFG = ROOT / "cfgs/synthetic/pointpillar_student_init.yaml"

SCENE_FRAME = 0  # of the simulated scenes that are shown
LAYER = "vfe.pfn_layers.0.linear"  # whose channels are drawn, as maps of the pillars
CALIBRATION_FRAMES = 24
SAMPLES = 6000
PILLAR_TAP = "vfe@pillar_features"
QUERIES = 256
NEIGHBOURS = 16

KEPT = "#2a9d8f"
DROPPED = "#b8bec8"
TEACHER_COLOUR = "#e76f51"
STUDENT_COLOUR = "#2a9d8f"
LOSS_COLOUR = "#6d597a"
DATA_COLOUR = "#457b9d"
QUERY_COLOUR = "#ff4d6d"
GRAPH_COLOURS = ("#ff4d6d", "#80ffdb", "#ffffff")


@dataclasses.dataclass(frozen=True)
class Setup:
    """The teacher, a student of half its widths, and validation frames."""

    teacher: Detector3DTemplate
    student: Detector3DTemplate
    frames: list[BatchDict]
    class_names: list[str]


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher_ckpt", help="checkpoint of the small teacher")
    parser.add_argument("--data", default="data/synthetic_kitti", help="folder of simulated frames")
    parser.add_argument("--frame", type=int, default=5, help="validation frame that is shown")
    args = parser.parse_args()
    scene_pictures.draw_easy_and_hard(IMAGES / "easy_and_hard.png", SCENE_FRAME)
    scene_pictures.draw_shapes(IMAGES / "shapes.png")
    sensor_pictures.draw_sensors(IMAGES / "sensors.png", SCENE_FRAME)
    drive_pictures.draw_drive(IMAGES / "drive.png")
    if args.teacher_ckpt is None:
        return
    setup = load_setup(args.teacher_ckpt, args.data)
    draw_distillation_step(IMAGES / "distillation_step.png")
    draw_kept_channels(setup, args.frame, IMAGES / "kept_channels.png")
    draw_salient_nodes(setup, args.frame, IMAGES / "salient_nodes.png")


def load_setup(teacher_ckpt: str, data: str) -> Setup:
    """The quickstart's pair on the validation frames of a folder."""
    overrides = ["DATA_CONFIG.DATA_PATH", str(Path(data).resolve())]
    teacher_cfg = load_config(TEACHER_CFG, overrides)
    student_cfg = load_config(STUDENT_CFG, overrides)
    names = teacher_cfg.CLASS_NAMES
    dataset = build_dataset(teacher_cfg.DATA_CONFIG, names, training=False)
    teacher = build_network(teacher_cfg.MODEL, len(names), dataset)
    state = load_checkpoint(teacher_ckpt)["model_state"]
    load_model_state(teacher, state, strict=True, where=teacher_ckpt)
    student = build_network(student_cfg.MODEL, len(names), dataset)
    frames = []
    for number in range(CALIBRATION_FRAMES):
        batch = dataset.collate_batch([dataset[number]])
        load_data_to_device(batch, "cpu")
        frames.append(batch)
    return Setup(teacher, student, frames, list(names))


# What SLICE keeps


def draw_kept_channels(setup: Setup, frame: int, file: Path) -> None:
    """Scores of the channels of one layer, and maps of the best and the worst of them."""
    plt = import_pyplot()
    scores, kept = score_channels(setup)
    maps = pillar_maps(setup, frame)
    order = np.argsort(-scores)
    is_kept = np.isin(order, kept)
    figure = plt.figure(figsize=(9.0, 5.0), layout="constrained")
    grid = figure.add_gridspec(2, 6, height_ratios=[1.1, 1.0])
    axis = figure.add_subplot(grid[0, :])
    axis.bar(np.arange(len(order)), scores[order], color=np.where(is_kept, KEPT, DROPPED))
    axis.set_xticks(np.arange(len(order)), order, fontsize=7)
    axis.set_xlabel(f"channel of {LAYER}")
    axis.set_ylabel("standard deviation x weights")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(
        f"The student keeps the {len(kept)} of {len(order)} channels with the best score"
    )
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in (KEPT, DROPPED)]
    axis.legend(handles, ["kept", "dropped"], frameon=False)
    for column, channel in enumerate([*order[:3], *order[-3:]]):
        axis = figure.add_subplot(grid[1, column])
        draw_channel_map(axis, maps[channel], colour=KEPT if channel in kept else DROPPED)
        axis.set_title(f"channel {channel}", fontsize=9)
    figure.savefig(file, dpi=100)
    plt.close(figure)


def score_channels(setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    """(C,) the score of each channel of LAYER, and the channels that are kept."""
    narrower = find_narrower_layers(setup.teacher, setup.student)
    generator = torch.Generator().manual_seed(0)
    with evaluating(setup.teacher), evaluating(setup.student):
        plan, _ = plan_channels(setup.teacher, setup.student, narrower, setup.frames[0])
        matrices = channel_score_matrices(setup.teacher, plan, setup.frames, SAMPLES, generator)
    matrix = matrices[group_of_layer(plan)]
    kept = select_channels(matrix, plan.num_kept(LAYER), "magnitude")
    return matrix.diagonal().sqrt().numpy(), kept.numpy()


def group_of_layer(plan: ChannelPlan) -> str:
    """The group of channels that LAYER belongs to."""
    return next(group for group, members in plan.groups.items() if LAYER in members)


def pillar_maps(setup: Setup, frame: int) -> np.ndarray:
    """(C, ny, nx) the teacher's pillar features from above."""
    with evaluating(setup.teacher):
        batch = setup.teacher.run_modules(dict(setup.frames[frame]), until="map_to_bev_module")
    return batch["spatial_features"][0].numpy()


def draw_channel_map(axis: Axes, values: np.ndarray, colour: str) -> None:
    """One channel from above, forward up, the sensor's left at the left."""
    seen_from_above = values.T[:, ::-1]
    axis.imshow(seen_from_above, origin="lower", cmap="magma", vmin=0, aspect="equal")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=3)


# Salient nodes


def draw_salient_nodes(setup: Setup, frame: int, file: Path) -> None:
    """Pillars by saliency with the queries among them, and the local graphs of a few."""
    plt = import_pyplot()
    batch = setup.frames[frame]
    nodes = teacher_pillars(setup, batch)
    info = setup.teacher.taps()[PILLAR_TAP]
    loss = GraphDistillLoss(info, info, GraphOptions(num_nodes=QUERIES, score="saliency"))
    queries = loss.choose_queries(nodes)
    boxes = batch["gt_boxes"][0].numpy()
    boxes = boxes[boxes[:, 3] > 0]  # without padding
    x0, y0, _, x1, y1, _ = (float(value) for value in setup.teacher.dataset.point_cloud_range)
    figure, axes = plt.subplots(
        1, 2, figsize=(7.6, 6.8), facecolor=BACKGROUND, layout="constrained"
    )
    places = to_picture(nodes.coords.numpy())
    titles = (
        f"{QUERIES} queries: the fullest pillars",
        f"three of them, with {NEIGHBOURS} neighbours",
    )
    for axis, title in zip(axes, titles):
        prepare_axis(axis, title, Limits(x0, y0, x1, y1))
        for box in boxes:
            draw_box(axis, box[:7], CLASS_COLOURS[setup.class_names[int(box[7]) - 1]])
    pillars = draw_pillars(axes[0], places, nodes.saliency)
    right, forward = places[queries].T
    axes[0].scatter(
        right, forward, s=14, facecolors="none", edgecolors=QUERY_COLOUR, linewidths=0.7, zorder=7
    )
    draw_pillars(axes[1], places, nodes.saliency)
    for query, colour in zip(queries_on_objects(nodes, queries, boxes), GRAPH_COLOURS):
        draw_local_graph(axes[1], nodes, places, query, colour)
    bar = figure.colorbar(pillars, ax=axes, location="bottom", shrink=0.5, pad=0.01)
    bar.set_label("saliency of a pillar: its number of points", color=TEXT)
    bar.ax.tick_params(colors=PALE)
    figure.savefig(file, dpi=80, facecolor=BACKGROUND)
    plt.close(figure)


def teacher_pillars(setup: Setup, batch: BatchDict) -> NodeFeatures:
    """The teacher's pillars of a batch as nodes."""
    grid = grid_of(setup.teacher.dataset)
    assert grid is not None
    with evaluating(setup.teacher), capture(setup.teacher, [PILLAR_TAP]) as features:
        filled_batch = setup.teacher.run_modules(dict(batch))
    return voxel_nodes(features[PILLAR_TAP], filled_batch, grid)


def draw_pillars(axis: Axes, places: np.ndarray, saliency: Tensor) -> PathCollection:
    """Pillars as dots, the fullest on top."""
    counts = saliency.numpy()
    order = np.argsort(counts)
    right, forward = places[order].T
    return axis.scatter(
        right, forward, c=counts[order], s=3, cmap="cividis", linewidths=0, zorder=6
    )


def queries_on_objects(nodes: NodeFeatures, queries: Tensor, boxes: np.ndarray) -> list[int]:
    """For each class in the frame, the query that is nearest to the middle of an object of it."""
    chosen = []
    for label in np.unique(boxes[:, 7]):
        centres = torch.from_numpy(boxes[boxes[:, 7] == label, :2])
        distances_m = torch.cdist(nodes.coords[queries, :2], centres).amin(dim=1)
        chosen.append(int(queries[distances_m.argmin()]))
    return chosen


def draw_local_graph(
    axis: Axes, nodes: NodeFeatures, places: np.ndarray, query: int, colour: str
) -> None:
    """Lines from a query to its nearest nodes in the teacher's feature space."""
    features = nodes.features
    (neighbours,) = knn(features[[query]], features, NEIGHBOURS).numpy()
    for neighbour in neighbours:
        right, forward = places[[query, neighbour]].T
        axis.plot(right, forward, color=colour, linewidth=0.8, alpha=0.9, zorder=8)
    right, forward = places[neighbours].T
    axis.scatter(right, forward, s=12, color=colour, zorder=9)
    right, forward = places[query]
    axis.scatter(right, forward, s=60, marker="*", color=colour, edgecolors="white", zorder=10)


# The distillation step


def draw_distillation_step(file: Path) -> None:
    """From a batch to the loss."""
    plt = import_pyplot()
    figure, axis = plt.subplots(figsize=(10.0, 3.8), layout="constrained")
    axis.set_xlim(0, 20.2)
    axis.set_ylim(-0.3, 7.4)
    axis.axis("off")
    draw_step_box(axis, 0.1, 3.6, "batch\npoints, labels", DATA_COLOUR)
    draw_step_box(axis, 3.5, 5.7, "teacher\nfrozen", TEACHER_COLOUR)
    draw_step_box(axis, 3.5, 1.9, "student\ntrained", STUDENT_COLOUR)
    draw_step_box(axis, 6.9, 5.7, "tap\n32 channels", TEACHER_COLOUR)
    draw_step_box(axis, 6.9, 1.9, "tap\n16 channels", STUDENT_COLOUR)
    draw_step_box(axis, 10.3, 3.8, "nodes\nmatched by place", LOSS_COLOUR)
    draw_step_box(axis, 13.7, 3.8, "graph\nof the teacher", LOSS_COLOUR)
    draw_step_box(axis, 17.1, 3.8, "distillation loss\nbetween edges", LOSS_COLOUR)
    draw_step_box(axis, 17.1, 0.0, "detection loss\nwith labels", DATA_COLOUR)
    draw_arrow(axis, (1.6, 5.05), (3.5, 6.4), DATA_COLOUR)
    draw_arrow(axis, (1.6, 3.6), (3.5, 2.6), DATA_COLOUR)
    draw_arrow(axis, (6.3, 6.4), (6.9, 6.4), TEACHER_COLOUR)
    draw_arrow(axis, (6.3, 2.6), (6.9, 2.6), STUDENT_COLOUR)
    draw_arrow(axis, (9.7, 6.4), (11.6, 5.2), TEACHER_COLOUR)
    draw_arrow(axis, (9.7, 2.6), (11.6, 3.8), STUDENT_COLOUR)
    draw_arrow(axis, (13.1, 4.5), (13.7, 4.5), LOSS_COLOUR)
    draw_arrow(axis, (16.5, 4.5), (17.1, 4.5), LOSS_COLOUR)
    draw_arrow(axis, (4.9, 1.9), (17.1, 0.7), STUDENT_COLOUR, bend="angle,angleA=-90,angleB=180")
    draw_note(axis, 11.0, 0.9, "the head's predictions")
    draw_note(axis, 18.5, 2.65, "+\ngradients reach\nthe student only")
    figure.savefig(file, dpi=100)
    plt.close(figure)


def draw_step_box(axis: Axes, x: float, y: float, text: str, colour: str) -> None:
    """A rounded box, 2.8 wide and 1.4 high, with its lower left corner at (x, y)."""
    from matplotlib.patches import FancyBboxPatch

    width = 2.8
    height = 1.4
    patch = FancyBboxPatch(
        (x, y), width, height, boxstyle="round,pad=0.05", facecolor=colour, edgecolor="none"
    )
    axis.add_patch(patch)
    title, subtitle = text.split("\n")
    middle = x + width / 2
    axis.text(middle, y + 0.9, title, ha="center", va="center", color="white", weight="bold")
    axis.text(middle, y + 0.4, subtitle, ha="center", va="center", color="white", fontsize=9)


def draw_arrow(
    axis: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    bend: str = "arc3",
) -> None:
    """An arrow between two boxes; ``bend`` is a connection style of matplotlib."""
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.8, "connectionstyle": bend}
    axis.annotate("", xy=end, xytext=start, arrowprops=style)


def draw_note(axis: Axes, x: float, y: float, text: str) -> None:
    """Small grey text, centred at (x, y)."""
    axis.text(x, y, text, ha="center", va="center", color="#5c6370", fontsize=9)


if __name__ == "__main__":
    main()
