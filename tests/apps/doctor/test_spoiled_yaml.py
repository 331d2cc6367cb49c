"""Spoiled yaml files on healthy frames: every spoiling is named, and --fix mends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from doctor_toys import ToyData, alarms, find, make_case, named, toy_config
from easydict import EasyDict

from pcdet_distill.apps.doctor import Case, Finding, Severity, run_checks
from pcdet_distill.apps.doctor.command import fix
from pcdet_distill.apps.doctor.fix import changed_config, collect_changes
from pcdet_distill.apps.doctor.frames import Split
from pcdet_distill.config import load_config

YAML_CHECKS = ("ranges", "voxels", "anchors", "augmentation", "training", "sampling", "teacher")
Spoiling = Callable[[EasyDict], None]
Splits = dict[str, Split]


def find_in(
    splits: Splits, spoil: Spoiling | None, checks: Sequence[str] = YAML_CHECKS
) -> list[Finding]:
    """The findings for healthy frames that are read once, with a spoiled yaml."""
    return list(run_checks(Case(toy_config(spoil), splits), checks))


@pytest.fixture(scope="module")
def splits(frames: ToyData) -> Splits:
    return make_case(frames.copy()).splits


def test_the_healthy_yaml_is_not_reported(splits: Splits) -> None:
    assert alarms(find_in(splits, None, checks=YAML_CHECKS)) == []


def set_range(*limits: float) -> Spoiling:
    def spoil(cfg: EasyDict) -> None:
        cfg.DATA_CONFIG.POINT_CLOUD_RANGE = list(limits)

    return spoil


def set_voxels(**values: object) -> Spoiling:
    def spoil(cfg: EasyDict) -> None:
        cfg.DATA_CONFIG.DATA_PROCESSOR[2].update(values)

    return spoil


def set_anchor(number: int, **values: object) -> Spoiling:
    def spoil(cfg: EasyDict) -> None:
        cfg.MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG[number].update(values)

    return spoil


def set_augmentation(number: int, **values: object) -> Spoiling:
    def spoil(cfg: EasyDict) -> None:
        cfg.DATA_CONFIG.DATA_AUGMENTOR.AUG_CONFIG_LIST[number].update(values)

    return spoil


def rename_anchor(cfg: EasyDict) -> None:
    cfg.MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG[1].class_name = "pedestrian"


def drop_anchor(cfg: EasyDict) -> None:
    del cfg.MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG[2]


def raise_score(cfg: EasyDict) -> None:
    cfg.MODEL.POST_PROCESSING.SCORE_THRESH = 0.6


def loosen_nms(cfg: EasyDict) -> None:
    cfg.MODEL.POST_PROCESSING.NMS_CONFIG.NMS_THRESH = 0.9


def raise_rate(cfg: EasyDict) -> None:
    cfg.OPTIMIZATION.LR = 0.3


def keep_few(cfg: EasyDict) -> None:
    cfg.MODEL.POST_PROCESSING.NMS_CONFIG.NMS_POST_MAXSIZE = 2


SPOILED: dict[str, tuple[Spoiling, str, Severity, str]] = {
    "near range": (set_range(0, -12.8, -3, 12.8, 12.8, 1), "ranges", Severity.ERROR, "nearer half"),
    "behind": (set_range(-44.8, -12.8, -3, 0, 12.8, 1), "ranges", Severity.ERROR, "outside"),
    "too high": (set_range(0, -12.8, 0, 44.8, 12.8, 4), "ranges", Severity.ERROR, "z 0 to 4"),
    "cut heads": (set_range(0, -12.8, -3, 44.8, 12.8, -0.9), "ranges", Severity.WARNING, "height"),
    "uneven": (set_range(0, -12.8, -3, 44.9, 12.8, 1), "voxels", Severity.WARNING, "whole"),
    "odd grid": (set_range(0, -12.8, -3, 44.4, 12.8, 1), "voxels", Severity.ERROR, "divides"),
    "flat pillars": (set_voxels(VOXEL_SIZE=[0.2, 0.2, 2]), "voxels", Severity.ERROR, "one cell"),
    "few voxels": (
        set_voxels(MAX_NUMBER_OF_VOXELS={"train": 300, "test": 16000}),
        "voxels",
        Severity.ERROR,
        "only 300 are kept",
    ),
    "large voxels": (set_voxels(VOXEL_SIZE=[1.6, 1.6, 4]), "voxels", Severity.WARNING, "one cell"),
    "small anchors": (
        set_anchor(0, anchor_sizes=[[1.9, 0.8, 0.7]]),
        "anchors",
        Severity.ERROR,
        "best IoU",
    ),
    "swapped anchors": (
        set_anchor(2, anchor_sizes=[[1.7, 1.8, 0.6]]),
        "anchors",
        Severity.WARNING,
        "class Cyclist",
    ),
    "anchors on the roof": (
        set_anchor(0, anchor_bottom_heights=[0.0]),
        "anchors",
        Severity.WARNING,
        "anchors stand at z",
    ),
    "thresholds": (
        set_anchor(0, matched_threshold=0.3, unmatched_threshold=0.5),
        "anchors",
        Severity.ERROR,
        "matched_threshold 0.3",
    ),
    "degrees of anchors": (
        set_anchor(0, anchor_rotations=[0, 90]),
        "anchors",
        Severity.ERROR,
        "degrees",
    ),
    "misspelt anchors": (rename_anchor, "anchors", Severity.ERROR, "not in CLASS_NAMES"),
    "no anchors": (drop_anchor, "anchors", Severity.ERROR, "no anchors for 'Cyclist'"),
    "flip to the back": (
        set_augmentation(0, ALONG_AXIS_LIST=["x", "y"]),
        "augmentation",
        Severity.WARNING,
        "thrown out",
    ),
    "full turns": (
        set_augmentation(1, WORLD_ROT_ANGLE=[-3.14, 3.14]),
        "augmentation",
        Severity.WARNING,
        "random_world_rotation",
    ),
    "degrees": (
        set_augmentation(1, WORLD_ROT_ANGLE=[-22.5, 22.5]),
        "augmentation",
        Severity.ERROR,
        "degrees",
    ),
    "scales": (
        set_augmentation(2, WORLD_SCALE_RANGE=[0.05, 1.05]),
        "augmentation",
        Severity.ERROR,
        "factors around 1",
    ),
    "score": (raise_score, "training", Severity.WARNING, "below 0.6"),
    "nms": (loosen_nms, "training", Severity.WARNING, "found several times"),
    "rate": (raise_rate, "training", Severity.ERROR, "0.3 is unusual"),
    "few detections": (keep_few, "training", Severity.WARNING, "2 detections"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_yaml_is_named(splits: Splits, name: str) -> None:
    spoil, check, severity, words = SPOILED[name]
    findings = find_in(splits, spoil, checks=YAML_CHECKS)
    assert named(findings, check, severity, words), alarms(findings)


MENDED = [name for name in SPOILED if name != "large voxels"]


@pytest.mark.parametrize("name", MENDED)
def test_its_changes_mend_it(splits: Splits, name: str) -> None:
    spoil, check, severity, words = SPOILED[name]
    case = Case(toy_config(spoil), splits)
    changes: dict[str, object] = {}
    for _ in range(4):
        changed = Case(changed_config(case.cfg, changes), case.splits)
        findings = list(run_checks(changed, YAML_CHECKS))
        if not alarms(findings):
            break
        changes.update(collect_changes(findings))
    assert changes
    assert alarms(findings) == []


def test_proposed_anchors_match_better(frames: ToyData, splits: Splits) -> None:
    findings = find_in(splits, set_anchor(0, anchor_sizes=[[1.9, 0.8, 0.7]]), checks=("anchors",))
    [sizes] = [value for path, value in findings[0].changes.items() if "anchor_sizes" in path]
    cars = np.concatenate([f.boxes[f.names == "Car", 3:6] for f in frames.frames])
    assert np.allclose(np.asarray(sizes)[0], np.median(cars, axis=0), rtol=0.1)


def test_no_yaml_is_made_from_wrong_labels(frames: ToyData) -> None:
    data = frames.copy()
    for frame in data.frames:
        frame.boxes[:, 2] += 1.73
    findings = find(data, checks=("heights", "ranges", "anchors"))
    assert named(findings, "heights", Severity.ERROR)
    assert collect_changes(findings) == {}
    assert named(findings, "ranges", Severity.ERROR, "first mend the labels")


def test_a_center_head_that_drops_objects_is_named(splits: Splits) -> None:
    def spoil(cfg: EasyDict) -> None:
        other = load_config("cfgs/synthetic/centerpoint_pillar.yaml")
        cfg.MODEL = other.MODEL
        settings = cfg.MODEL.DENSE_HEAD.POST_PROCESSING
        settings.POST_CENTER_LIMIT_RANGE = [0, -12.8, -0.5, 44.8, 12.8, 2]

    findings = find_in(splits, spoil, checks=("training",))
    assert named(findings, "training", Severity.ERROR, "POST_CENTER_LIMIT_RANGE", "dropped")


def test_a_teacher_of_another_place_is_named(splits: Splits, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.yaml"
    teacher.write_text(
        f"_BASE_CONFIG_: {Path('cfgs/synthetic/pointpillar_teacher.yaml').resolve()}\n"
        "DATA_CONFIG: {POINT_CLOUD_RANGE: [-44.8, -12.8, -3, 0, 12.8, 1]}\n"
    )

    def spoil(cfg: EasyDict) -> None:
        cfg.DISTILL = {"TEACHER": {"CFG_FILE": str(teacher)}, "TERMS": {}}

    findings = find_in(splits, spoil, checks=("teacher",))
    assert named(findings, "teacher", Severity.ERROR, "outside the teacher's")


def test_the_fix_is_written_until_nothing_is_left(splits: Splits, tmp_path: Path) -> None:
    case = Case(toy_config(set_range(0, -12.8, 0, 12.8, 12.8, 4)), splits)
    case.runs_model = False
    findings = list(run_checks(case))
    changes = fix(case, findings, tmp_path / "fixed.yaml", {})
    assert "DATA_CONFIG.POINT_CLOUD_RANGE" in changes
    fixed = load_config(tmp_path / "fixed.yaml")
    assert changes["DATA_CONFIG.POINT_CLOUD_RANGE"] == fixed.DATA_CONFIG.POINT_CLOUD_RANGE
    low, high = fixed.DATA_CONFIG.POINT_CLOUD_RANGE[2], fixed.DATA_CONFIG.POINT_CLOUD_RANGE[5]
    assert fixed.DATA_CONFIG.DATA_PROCESSOR[2].VOXEL_SIZE[2] == pytest.approx(high - low)
    assert changes["DATA_CONFIG.POINT_CLOUD_RANGE"] != toy_config().DATA_CONFIG.POINT_CLOUD_RANGE
