"""Draw the pictures of docs/pointdistiller.md, and print the numbers that stand beside them.

    python tools/pointdistiller_pictures.py --runs output/synthetic

needs these data and trainings (two hours of one CPU core):

    python tools/create_data.py synthetic --out data/study_small_pair --seed 7 --frames 600 \\
        --val_frames 200 --holdout_frames 500
    D="--set DATA_CONFIG.DATA_PATH ../data/study_small_pair"
    S=cfgs/synthetic
    python tools/create_data.py kitti $S/pointpillar_teacher.yaml $D
    python tools/train.py --cfg_file $S/pointpillar_teacher.yaml --epochs 10 --seed 0 $D
    python tools/train.py --cfg_file $S/pointpillar_student.yaml --epochs 6 --seed 0 $D
    T=output/synthetic/pointpillar_teacher/default/ckpt/checkpoint_epoch_10.pth
    for NAME in graph graph_relations graph_official; do
        python tools/train.py --cfg_file $S/recipes/$NAME.yaml --epochs 6 --seed 0 \\
            --teacher_ckpt $T $D
    done
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from pcdet_distill.apps.distill_pictures.arguments import add_distill_arguments
from pcdet_distill.apps.distill_pictures.box_pictures import draw_boxes
from pcdet_distill.apps.distill_pictures.boxes import changed_boxes
from pcdet_distill.apps.distill_pictures.command import read_shown
from pcdet_distill.apps.distill_pictures.contents import FrameData, Shown, read_frame
from pcdet_distill.apps.distill_pictures.draw import (
    add_bar,
    as_webp,
    draw_values,
    panels,
    prepare,
)
from pcdet_distill.apps.distill_pictures.feature_pictures import draw_features
from pcdet_distill.apps.distill_pictures.features import (
    common_space,
    constant_share,
    labels_of,
    mean_of,
    regions_of,
)
from pcdet_distill.apps.distill_pictures.frames import Frame
from pcdet_distill.apps.distill_pictures.node_pictures import (
    choose_graph,
    draw_graph,
    draw_parts,
    draw_weights,
    in_percent,
)
from pcdet_distill.apps.distill_pictures.spaces import on_objects
from pcdet_distill.apps.distill_pictures.terms import TermNodes
from pcdet_distill.apps.distill_pictures.words import title_of

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images" / "pointdistiller"
RECIPES = ROOT / "cfgs/synthetic/recipes"
GRAPH = "GRAPH"
RELATIONS = "RELATIONS"
NECK = "backbone_2d@spatial_features_2d"
BLOCK = "backbone_2d.blocks.1"
# The maps and scores of the table in docs/distillation.md that are drawn.
MAPS = (
    ("neck, largest channel", NECK, "channel_max"),
    ("backbone, largest channel", BLOCK, "channel_max"),
    ("backbone, objectness", BLOCK, "objectness"),
)


@dataclasses.dataclass(frozen=True)
class Files:
    """The checkpoints, and the frames."""

    teacher: Path
    plain: Path
    graph: Path
    relations: Path
    official: Path
    data: Path


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, help="output/synthetic of the trainings above")
    for name in ("teacher", "plain", "graph", "relations", "official"):
        parser.add_argument(f"--{name}", type=Path, help="checkpoint, if not in the folder of RUNS")
    parser.add_argument("--data", type=Path, default=Path("data/study_small_pair"))
    parser.add_argument("--frame", default="000546", help="validation frame that is shown")
    parser.add_argument("--graph_weight", help="WEIGHT that the graph student was trained with")
    args = parser.parse_args()
    files = find_files(args)
    IMAGES.mkdir(parents=True, exist_ok=True)
    weight = ["DISTILL.TERMS.GRAPH.WEIGHT", args.graph_weight] if args.graph_weight else []
    shown, data = load(files, "graph", files.graph, args.frame, weight)
    draw_method(shown, data)
    print_changes(shown)
    draw_maps(files, args.frame)
    shown, data = load(files, "graph_relations", files.relations, args.frame)
    draw_relations(shown, data)
    shown, data = load(files, "graph_official", files.official, args.frame)
    draw_official(shown, data)
    total = sum(file.stat().st_size for file in IMAGES.iterdir())
    print(f"{IMAGES}: {total / 1e6:.2f} MB")


def find_files(args: argparse.Namespace) -> Files:
    """The checkpoints that are named, or those in the folder of the trainings."""
    places = {
        "teacher": "pointpillar_teacher/default/ckpt/checkpoint_epoch_10.pth",
        "plain": "pointpillar_student/default/ckpt/checkpoint_epoch_6.pth",
        "graph": "recipes/graph/default/ckpt/checkpoint_epoch_6.pth",
        "relations": "recipes/graph_relations/default/ckpt/checkpoint_epoch_6.pth",
        "official": "recipes/graph_official/default/ckpt/checkpoint_epoch_6.pth",
    }
    runs = args.runs or Path("output/synthetic")
    found = {name: getattr(args, name) or runs / place for name, place in places.items()}
    return Files(**found, data=args.data.resolve())


def load(
    files: Files, recipe: str, ckpt: Path, frame: str, overrides: Sequence[str] = ()
) -> tuple[Shown, FrameData]:
    """A student beside the plain one, and both on one frame."""
    flags = ["--distill", "--cfg_file", RECIPES / f"{recipe}.yaml", "--ckpt", ckpt]
    flags += ["--teacher_ckpt", files.teacher, "--before", files.plain, "--frames", frame]
    flags += ["--device", "cpu", "--set", "DATA_CONFIG.DATA_PATH", files.data, *overrides]
    parser = add_distill_arguments(argparse.ArgumentParser())
    shown = read_shown(parser.parse_args([str(flag) for flag in flags]))
    return shown, read_frame(shown, shown.frames[0])


def nodes_of(shown: Shown, data: FrameData, name: str) -> TermNodes:
    """The nodes of a term with the distilled student."""
    return data.sides[shown.sides.after.name].nodes[name]


def save(name: str, content: bytes) -> None:
    """Write a picture."""
    (IMAGES / f"{name}.webp").write_bytes(content)


def draw_method(shown: Shown, data: FrameData) -> None:
    """Salient nodes, one graph, features, the loss by node, changed boxes."""
    nodes = nodes_of(shown, data, GRAPH)
    term = shown.sides.after.distiller.head.terms[GRAPH]
    is_object = on_objects(nodes.teacher, labels_of(data.batch))
    save("salient_nodes", draw_weights(data.scene, nodes))
    graph = choose_graph(nodes, is_object, in_feature_space=True)
    space = common_space(term, nodes)  # type: ignore[arg-type]
    assert space is not None and nodes.details is not None
    save("local_graph", draw_graph(data.scene, nodes, graph, space))
    print(f"neighbours: {len(graph.neighbours)}, of them the student's too: {graph.shared()}")
    print(f"distance to a neighbour / to any node: {closeness(nodes):.3f}")
    draw_feature_pictures(shown, data)
    values = in_percent(nodes.details.values)
    title = title_of(shown.sides.after.name)
    parts = draw_parts(data.scene, [(title, nodes.teacher, values)], "% of the loss")
    save("loss_by_node", parts)
    of_objects = float(values[is_object].sum())
    print(f"loss {nodes.loss:.3f}, {of_objects:.0f} % of it on {int(is_object.sum())} object cells")
    draw_changes(shown, data)


def closeness(nodes: TermNodes) -> float:
    """Mean squared distance of queries to their neighbours, in that of two nodes of the map."""
    assert nodes.details is not None
    features = nodes.teacher.features.double()
    queries = features[nodes.details.queries][:, None]
    neighbours = features[nodes.details.neighbours]
    near = (neighbours - queries).square().sum(dim=2)
    others = nodes.details.neighbours != nodes.details.queries[:, None]
    any_two = 2 * features.var(dim=0, unbiased=False).sum()
    return float(near[others].mean() / any_two)


def draw_feature_pictures(shown: Shown, data: FrameData) -> None:
    """Colours and distances in the fitted space."""
    spaces = shown.spaces[GRAPH]
    views = {}
    for side in shown.sides.both:
        views[side.name] = spaces.fitted.view(side, data.sides[side.name].nodes[GRAPH])
    save("features", draw_features(data.scene, views))
    nodes = nodes_of(shown, data, GRAPH)
    assert nodes.details is not None
    regions = regions_of(nodes.teacher, data.batch, nodes.details.weights)
    for region, mask in regions.items():
        numbers = [f"{mean_of(view.distances, mask):.2f}" for view in views.values()]
        numbers += [f"{mean_of(view.cosines, mask):.2f}" for view in views.values()]
        print(f"{region}: {int(mask.sum())} nodes, distance and cosine {' '.join(numbers)}")
    print(f"three components hold {spaces.fitted.basis.explained:.2f} of the variance")


def draw_changes(shown: Shown, data: FrameData) -> None:
    """Boxes of all three, and what changed."""
    before, after = (side.name for side in shown.sides.both)
    changes = changed_boxes(data.boxes[before], data.boxes[after], data.labels)
    named = [(title_of(name), boxes) for name, boxes in data.boxes.items()]
    compared = (data.boxes[before], data.boxes[after])
    picture = draw_boxes(data.scene, named, changes, shown.cfg.CLASS_NAMES, compared)
    save("changed_boxes", picture)


def print_changes(shown: Shown) -> None:
    """Counts of changed boxes over all frames of the split."""
    counts: dict[tuple[str, bool], int] = {}
    dataset = shown.frames[0].dataset
    before, after = (side.name for side in shown.sides.both)
    for index in range(dataset.num_frames):
        frame = Frame(dataset.frame_name(index), index, dataset)
        data = read_frame(shown, frame)
        for change in changed_boxes(data.boxes[before], data.boxes[after], data.labels):
            key = (change.kind, change.is_right)
            counts[key] = counts.get(key, 0) + 1
    print(f"changed boxes in {dataset.num_frames} frames: {counts}")


def draw_maps(files: Files, frame: str) -> None:
    """Where the weight of the queries falls, for three choices of map and score."""
    found = []
    for title, tap, score in MAPS:
        overrides = ["DISTILL.TERMS.GRAPH.STUDENT", tap, "DISTILL.TERMS.GRAPH.TEACHER", tap]
        overrides += ["DISTILL.TERMS.GRAPH.SCORE", score]
        shown, data = load(files, "graph", files.plain, frame, overrides)
        found.append((title, data, nodes_of(shown, data, GRAPH)))
    scene = found[0][1].scene
    figure, axes = panels(scene, len(found), 0.8)
    for axis, (title, data, nodes) in zip(axes, found):
        assert nodes.details is not None
        weights = in_percent(nodes.details.weights)
        prepare(axis, scene, title)
        drawn = draw_values(axis, nodes.teacher, weights.sqrt(), hide_zero=True)
        is_object = on_objects(nodes.teacher, labels_of(data.batch))
        print(f"{title}: {float(weights[is_object].sum()):.0f} % of the weight on objects")
    add_bar(figure, axes, drawn, "square root of the weight of a query")
    save("which_map", as_webp(figure))


def draw_relations(shown: Shown, data: FrameData) -> None:
    """One object's graph."""
    nodes = nodes_of(shown, data, RELATIONS)
    term = shown.sides.after.distiller.head.terms[RELATIONS]
    assert nodes.details is not None
    # Of the objects that have all K nodes the one with the largest weight: a car or a cyclist.
    is_large = torch.zeros(len(nodes.teacher), dtype=torch.bool)
    is_large[nodes.details.queries[nodes.details.is_neighbour.all(dim=1)]] = True
    graph = choose_graph(nodes, is_large, in_feature_space=False)
    space = common_space(term, nodes)  # type: ignore[arg-type]
    assert space is not None
    save("relations", draw_graph(data.scene, nodes, graph, space))


def draw_official(shown: Shown, data: FrameData) -> None:
    """Weights of the published form, and what is left behind its adapters."""
    nodes = nodes_of(shown, data, GRAPH)
    assert nodes.details is not None
    save("published_weights", draw_weights(data.scene, nodes))
    space = shown.spaces[GRAPH].of_loss
    assert space is not None
    student, teacher = space.features(nodes)
    weights = nodes.details.weights
    top = weights > 0.01 * weights.max()
    for name, features in (("teacher", teacher), ("student", student)):
        zero = float((features[top] == 0).float().mean())
        constant = constant_share(features, weights)
        print(f"published form, {name}: {constant:.2f} of the channels constant, {zero:.2f} zero")
    print(f"published form: loss {nodes.loss:.2g}, {int(top.sum())} pillars with weight")
    length = torch.stack([teacher.norm(dim=1), student.norm(dim=1)])
    named = [("teacher", nodes.teacher, length[0]), ("student", nodes.teacher, length[1])]
    words = "length of the embedding behind the adapter"
    save("published_embeddings", draw_parts(data.scene, named, words))


if __name__ == "__main__":
    main()
