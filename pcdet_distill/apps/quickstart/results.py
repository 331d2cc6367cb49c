"""What the quickstart shows at its end: the comparison table and pictures, made from what the three trainings left."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...config import load_config
from ...datasets import build_dataset
from ...datasets.safe_pickle import load_plain_pickle
from ...demo import load_detector
from ...engine.resources.device import choose_device
from ...errors import UserError
from ...measure import count_gflops, count_parameters, measure_latencies
from ...models import load_data_to_device
from ...report import (
    Comparison,
    ModelResult,
    insert_results,
    read_ap,
    read_report,
    to_markdown,
    write_report,
)
from ...visualize import BevPanel, draw_bev
from .plan import DEFAULT_DETECTOR, MODELS, TITLES, Plan, data_path_option
from .run import shorten

PICTURES = 4
SHOWN_SCORE = 0.3
README_PICTURE = "docs/images/quickstart_bev.png"
README_FIGURES = "docs/results/quickstart.json"


def report(plan: Plan) -> Comparison:
    """The comparison, measured and written to the output folder unless it is there and newer than the evaluations."""
    written = plan.output / "report.json"
    sources = [plan.evaluation(model) / "metrics.json" for model in MODELS]
    if is_newer(written, sources):
        return read_report(written)
    comparison = compare(plan)
    write_report(comparison, plan.output)
    return comparison


def is_newer(path: Path, sources: list[Path]) -> bool:
    """Whether ``path`` exists and nothing it was made from changed afterwards."""
    return path.exists() and all(
        path.stat().st_mtime >= source.stat().st_mtime for source in sources
    )


def compare(plan: Plan) -> Comparison:
    """Measure the three trained models on the first validation frame, and read their AP.

    On a CPU with one thread: that does not depend on what else runs, nor on the number of cores.
    """
    device = choose_device(plan.device)
    torch.set_num_threads(1)
    dataset = validation_set(plan)
    batch = dataset.collate_batch([dataset[0]])
    load_data_to_device(batch, device)
    models = {
        name: load_detector(
            load_config(plan.root / config), dataset, plan.root / plan.checkpoint(name), device
        )
        for name, config in plan.configs.items()
    }
    latencies = measure_latencies(list(models.values()), [batch] * len(models))
    teacher, student, distilled = (
        ModelResult(
            TITLES[name],
            plan.configs[name],
            plan.epochs,
            count_parameters(model),
            count_gflops(model, batch),
            latency,
            read_ap(plan.evaluation(name) / "metrics.json", dataset.class_names),
        )
        for (name, model), latency in zip(models.items(), latencies)
    )
    return Comparison(
        teacher,
        student,
        distilled,
        train_frames=plan.train_frames,
        val_frames=len(dataset),
        device=describe_device(device),
        command=plan.command,
        smoke=plan.smoke,
    )


def validation_set(plan: Plan) -> Any:
    """The validation frames of the quickstart's data."""
    cfg = load_config(
        plan.root / plan.configs["teacher"], data_path_option(plan, "DATA_CONFIG.DATA_PATH")[1:]
    )
    return build_dataset(cfg.DATA_CONFIG, cfg.CLASS_NAMES, root_dir=cfg.ROOT_DIR, training=False)


def describe_device(device: torch.device) -> str:
    """Where latency was measured."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "one CPU thread"


def draw(plan: Plan) -> list[Path]:
    """Pictures of the validation frames with most to see; without matplotlib, a sentence and none."""
    dataset = validation_set(plan)
    results = {name: plan.evaluation(name) / "result.pkl" for name in MODELS}
    detections = {
        name: {
            str(frame["frame_id"]): frame
            for frame in load_plain_pickle(path, f"run {plan.command}")
        }
        for name, path in results.items()
    }
    pictures = []
    try:
        for item in frames_to_show(dataset):
            frame_id = str(item["frame_id"])
            path = plan.output / f"bev_{frame_id}.png"
            if not is_newer(path, list(results.values())):
                draw_frame(
                    item,
                    {name: frames[frame_id] for name, frames in detections.items()},
                    dataset,
                    path,
                )
            pictures.append(path)
    except UserError as error:
        print(f"   no pictures: {error}")
    return pictures


def frames_to_show(dataset: Any) -> list[dict[str, Any]]:
    """The frames with most classes, then most objects, in range: chosen by ground truth, not by who detects them."""

    def interest(item: dict[str, Any]) -> tuple[int, int]:
        labels = boxes_in_range(item, dataset)[:, 7]
        return len(set(labels.tolist())), len(labels)

    items = [dataset[index] for index in range(len(dataset))]
    return sorted(items, key=interest, reverse=True)[:PICTURES]


def boxes_in_range(item: dict[str, Any], dataset: Any) -> np.ndarray:
    """Ground truth ``(N, 8)`` (box, label) whose centre is inside the detection range."""
    boxes = item.get("gt_boxes", np.zeros((0, 8)))
    low, high = dataset.point_cloud_range[:2], dataset.point_cloud_range[3:5]
    return boxes[((boxes[:, :2] >= low) & (boxes[:, :2] <= high)).all(axis=1)]


def draw_frame(
    item: dict[str, Any], detections: dict[str, dict[str, Any]], dataset: Any, path: Path
) -> None:
    """Ground truth and every model's detections of one frame, side by side."""
    truth = boxes_in_range(item, dataset)
    names = [dataset.class_names[int(label) - 1] for label in truth[:, 7]]
    panels = [BevPanel("ground truth", truth[:, :7], names)]
    for model, found in detections.items():
        shown = found["score"] >= SHOWN_SCORE
        boxes, scores = found["boxes_lidar"][shown], found["score"][shown]
        panels.append(
            BevPanel(
                TITLES[model], boxes, list(found["name"][shown]), scores, reference=truth[:, :7]
            )
        )
    draw_bev(
        item["points"],
        panels,
        path,
        point_cloud_range=dataset.point_cloud_range,
        class_names=dataset.class_names,
    )


def check_publishable(plan: Plan) -> None:
    """Refuse --publish where there is nothing to show, and where the README has no place for it."""
    if plan.smoke:
        raise UserError("--publish: a smoke run has nothing to show; run without --fast")
    if plan.detector != DEFAULT_DETECTOR:
        raise UserError(
            f"--publish: the README shows {DEFAULT_DETECTOR} only, not {plan.detector}; "
            f"{shorten(plan.output, plan.root)}/report.md has the table"
        )


def publish(plan: Plan, comparison: Comparison, pictures: list[Path]) -> None:
    """Put the table into README.md, the first picture and the report into docs/."""
    check_publishable(plan)
    insert_results(plan.root / "README.md", to_markdown(comparison, figures=README_FIGURES))
    figures = plan.root / README_FIGURES
    figures.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(plan.output / "report.json", figures)
    if pictures:
        (plan.root / README_PICTURE).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pictures[0], plan.root / README_PICTURE)
    print(f"published: README.md, {README_FIGURES}, {README_PICTURE}")
