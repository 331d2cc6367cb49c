"""What a checkpoint sees: each reason for an AP of 0 is named, from made-up detections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from doctor_toys import ToyData, alarms, make_case, named

from pcdet_distill.apps.doctor import Case, Finding, Severity
from pcdet_distill.apps.doctor.checks import model_sees
from pcdet_distill.apps.doctor.checks.model_sees import check_model_sees
from pcdet_distill.apps.doctor.detections import Detections, sights_of, visible, with_low_scores
from pcdet_distill.apps.doctor.frames import Frame
from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.models import build_network

Spoiling = Callable[[Detections], Detections]


def perfect(case: Case, frame: Frame) -> Detections:
    """The visible objects of a frame as detections with a score of 0.9."""
    assert frame.objects is not None
    objects = visible(case, frame.objects.objects)
    boxes = np.array([labelled.box[:7] for labelled in objects]).reshape(-1, 7)
    names = np.array([labelled.name for labelled in objects], dtype=str)
    return Detections(frame, boxes, np.full(len(boxes), 0.9), names)


def findings_of(monkeypatch: pytest.MonkeyPatch, frames: ToyData, spoil: Spoiling) -> list[Finding]:
    """The findings for a model that detects perfectly, but for ``spoil``."""
    case = make_case(frames)
    case.checkpoint = "made_up.pth"

    def detect(case: Case, model: object, frame: Frame, factor: float = 1.0) -> Detections:
        return spoil(perfect(case, frame))

    monkeypatch.setattr(model_sees, "load_model", lambda case, path: None)
    monkeypatch.setattr(model_sees, "detect", detect)
    monkeypatch.setattr("pcdet_distill.apps.doctor.detections.detect", detect)
    return list(check_model_sees(case))


def moved(column: int, by: float) -> Spoiling:
    def spoil(found: Detections) -> Detections:
        found.boxes[:, column] += by
        return found

    return spoil


def with_scores(score: float) -> Spoiling:
    return lambda found: found._replace(scores=np.full(len(found.scores), score))


def larger(found: Detections) -> Detections:
    found.boxes[:, 3:6] *= 1.6
    return found


def only_in_train(found: Detections) -> Detections:
    if found.frame.split == "train":
        return found
    return Detections(found.frame, found.boxes[:0], found.scores[:0], found.names[:0])


def other_order(found: Detections) -> Detections:
    following = {"Car": "Pedestrian", "Pedestrian": "Cyclist", "Cyclist": "Car"}
    return found._replace(names=np.array([following[name] for name in found.names], dtype=str))


def everywhere(found: Detections) -> Detections:
    boxes = np.zeros((200, 7))
    boxes[:, 0] = np.linspace(100, 400, 200)
    boxes[:, 3:6] = 2.0
    return Detections(found.frame, boxes, np.full(200, 0.95), np.full(200, "Car"))


SPOILED: dict[str, tuple[Spoiling, Severity, str]] = {
    "nothing": (with_scores(0.06), Severity.ERROR, "sees nothing"),
    "shifted": (moved(2, 1.0), Severity.ERROR, "shifted by [0.0, 0.0, 1.0]"),
    "across": (moved(6, np.pi / 2), Severity.ERROR, "stand across"),
    "backwards": (moved(6, np.pi), Severity.WARNING, "point backwards"),
    "larger": (larger, Severity.ERROR, "sizes of detections are [1.6, 1.6, 1.6]"),
    "by heart": (only_in_train, Severity.WARNING, "by heart"),
    "classes": (other_order, Severity.ERROR, "'Car' are detected as 'Pedestrian'"),
    "nonsense": (everywhere, Severity.ERROR, "near no labelled object"),
}


def test_a_good_model_is_not_reported(monkeypatch: pytest.MonkeyPatch, frames: ToyData) -> None:
    findings = findings_of(monkeypatch, frames, lambda found: found)
    assert alarms(findings) == []
    assert named(findings, "model_sees", Severity.NOTE, "Car 100 %")


@pytest.mark.parametrize("name", SPOILED)
def test_a_reason_for_no_ap_is_named(
    monkeypatch: pytest.MonkeyPatch, frames: ToyData, name: str
) -> None:
    spoil, severity, words = SPOILED[name]
    findings = findings_of(monkeypatch, frames, spoil)
    assert named(findings, "model_sees", severity, words), alarms(findings)


def test_each_detection_belongs_to_one_object(frames: ToyData) -> None:
    case = make_case(frames)
    frame = case.splits["train"].clouds[0]
    found = perfect(case, frame)
    sights = sights_of(case, found)
    assert sorted(sight.found for sight in sights) == list(range(len(found.boxes)))
    assert all(sight.iou == pytest.approx(1.0, abs=1e-3) for sight in sights)
    first = Detections(frame, found.boxes[:1], found.scores[:1], found.names[:1])
    assert sum(sight.found >= 0 for sight in sights_of(case, first)) == 1


def test_score_thresholds_of_both_kinds_of_heads_are_lowered() -> None:
    anchors = {"POST_PROCESSING": {"SCORE_THRESH": 0.4}, "DENSE_HEAD": {"NAME": "A"}}
    assert with_low_scores(anchors)["POST_PROCESSING"]["SCORE_THRESH"] == 0.05
    centres = {"DENSE_HEAD": {"POST_PROCESSING": {"SCORE_THRESH": 0.4}}, "POST_PROCESSING": {}}
    assert with_low_scores(centres)["DENSE_HEAD"]["POST_PROCESSING"]["SCORE_THRESH"] == 0.05
    assert centres["DENSE_HEAD"]["POST_PROCESSING"]["SCORE_THRESH"] == 0.4


def test_weights_of_another_model_are_named(frames: ToyData, tmp_path: Path) -> None:
    case = make_case(frames)
    model = build_network(case.model, 3, case.spec)
    state = dict(model.state_dict())
    state.pop(list(state)[-1])
    save_checkpoint({"model_state": state}, tmp_path / "other.pth")
    case.checkpoint = str(tmp_path / "other.pth")
    findings = list(check_model_sees(case))
    assert named(findings, "model_sees", Severity.ERROR, "does not fit the model")


def test_an_untrained_model_runs(frames: ToyData, tmp_path: Path) -> None:
    case = make_case(frames)
    for split in case.splits.values():
        del split.frames[2:]
    model = build_network(case.model, 3, case.spec)
    save_checkpoint({"model_state": model.state_dict()}, tmp_path / "new.pth")
    case.checkpoint = str(tmp_path / "new.pth")
    findings = list(check_model_sees(case))
    assert case.seen is not None and case.seen.sights
    assert named(findings, "model_sees", Severity.NOTE, "objects with a detection")
