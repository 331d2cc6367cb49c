"""Teacher: frozen, unchanged, run no further than its last tap."""

from __future__ import annotations

import pytest
import torch
from toy_detectors import ToyDetector, toy_batch

from pcdet_distill.distill.teacher import Teacher
from pcdet_distill.errors import ConfigError


def test_is_frozen_and_in_eval():
    model = ToyDetector(6).train()
    teacher = Teacher(model)
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not isinstance(teacher, torch.nn.Module)


def test_features_works_on_a_copy_and_stops_after_the_last_tap():
    teacher = Teacher(ToyDetector(6))
    batch = toy_batch()
    keys = set(batch)
    before = {key: torch.as_tensor(value).clone() for key, value in batch.items()}
    features = teacher.features(batch, ["vfe@pillar_features"])
    assert features["vfe@pillar_features"].shape == (80, 6)
    assert teacher.model.backbone_2d.ran == 0
    assert set(batch) == keys
    assert all(torch.equal(torch.as_tensor(batch[key]), before[key]) for key in keys)
    ran = []
    teacher.model.backbone_2d.register_forward_hook(lambda *_: ran.append(True))
    features = teacher.features(batch, ["backbone_2d.norm", "vfe@pillar_features"])
    assert features["backbone_2d.norm"].shape == (2, 6, 8, 8)
    assert teacher.model.backbone_2d.ran == 1
    assert not ran  # not even to the end of the module that holds the last tap
    assert not any(feature.requires_grad for feature in features.values())


def test_features_refuses_an_unknown_tap():
    with pytest.raises(ConfigError, match="did you mean 'backbone_2d'"):
        Teacher(ToyDetector(6)).features(toy_batch(), ["backbone_2"])


def test_mode_train_uses_batch_statistics_and_leaves_the_running_ones():
    model = ToyDetector(6)
    model.vfe.norm.running_mean.fill_(0.3)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    teacher = Teacher(model, mode="train")
    batch = toy_batch()
    features = teacher.features(batch, ["vfe@pillar_features"])["vfe@pillar_features"]
    values = model.vfe.linear(batch["voxels"].mean(1))
    expected = torch.relu(
        (values - values.mean(0)) / torch.sqrt(values.var(0, unbiased=False) + 1e-5)
    )
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    still = Teacher(ToyDetector(6)).features(batch, ["vfe@pillar_features"])["vfe@pillar_features"]
    assert not torch.allclose(features, still, atol=1e-3)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_unknown_mode():
    with pytest.raises(
        ConfigError, match="DISTILL.TEACHER.MODE: unknown value 'evall'; did you mean 'eval'"
    ):
        Teacher(ToyDetector(6), mode="evall")


def test_predict():
    teacher = Teacher(ToyDetector(6))
    batch = toy_batch()
    keys = set(batch)
    predictions = teacher.predict(batch)
    assert len(predictions) == 2
    assert set(predictions[0]) == {"pred_scores"}
    assert set(batch) == keys
