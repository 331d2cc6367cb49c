"""The quickstart on simulated nuScenes, smaller than its smoke run: from nothing to the table."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.apps.quickstart import results
from pcdet_distill.apps.quickstart.plan import MODELS, QuickstartPlan, Step, make_steps
from pcdet_distill.apps.tools import tool_words
from pcdet_distill.cli import main
from pcdet_distill.evaluation.nuscenes import DETECTION_NAMES

TRAIN_FRAMES, VAL_FRAMES = 4, 2


DETECTORS = ["centerpoint", pytest.param("pp_multihead", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=DETECTORS)
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, repo: Path
) -> QuickstartPlan:
    """The steps of a tiny run, each in this process: starting one takes longer than the work."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("cfgs", "tools"):
        shutil.copytree(repo / name, root / name)
    plan = QuickstartPlan(
        root,
        request.param,
        smoke=True,
        train_frames=TRAIN_FRAMES,
        val_frames=VAL_FRAMES,
        epochs=1,
        device="cpu",
        dataset="nuscenes",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for step in make_steps(plan):
            run_here(step, root)
    return plan


def run_here(step: Step, root: Path) -> None:
    """Run the command of a step and check what it wrote."""
    (command,) = step.commands
    for tool in ("data", "train"):
        words = tool_words(tool, root)
        if command[: len(words)] == words:
            extra = ["--workers", "0"] if tool == "train" else []
            main([tool, *extra, *command[len(words) :]])
    assert step.is_complete(), step.title


def test_every_model_has_the_official_numbers(finished: QuickstartPlan) -> None:
    pytest.importorskip("nuscenes.eval.detection.evaluate", reason="needs nuscenes-devkit")
    for model in MODELS:
        folder = finished.evaluation(model)
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["samples"] == VAL_FRAMES
        assert metrics["primary"]["name"] == "NDS"
        assert sum(metrics["ap"]["num_objects"].values()) > 5
        # The devkit stops where nothing at all is found, as after two steps of an anchor head.
        computed_by = metrics["ap"]["computed_by"]
        by_devkit = computed_by.startswith("nuscenes-devkit") and computed_by.endswith("split val")
        assert by_devkit == has_detections(folder / "result.pkl")


def has_detections(path: Path) -> bool:
    """Whether any frame of a result.pkl has a box that can be written to a result file."""
    frames = pickle.loads(path.read_bytes())
    return any(np.isfinite(frame["boxes_lidar"]).all(axis=1).any() for frame in frames)


def test_the_student_starts_from_its_teacher(finished: QuickstartPlan) -> None:
    log = next((finished.root / finished.checkpoint("distilled")).parents[1].glob("*.log"))
    assert "student initialised from its teacher (SLICE" in log.read_text()


def test_the_table_has_ap_of_ten_classes_and_nds(finished: QuickstartPlan) -> None:
    comparison = results.report(finished)
    assert comparison.class_names and set(comparison.class_names) == set(DETECTION_NAMES)
    assert comparison.val_frames == VAL_FRAMES
    teacher, student, distilled = comparison.rows
    assert 3 < teacher.parameters / student.parameters < 4.5
    assert student.gflops == distilled.gflops
    assert list(teacher.scores) == ["NDS"]
    text = (finished.output / "report.txt").read_text()
    assert "NDS" in text
    assert "means nothing" in text
    assert results.report(finished) == comparison


def test_a_picture_for_each_frame(finished: QuickstartPlan) -> None:
    pytest.importorskip("matplotlib")
    pictures = results.draw(finished)
    assert len(pictures) == VAL_FRAMES
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_publishing_goes_to_the_page_of_nuscenes(finished: QuickstartPlan) -> None:
    assert results.published_files(finished)[0] == "docs/nuscenes.md"
