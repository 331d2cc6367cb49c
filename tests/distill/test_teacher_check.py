"""The check of a teacher: a good one gives no warning, and every wrong one is named."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from small_model import CLASS_NAMES, SIZES, make_batch, model_config, random_scene, small_model

from pcdet_distill.distill import Teacher, check_teacher


def scene(seed):
    """One object of each class, whose points have an intensity."""
    points, boxes = random_scene(seed)
    random = np.random.RandomState(seed)
    boxes[:, 1] = [-5, 0, 5]
    boxes[:, 0] = [4, 8, 12]
    boxes[:, 7] = [1, 2, 3]
    boxes[:, 3:6] = [SIZES[name] for name in CLASS_NAMES]
    on_boxes = [row[:3] + random.uniform(-0.5, 0.5, (60, 3)) * row[3:6] for row in boxes]
    points = np.concatenate(
        [points[:300], np.pad(np.concatenate(on_boxes), ((0, 0), (0, 1)))]
    ).astype(np.float32)
    points[:, 3] = random.uniform(0, 1, len(points))
    return points, boxes


@pytest.fixture(scope="module")
def batches():
    scenes = [scene(seed) for seed in range(8)]
    return [make_batch(scenes[:4]), make_batch(scenes[4:])]


@pytest.fixture(scope="module")
def trained(batches):
    config = model_config()
    config.BN_MOMENTUM = 0.1
    model = small_model(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(50):
        optimizer.zero_grad()
        model(dict(batches[step % 2]))[0]["loss"].backward()
        optimizer.step()
    return model


def report(model, batches, mode="eval"):
    return check_teacher(Teacher(copy.deepcopy(model), mode), copy.deepcopy(batches), CLASS_NAMES)


def test_a_good_teacher_gives_no_warning(trained, batches):
    found = report(trained, batches)
    assert found.warnings == []
    assert found.frames == 8
    assert all(entry.boxes == 8 and entry.share > 0.8 for entry in found.recall.values())
    assert list(found.recall) == CLASS_NAMES
    assert len(found.layers) == 7
    assert all(layer.fits for layer in found.layers)
    assert "Pedestrian 100% of 8, Cyclist" in str(found)
    assert "7 of 7 batch norm layers fit" in str(found)


def test_the_teacher_and_the_batches_stay_as_they_are(trained, batches):
    teacher = Teacher(copy.deepcopy(trained))
    state = copy.deepcopy(trained.state_dict())
    given = copy.deepcopy(batches)
    check_teacher(teacher, given, CLASS_NAMES)
    assert all(
        torch.equal(value, state[name]) for name, value in teacher.model.state_dict().items()
    )
    assert not any(module._forward_hooks for module in teacher.model.modules())
    assert all(set(one) == set(other) for one, other in zip(given, batches))


def test_classes_in_another_order(trained, batches):
    shuffled = copy.deepcopy(batches)
    for batch in shuffled:
        batch["gt_boxes"][..., 7] = batch["gt_boxes"][..., 7] % 3 + 1
    warnings = report(trained, shuffled).warnings
    assert len(warnings) == 3
    assert "finds only 0 of 8 labelled Car boxes (0%) and takes" in warnings[0]
    assert "of them for Cyclist" in warnings[0]
    assert "CLASS_NAMES in the order of its training?" in warnings[0]


def test_random_weights(batches):
    warnings = report(small_model(seed=3), batches).warnings
    for name in CLASS_NAMES:
        assert any(f"labelled {name} boxes" in text for text in warnings)
    assert all("is it trained, " in text for text in warnings)


def test_another_intensity_scale_is_seen_in_the_first_layer(trained, batches):
    scaled = copy.deepcopy(batches)
    for batch in scaled:
        batch["voxels"][..., 3] *= 255
    warning = report(trained, scaled).warnings[-1]
    assert "batch norm 'vfe.pfn_layers.0.norm'" in warning
    assert "more layers" in warning
    assert "the same intensity scale?" in warning


def test_batch_statistics_cannot_be_wrong(trained, batches):
    """MODE: train does not use the running statistics."""
    assert report(trained, batches, mode="train").layers == []


def test_frames_without_labels_and_without_pillars(trained, batches):
    batch = {key: value for key, value in batches[0].items() if key != "gt_boxes"}
    found = report(trained, [batch])
    assert found.recall == {}
    assert found.warnings == []
    assert "7 of 7" in str(found)
    assert "labelled" not in str(found)
    assert "nothing to judge it by" in str(report(trained, []))


def test_too_few_labels_are_no_reason_to_warn(batches):
    batch = make_batch([scene(0)])
    assert not any("labelled" in text for text in report(small_model(seed=3), [batch]).warnings)


def test_a_class_that_it_does_not_predict_is_left_out(trained, batches):
    model = copy.deepcopy(trained)
    model.class_names = ["Car", "Cyclist"]
    assert list(report(model, batches).recall) == ["Car", "Cyclist"]


def test_labels_outside_its_range(trained, batches):
    model = copy.deepcopy(trained)
    model.dataset.point_cloud_range = np.array(
        [0, -8, -3, 10, 8, 1], np.float32
    )  # cyclists stand at 12 m
    found = report(model, batches)
    assert found.outside == 8
    assert found.recall["Cyclist"].boxes == 0
    assert found.recall["Car"].boxes == 8
    assert found.warnings == [
        "8 of 24 labelled boxes are outside the teacher's POINT_CLOUD_RANGE, where it teaches "
        "nothing"
    ]
