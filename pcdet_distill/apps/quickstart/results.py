"""The end of the quickstart: table and pictures, made from the results of the three trainings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets import DatasetTemplate, build_dataset
from ...datasets.safe_pickle import load_plain_pickle
from ...errors import UserError
from ...inference import load_model
from ...measure import count_gflops, count_parameters, measure_latencies
from ...models import load_data_to_device
from ...models.device import choose_device
from ...ops.boxes import boxes_overlap_bev
from ...report.comparison import (
    Comparison,
    ModelResult,
    insert_results,
    read_ap,
    read_nuscenes,
    read_report,
    rounded,
    to_markdown,
    to_plain,
    write_report,
)
from ...visualize import BevPanel, draw_bev
from ..tools import read_experiment
from .plan import DEFAULT_DATASET, MODELS, TITLES, QuickstartPlan, data_path_option
from .run import shorten

NUM_PICTURES = 4
LOWEST_SCORE = 0.3  # of the boxes in the pictures
# Widths of the panels, of a high and of a wide range. Four high ones stand in a row that pages show
# about 850 pixels wide; narrower panels keep the letters legible there.
PANEL_INCH, WIDE_PANEL_INCH = 2.9, 8.0
PANEL_DPI = 160
PICTURE = "docs/images/quickstart_bev.png"
PAGE = "docs/quickstart.md"
FIGURES = "docs/results/quickstart.json"
NUSCENES_PICTURE = "docs/images/quickstart_nuscenes_bev.png"
NUSCENES_PAGE = "docs/nuscenes.md"
NUSCENES_FIGURES = "docs/results/quickstart_nuscenes.json"

Frame = Mapping[str, np.ndarray]  # the points and ground truth, or the detections, of one frame


def report(plan: QuickstartPlan) -> Comparison:
    """The comparison. It is measured again only when an evaluation is newer than the report."""
    written = plan.output / "report.json"
    sources = [plan.evaluation(model) / "metrics.json" for model in MODELS]
    if is_newer(written, sources):
        return read_report(written)
    comparison = compare(plan)
    write_report(comparison, plan.output)
    return comparison


def is_newer(path: Path, sources: Sequence[Path]) -> bool:
    """Whether ``path`` exists and none of its sources has changed since."""
    if not path.exists():
        return False
    newest = max(source.stat().st_mtime for source in sources)
    return path.stat().st_mtime >= newest


def compare(plan: QuickstartPlan) -> Comparison:
    """Measure the three models on the first validation frame, and read their AP.

    A CPU measures with one thread: the result then depends neither on the number of cores nor on
    what else runs.
    """
    device = choose_device(plan.device)
    torch.set_num_threads(1)
    dataset = validation_set(plan)
    batch = dataset.collate_batch([dataset[0]])
    load_data_to_device(batch, device)
    models = {}
    for name, config in plan.configs.items():
        checkpoint = plan.root / plan.checkpoint(name)
        models[name] = load_model(read_experiment(config, plan.root), dataset, checkpoint, device)
    latencies = measure_latencies(list(models.values()), [batch] * len(models))
    rows = {}
    for (name, model), latency_ms in zip(models.items(), latencies):
        rows[name] = ModelResult(
            name=TITLES[name],
            config=plan.configs[name],
            epochs=plan.epochs,
            parameters=count_parameters(model),
            gflops=count_gflops(model, batch),
            latency_ms=latency_ms,
            **read_results(plan, name, dataset.class_names),
        )
    return Comparison(
        teacher=rows["teacher"],
        student=rows["student"],
        distilled=rows["distilled"],
        train_frames=plan.train_frames,
        val_frames=len(dataset),
        device=describe_device(device),
        command=plan.command,
        smoke=plan.smoke,
        benchmark=plan.dataset,
    )


def read_results(
    plan: QuickstartPlan, model: str, class_names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The fields ``ap`` and ``scores`` of a model's row."""
    path = plan.evaluation(model) / "metrics.json"
    if plan.dataset == "nuscenes":
        ap, scores = read_nuscenes(path, class_names)
        return {"ap": ap, "scores": scores}
    return {"ap": read_ap(path, class_names)}


def validation_set(plan: QuickstartPlan) -> DatasetTemplate:
    """The validation frames of the quickstart's data."""
    settings = data_path_option(plan, "DATA_CONFIG.DATA_PATH")[1:]
    cfg = read_experiment(plan.configs["teacher"], plan.root, settings)
    return build_dataset(cfg.DATA_CONFIG, cfg.CLASS_NAMES, root_dir=cfg.ROOT_DIR, training=False)


def describe_device(device: torch.device) -> str:
    """The device on which latency was measured."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "one CPU thread"


def draw(plan: QuickstartPlan) -> list[Path]:
    """Pictures of the validation frames with most objects; one sentence without matplotlib.

    The first picture is the one with the fewest objects taken for another class, over all models.
    """
    dataset = validation_set(plan)
    results = {model: plan.evaluation(model) / "result.pkl" for model in MODELS}
    detections = {model: read_detections(path, plan) for model, path in results.items()}
    confusions: dict[Path, int] = {}
    try:
        for item in frames_to_show(dataset):
            frame_id = str(item["frame_id"])
            path = plan.output / f"bev_{frame_id}.png"
            of_frame = {model: frames[frame_id] for model, frames in detections.items()}
            if not is_newer(path, list(results.values())):
                draw_frame(item, of_frame, dataset, path)
            truth = boxes_in_range(item, dataset)
            confusions[path] = sum(
                count_confusions(frame, truth, dataset.class_names) for frame in of_frame.values()
            )
    except UserError as error:
        print(f"   no pictures: {error}")
    return sorted(confusions, key=confusions.__getitem__)


def read_detections(path: Path, plan: QuickstartPlan) -> dict[str, Frame]:
    """The detections of a result.pkl, by frame."""
    frames = load_plain_pickle(path, f"run {plan.command}")
    return {str(frame["frame_id"]): frame for frame in frames}


def frames_to_show(dataset: DatasetTemplate) -> list[Frame]:
    """The frames with most classes, then most objects: chosen by ground truth, not by results."""

    def interest(item: Frame) -> tuple[int, int]:
        labels = boxes_in_range(item, dataset)[:, -1]
        return len(set(labels.tolist())), len(labels)

    items: list[Frame] = [dataset[index] for index in range(len(dataset))]
    return sorted(items, key=interest, reverse=True)[:NUM_PICTURES]


def count_confusions(frame: Frame, truth: np.ndarray, class_names: Sequence[str]) -> int:
    """Number of shown detections that stand on ground truth of another class only.

    The ground truth (N, 8 or 10) has a box and, in the last column, the label.
    """
    shown = frame["score"] >= LOWEST_SCORE
    detected = np.asarray(frame["boxes_lidar"][shown], dtype=np.float32)
    boxes = torch.from_numpy(detected[:, :7])
    objects = torch.from_numpy(truth[:, :7].astype(np.float32))
    overlaps = (boxes_overlap_bev(boxes, objects) > 0).numpy()
    truth_names = np.array([class_names[int(label) - 1] for label in truth[:, -1]])
    is_same_class = frame["name"][shown][:, None] == truth_names[None]
    on_another = (overlaps & ~is_same_class).any(axis=1)
    on_its_own = (overlaps & is_same_class).any(axis=1)
    return int((on_another & ~on_its_own).sum())


def boxes_in_range(item: Frame, dataset: DatasetTemplate) -> np.ndarray:
    """Ground truth (N, 8 or 10), box and label, whose centre is inside the detection range."""
    boxes = item.get("gt_boxes", np.zeros((0, 8)))
    centres = boxes[:, :2]
    low = dataset.point_cloud_range[:2]
    high = dataset.point_cloud_range[3:5]
    inside = (centres >= low) & (centres <= high)
    return boxes[inside.all(axis=1)]


def draw_frame(
    item: Frame, detections: Mapping[str, Frame], dataset: DatasetTemplate, path: Path
) -> None:
    """Ground truth and every model's detections of one frame, side by side.

    Args:
        detections: by model.
    """
    truth = boxes_in_range(item, dataset)
    names = [dataset.class_names[int(label) - 1] for label in truth[:, -1]]
    panels = [BevPanel("ground truth", truth[:, :7], names, labels=names)]
    for model, frame in detections.items():
        is_finite = np.isfinite(frame["boxes_lidar"]).all(axis=1)
        shown = is_finite & (frame["score"] >= LOWEST_SCORE)
        panel = BevPanel(
            TITLES[model],
            frame["boxes_lidar"][shown][:, :7],
            list(frame["name"][shown]),
            scores=frame["score"][shown],
            reference=truth[:, :7],
        )
        panels.append(panel)
    x0, y0, _, x1, y1, _ = dataset.point_cloud_range
    is_wide = y1 - y0 > x1 - x0  # x is drawn upwards
    draw_bev(
        item["points"],
        panels,
        path,
        point_cloud_range=dataset.point_cloud_range,
        class_names=dataset.class_names,
        columns=2 if is_wide else None,
        panel_size_inch=WIDE_PANEL_INCH if is_wide else PANEL_INCH,
        dpi=PANEL_DPI,
    )


def check_publishable(plan: QuickstartPlan) -> None:
    """Refuse --publish where there is nothing to show, or no page to show it on."""
    if plan.smoke:
        raise UserError("--publish: a smoke run has no results to show; run without --fast")
    if not plan.is_default_detector:
        raise UserError(
            f"--publish: docs/ shows {plan.simulated.default_detector} only, not {plan.detector}; "
            f"{shorten(plan.output, plan.root)}/report.md has the table"
        )
    page, _, _ = published_files(plan)
    if not (plan.root / page).is_file():
        raise UserError(f"--publish: {plan.root} has no {page}; publish from a checkout")


def published_files(plan: QuickstartPlan) -> tuple[str, str, str]:
    """The page, the picture and the figures of a dataset, from ``root``."""
    if plan.dataset == DEFAULT_DATASET:
        return PAGE, PICTURE, FIGURES
    return NUSCENES_PAGE, NUSCENES_PICTURE, NUSCENES_FIGURES


def publish(plan: QuickstartPlan, comparison: Comparison, pictures: Sequence[Path]) -> None:
    """Put the table, the first picture and the numbers into docs/."""
    check_publishable(plan)
    page, picture, figures = published_files(plan)
    table = to_markdown(comparison, link_prefix="../", figures=figures.removeprefix("docs/"))
    insert_results(plan.root / page, table)
    numbers = plan.root / figures
    numbers.parent.mkdir(parents=True, exist_ok=True)
    numbers.write_text(json.dumps(rounded(to_plain(comparison)), indent=2) + "\n")
    if pictures:
        target = plan.root / picture
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pictures[0], target)
    print(f"published: {page}, {figures}, {picture}")
