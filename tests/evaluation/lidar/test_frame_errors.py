"""Verdicts on the boxes of single frames, on a case made by hand and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from toy_evaluation import (
    CAR,
    CLASSES,
    RANGE,
    box,
    detections,
    found,
    labels,
    random_evaluation,
    truth,
)

from pcdet_distill.config import LidarEvalOptions
from pcdet_distill.evaluation.lidar.frame_errors import judge_frames

OPTIONS = LidarEvalOptions(range=tuple(RANGE))


def test_every_verdict_of_a_case_made_by_hand():
    judgement = judge_frames(truth(), found(), CLASSES, OPTIONS)
    a, b, c = judgement.frames
    assert list(zip(a.objects.names, a.objects.verdicts)) == [
        ("Car", "found"),
        ("Car", "inexact"),  # 1.2 m beside it: the IoU is far below 0.7
        ("Pedestrian", "missed"),
    ]
    assert a.detections.verdicts.tolist() == ["found", "inexact"]
    assert b.objects.verdicts.tolist() == ["uncounted"]  # beyond the range
    assert c.detections.verdicts.tolist() == ["invented"]
    assert [frame.num_errors for frame in judgement.frames] == [2, 0, 1]
    assert [frame.frame_id for frame in judgement.worst(10)] == ["a", "c"]
    assert [frame.frame_id for frame in judgement.worst(1)] == ["a"]


def test_an_object_without_points_counts_neither_way():
    gt = [labels("a", ["Car"], [box(10, 0, CAR)], points=0)]
    judged = judge_frames(gt, [detections("a", [], [], [])], ["Car"], OPTIONS).frames[0]
    assert judged.objects.verdicts.tolist() == ["uncounted"]
    assert judged.num_errors == 0


def test_a_neutral_class_is_not_drawn_but_excuses_its_detection():
    options = LidarEvalOptions(neutral={"Car": ["Van"]})
    gt = [labels("a", ["Van"], [box(10, 0, CAR)])]
    det = [detections("a", ["Car"], [box(10, 0, CAR)], [0.9])]
    judged = judge_frames(gt, det, ["Car"], options, thresholds={"Car": 0.1}).frames[0]
    assert len(judged.objects.names) == 0
    assert judged.detections.verdicts.tolist() == ["uncounted"]


def test_thresholds_are_those_of_the_best_f1_and_can_be_given():
    gt, det = random_evaluation()
    judgement = judge_frames(gt, det, ["Car"], OPTIONS)
    chosen = judgement.thresholds["Car"]

    def f1(threshold: float) -> float:
        frames = judge_frames(gt, det, ["Car"], OPTIONS, thresholds={"Car": threshold}).frames
        right = sum(f.detections.count("found") + f.detections.count("inexact") for f in frames)
        wrong = sum(f.detections.count("invented") for f in frames)
        return 2 * right / (right + wrong + 150)  # 30 frames of 5 cars

    scores = np.concatenate([anno["score"] for anno in det])
    assert f1(chosen) == pytest.approx(max(f1(score) for score in scores))


def test_counts_agree_with_plain_loops_over_the_boxes():
    gt, det = random_evaluation(seed=3)
    judgement = judge_frames(gt, det, ["Car"], OPTIONS, thresholds={"Car": 0.4})
    for truth_anno, anno, judged in zip(gt, det, judgement.frames):
        free = list(range(len(truth_anno["name"])))
        num_invented = 0
        order = np.argsort(-anno["score"], kind="stable")
        for place in order[anno["score"][order] >= 0.4]:
            apart = [
                np.hypot(*(anno["boxes_lidar"][place, :2] - truth_anno["gt_boxes_lidar"][g, :2]))
                for g in free
            ]
            if apart and min(apart) < 2.0:
                free.pop(int(np.argmin(apart)))
            elif 0 <= anno["boxes_lidar"][place, 0] <= 40:
                num_invented += 1
        assert judged.objects.count("missed") == len(free)
        assert judged.detections.count("invented") == num_invented


def test_frames_without_detections_are_not_judged():
    judged = judge_frames(truth(), found()[:1], CLASSES, OPTIONS).frames
    assert [frame.frame_id for frame in judged] == ["a"]
