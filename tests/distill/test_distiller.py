"""DistillHead and Distiller on toy detectors: the contract, who learns, what is saved."""

from __future__ import annotations

import copy
import logging
from types import SimpleNamespace

import pytest
import torch
from toy_detectors import SPEC, ToyDetector, toy_batch

from pcdet_distill.distill import (
    BATCH_TRANSFORMS,
    BatchTransform,
    Distiller,
    DistillHead,
    TapSource,
    Teacher,
)
from pcdet_distill.errors import CheckpointError, ConfigError

GRAPH = {
    "NAME": "GraphDistillLoss",
    "STUDENT": "vfe@pillar_features",
    "TEACHER": "vfe@pillar_features",
    "NODES": "voxel",
    "NUM_NODES": 20,
    "NUM_NEIGHBORS": 4,
    "EMBED_DIM": 8,
}
BEV = {
    "NAME": "GraphDistillLoss",
    "STUDENT": "backbone_2d@spatial_features_2d",
    "NUM_NODES": 10,
    "NUM_NEIGHBORS": 4,
    "TEACHER": "backbone_2d@spatial_features_2d",
    "SCORE": "channel_max",
    "WEIGHT": 0.5,
}


def sources(student, teacher):
    return TapSource.of("student", student, SPEC), TapSource.of("teacher", teacher, SPEC)


def distiller(terms=None, mode="eval"):
    student = ToyDetector(4, seed=1)
    teacher = ToyDetector(8, seed=2)
    head = DistillHead.from_config(terms or {"LOCAL": GRAPH}, *sources(student, teacher))
    return Distiller(student, Teacher(teacher, mode), head).train()


def test_training_step_adds_every_term():
    model = distiller({"LOCAL": GRAPH, "MAP": BEV})
    plain = copy.deepcopy(model.student)
    ret, tb, disp = model(toy_batch())
    expected, plain_tb, _ = plain(toy_batch())
    torch.testing.assert_close(
        ret["loss"].detach(), expected["loss"].detach() + tb["distill_loss"], rtol=1e-5, atol=0
    )
    assert tb["loss_rpn"] == plain_tb["loss_rpn"]
    assert tb["distill_loss"] == pytest.approx((tb["distill_local"] + tb["distill_map"]).item())
    assert {"distill_local_entropy", "distill_map_dead_teacher"} <= set(tb)
    assert disp["distill"].item() == pytest.approx(tb["distill_loss"].item())
    assert not disp["distill"].requires_grad
    assert not any(isinstance(value, torch.Tensor) and value.requires_grad for value in tb.values())


def test_weight_scales_the_term():
    losses = []
    for weight in (1.0, 3.0, 0):
        torch.manual_seed(0)
        losses.append(
            distiller({"LOCAL": {**GRAPH, "WEIGHT": weight}})(toy_batch())[1]["distill_local"]
        )
    assert losses[1] == pytest.approx(3 * losses[0])
    assert losses[2] == 0
    assert losses[0] > 0


def test_weight_follows_the_progress_of_the_training():
    """And is logged where it changes."""
    torch.manual_seed(0)
    model = distiller(
        {"FADES": {**BEV, "WEIGHT": {"START": 2.0, "END": 0.0}}, "STAYS": {**BEV, "WEIGHT": 2.0}}
    )
    model.head.terms["STAYS"].loss.load_state_dict(model.head.terms["FADES"].loss.state_dict())
    for progress, weight in ((0, 2.0), (0.5, 1.0), (1.0, 0.0)):
        model.set_progress(progress)
        _, tb, _ = model(toy_batch())
        assert tb["distill_fades_weight"] == weight
        assert "distill_stays_weight" not in tb
        assert tb["distill_fades"].item() == pytest.approx(tb["distill_stays"].item() * weight / 2)
        assert tb["distill_loss"].item() == pytest.approx(
            (tb["distill_fades"] + tb["distill_stays"]).item()
        )


def test_the_teacher_does_not_run_when_all_weights_are_zero():
    """Every parameter still gets a gradient, of zero, as parallel training requires."""
    fades = {"START": 1.0, "END": 0.0, "UNTIL": 0.5}
    model = distiller(
        {"LOCAL": {**GRAPH, "WEIGHT": fades}, "MAP": {**BEV, "WEIGHT": {**fades, "UNTIL": 0.8}}}
    )
    for progress, runs in ((0.4, 1), (0.6, 2), (0.8, 2), (1.0, 2)):
        model.set_progress(progress)
        model.zero_grad(set_to_none=True)
        ret, tb, _ = model(toy_batch())
        ret["loss"].backward()
        assert model.teacher.model.backbone_2d.ran == runs
        assert (tb["distill_local"] > 0) == ("distill_local_entropy" in tb) == (progress < 0.5)
        assert all(parameter.grad is not None for parameter in model.parameters())
    plain = copy.deepcopy(model.student)
    assert tb["distill_loss"] == 0
    assert ret["loss"].item() == pytest.approx(plain(toy_batch())[0]["loss"].item())


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_training_moves_student_and_head_and_never_the_teacher(mode):
    model = distiller({"LOCAL": {**GRAPH, "PRESET": "official"}}, mode)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    teacher_before = {
        name: value.clone() for name, value in model.teacher.model.state_dict().items()
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for seed in range(3):
        model.train()
        optimizer.zero_grad()
        model(toy_batch(seed))[0]["loss"].backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
    assert all(
        torch.equal(value, teacher_before[name])
        for name, value in model.teacher.model.state_dict().items()
    )
    assert all(parameter.grad is None for parameter in model.teacher.model.parameters())
    moved = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == set(before)
    assert model.teacher.model.training is False


def test_distillation_reaches_the_student_itself():
    """The student's gradient is not that of plain training."""
    model = distiller()
    plain = copy.deepcopy(model.student)
    model(toy_batch())[0]["loss"].backward()
    plain(toy_batch())[0]["loss"].backward()
    assert not torch.allclose(
        model.student.vfe.linear.weight.grad, plain.vfe.linear.weight.grad, atol=1e-4
    )
    torch.testing.assert_close(
        model.student.backbone_2d.conv.weight.grad, plain.backbone_2d.conv.weight.grad
    )


def test_eval_is_the_student_alone():
    model = distiller().eval()
    model.teacher = None  # not even needed
    predictions, recall = model(toy_batch())
    expected, _ = model.student(toy_batch())
    assert torch.equal(predictions[1]["pred_scores"], expected[1]["pred_scores"])
    assert recall == {}


def test_teacher_is_no_submodule_but_follows():
    model = distiller()
    assert not any("teacher.model" in name for name, _ in model.named_parameters())
    assert not any(name.startswith("teacher") for name in model.state_dict())
    model.train()
    assert not any(module.training for module in model.teacher.model.modules())
    model.double()
    assert model.teacher.model.vfe.linear.weight.dtype == torch.float64
    model.to("meta")
    assert model.teacher.model.vfe.linear.weight.device.type == "meta"


def test_checkpoint_holds_the_student_alone_and_resumes_everything(tmp_path):
    model = distiller()
    model(toy_batch())
    state = model.checkpoint_state()
    assert set(state) == {"model_state", "distill_state"}
    assert set(state["model_state"]) == set(model.student.state_dict())
    torch.save(state, tmp_path / "state.pth")
    fresh = distiller()
    for value in fresh.state_dict().values():
        value.zero_()
    fresh.load_checkpoint_state(torch.load(tmp_path / "state.pth"), "state.pth")
    assert all(
        torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items()
    )
    model.update_global_step()
    assert model.student.steps == 1


def test_resume_refuses_what_is_no_distillation_or_another_one():
    model = distiller()
    with pytest.raises(CheckpointError, match="plain.pth: no 'distill_state'.*--pretrained_model"):
        model.load_checkpoint_state(model.student.checkpoint_state(), "plain.pth")
    other = distiller({"LOCAL": {**GRAPH, "EMBED_DIM": 5}}).checkpoint_state()
    with pytest.raises(CheckpointError, match="other.pth .distill_state."):
        model.load_checkpoint_state(other, "other.pth")


@pytest.mark.parametrize(
    "change, words",
    [
        (
            {"STUDENT": "vfe@pillar_feature"},
            [
                "T.STUDENT",
                "the student has no tap",
                "did you mean 'vfe@pillar_features'",
                "student's taps: backbone_2d@spatial_features_2d, vfe@pillar_features",
            ],
        ),
        (
            {"TEACHER": "neck"},
            ["T.TEACHER", "the teacher has no tap", "backbone_2d@spatial_features_2d"],
        ),
        ({"TEACHER": None}, ["T", "key TEACHER is missing"]),
        (
            {"NODES": "bev"},
            ["gives voxel features, NODES is bev", "backbone_2d@spatial_features_2d"],
        ),
        ({"NODES": "pillar"}, ["T.NODES: unknown name 'pillar'", "voxel"]),
        ({"NAME": "GraphDistilLoss"}, ["T.NAME", "did you mean 'GraphDistillLoss'"]),
        (
            {"TEACHER": "backbone_2d@spatial_features_2d", "NODES": None},
            [
                "T: tap 'vfe@pillar_features' of the student gives voxel features",
                "of the teacher bev ones",
                "voxel: vfe@pillar_features with vfe@pillar_features; "
                "bev: backbone_2d@spatial_features_2d with",
            ],
        ),
        ({"WEIGHT": -1}, ["T.WEIGHT", "from 0 up"]),
        ({"WEIGHT": "much"}, ["T.WEIGHT", "'much'"]),
        ({"NUM_NEIGBORS": 3}, ["T: unknown key", "NUM_NEIGHBORS"]),
    ],
)
def test_head_refuses(change, words):
    student = ToyDetector(4)
    teacher = ToyDetector(8)
    with pytest.raises(ConfigError) as error:
        DistillHead.from_config({"T": {**GRAPH, **change}}, *sources(student, teacher))
    for word in words:
        assert word in str(error.value)


def test_head_refuses_terms_without_names_and_data_without_voxels():
    student, teacher = sources(ToyDetector(4), ToyDetector(8))
    with pytest.raises(ConfigError, match="DISTILL.TERMS: expected named terms"):
        DistillHead.from_config(["GraphDistillLoss"], student, teacher)
    for name, term in (("A.B", GRAPH), ("keys", GRAPH), ("LOCAL", 3)):
        with pytest.raises(ConfigError, match=f"DISTILL.TERMS.{name}: expected a name in capitals"):
            DistillHead.from_config({name: term}, student, teacher)
    pointless = TapSource("student", student.taps, None)
    with pytest.raises(ConfigError, match="the student's data has no voxels"):
        DistillHead.from_config({"T": GRAPH}, pointless, teacher)


def test_paths_are_listed_once():
    student = ToyDetector(4)
    teacher = ToyDetector(8)
    head = DistillHead.from_config({"A": GRAPH, "B": GRAPH, "C": BEV}, *sources(student, teacher))
    assert (
        head.student_paths
        == head.teacher_paths
        == ["vfe@pillar_features", "backbone_2d@spatial_features_2d"]
    )


def test_teacher_with_other_row_order():
    """The teacher's own batch may have its rows in any order: nodes are matched by place."""
    student = ToyDetector(4)
    teacher = ToyDetector(8)
    head = DistillHead.from_config({"A": GRAPH}, *sources(student, teacher)).eval()
    batch = toy_batch()
    order = torch.randperm(80)
    shuffled = {
        **batch,
        **{key: batch[key][order] for key in ("voxels", "voxel_coords", "voxel_num_points")},
    }
    path = "vfe@pillar_features"
    observer = Teacher(teacher)
    own = {path: torch.randn(80, 4)}
    same, _ = head(own, observer.features(batch, [path]), batch)
    other, _ = head(own, observer.features(shuffled, [path]), batch, shuffled)
    torch.testing.assert_close(same, other, rtol=1e-5, atol=0)


def test_without_terms_the_teacher_does_not_run():
    student = ToyDetector(4)
    teacher = ToyDetector(8)
    model = Distiller(student, Teacher(teacher), DistillHead({})).train()
    loss, tb, disp = model(toy_batch())
    assert teacher.backbone_2d.ran == 0
    assert student.backbone_2d.ran == 1
    assert disp == {}
    torch.testing.assert_close(loss["loss"], copy.deepcopy(student)(toy_batch())[0]["loss"])


class DoubledLabels(BatchTransform):
    """Takes its labels from the teacher's boxes."""

    def prepare(self, batch_dict, teacher):
        batch_dict["gt_boxes"] = teacher.predict(batch_dict)[0]["pred_scores"]
        self.logs["frames"] = len(teacher.predict(batch_dict))


def test_a_transform_changes_the_students_labels_and_not_the_batch(monkeypatch):
    monkeypatch.setitem(BATCH_TRANSFORMS, "DoubledLabels", DoubledLabels)
    model = distiller({"LABELS": {"NAME": "DoubledLabels"}, "LOCAL": GRAPH})
    seen = []
    model.student.vfe.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0]["gt_boxes"])
    )
    batch = {**toy_batch(), "gt_boxes": torch.zeros(2, 1, 8)}
    _, tb, _ = model(batch)
    assert seen[0].shape == (1,)
    assert batch["gt_boxes"].shape == (2, 1, 8)
    assert model.teacher.model.backbone_2d.ran == 1  # once for boxes and features
    assert tb["distill_labels_frames"] == 2
    assert tb["distill_loss"] == tb["distill_local"]


def test_terms_get_the_progress():
    model = distiller()
    model.set_progress(0.25)
    assert model.head.terms["LOCAL"].progress == 0.25


def test_init_gets_student_teacher_and_batches():
    student = ToyDetector(4)
    teacher = Teacher(ToyDetector(8))
    told = []
    model = Distiller(
        student, teacher, DistillHead({}), student_init=lambda *parts: told.append(parts)
    )
    logger = logging.getLogger("test")
    model.init_student([1], logger)
    assert told == [(student, teacher, [1], logger)]
    distiller().init_student([1], logger)  # without an initialisation nothing changes


def test_init_before_training_takes_the_first_frames_of_the_data():
    calls = []
    init = SimpleNamespace(frames=3)
    data = SimpleNamespace(first_frames=lambda count: [count])
    model = distiller()
    model.student_init = init
    model.init_student = lambda batches, logger: calls.append(batches)
    model.init_before_training(data, logging.getLogger("test"))
    assert calls == [[3]]


def test_both_models_run_as_in_a_training_step_without_one():
    """The graph that pictures show is the one that the training step compares."""
    model = distiller({"MAP": BEV})
    term = model.head.terms["MAP"]
    graphs = []
    choose = term.loss.local_graphs
    term.loss.local_graphs = lambda *inputs: graphs.append(choose(*inputs)) or graphs[-1]
    batch = toy_batch()
    model(batch)
    before = copy.deepcopy(model.student.state_dict())
    model.eval()
    both = model.run_both(batch)
    found = term.read(
        both.student_features, both.teacher.features, both.batch_dict, both.teacher.batch_dict
    )
    details = term.loss.details(*term.student.match(*found), both.batch_dict)
    (trained, shown) = graphs
    assert torch.equal(trained.queries.sort().values, shown.queries.sort().values)
    assert torch.equal(details.queries, shown.queries)
    order, shown_order = trained.queries.argsort(), shown.queries.argsort()
    assert torch.equal(
        trained.neighbours[order].sort(dim=1).values,
        shown.neighbours[shown_order].sort(dim=1).values,
    )
    torch.testing.assert_close(trained.weights[order], shown.weights[shown_order])
    assert "spatial_features_2d" not in batch  # the caller's dict stays as it is
    assert isinstance(both.student_output[0], list)  # in eval: boxes of every frame
    for name, value in model.student.state_dict().items():
        assert torch.equal(value, before[name])
