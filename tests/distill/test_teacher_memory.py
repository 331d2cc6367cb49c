"""DISTILL.TEACHER.REUSE: the teacher skips batches that come again; all else stays the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import test_recipes
import torch
from test_build_distiller import SMALL, network, voxel_batch
from test_distiller import BEV, GRAPH, DoubledLabels, distiller
from toy_detectors import toy_batch

from pcdet_distill.config import load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.distill import BATCH_TRANSFORMS, build_distiller
from pcdet_distill.distill.teacher_memory import TeacherMemory
from pcdet_distill.errors import ConfigError

teacher_of = test_recipes.teacher_of  # a fixture
LOGITS = "cfgs/synthetic/recipes/logitbox.yaml"


def test_an_output_is_used_as_often_as_its_batch_comes():
    memory = TeacherMemory(3)
    asked = []

    def answer():
        asked.append(1)
        return {"map": torch.arange(4.0)[::2], "boxes": [{"scores": torch.ones(2)}]}

    points = [torch.randn(5, 4)]
    for times in (1, 1, 1, 2):
        found = memory.recall(points, ["a"], answer)
        assert found["map"].tolist() == [0, 2]
        assert found["boxes"][0]["scores"].tolist() == [1, 1]
        assert len(asked) == times
    for other in (
        [points[0] + 1e-6],
        [points[0].view(4, 5)],
        [points[0].double()],
        [points[0], points[0]],
    ):
        before = len(asked)
        memory.recall(other, ["a"], answer)
        memory.recall(points, ["b", str(len(asked))], answer)
        assert len(asked) == before + 2


def test_files_are_deleted_after_their_last_use():
    memory = TeacherMemory(2)
    points = [[torch.full((1,), float(number))] for number in range(3)]
    for each in points:
        memory.recall(each, [], lambda: torch.zeros(1))
    folder = Path(memory._folder.name)
    assert len(memory) == len(list(folder.iterdir())) == 3
    for each in points[:2]:
        memory.recall(each, [], lambda: torch.zeros(1))
    assert len(memory) == len(list(folder.iterdir())) == 1
    del memory
    assert not folder.exists()


@pytest.mark.parametrize("labels", [False, True])
def test_the_teacher_runs_once_for_a_batch_that_comes_again(labels, monkeypatch):
    monkeypatch.setitem(BATCH_TRANSFORMS, "DoubledLabels", DoubledLabels)
    terms = {"MAP": BEV, **({"LABELS": {"NAME": "DoubledLabels"}} if labels else {})}
    runs = []
    losses = []
    for memory in (None, TeacherMemory(2)):
        torch.manual_seed(0)
        model = distiller(terms)
        model.teacher.memory = memory
        for epoch in range(4):
            for number in range(3):
                ret, tb, _ = model(toy_batch(seed=10 * (epoch // 2) + number))
                losses.append(ret["loss"].item())
                assert tb.get("distill_labels_frames", 2) == 2
        runs.append(model.teacher.model.backbone_2d.ran)
    assert runs == [12, 6]
    assert losses[:12] == losses[12:]
    assert len(memory) == 0


class Data(DataSpec):
    """Records the calls of a dataset."""

    epochs_per_draw = 1

    def repeat_draws(self, epochs):
        self.epochs_per_draw = epochs

    def take_unlabelled(self):
        pass


def built(file, teacher_of, reuse, data=Data, **distill):
    cfg = load_config(test_recipes.REPO / file)
    cfg.DATA_CONFIG.POINT_CLOUD_RANGE = SMALL
    folder = teacher_of(cfg.DISTILL.TEACHER.CFG_FILE)
    cfg.DISTILL.TEACHER.CFG_FILE = str(folder / "teacher.yaml")
    cfg.DISTILL.TEACHER.REUSE = reuse
    cfg.DISTILL.update(distill)
    spec = data.from_config(cfg.DATA_CONFIG, cfg.CLASS_NAMES)
    torch.manual_seed(1)
    return build_distiller(
        cfg, network(cfg)[0], spec, teacher_ckpt=folder / "teacher.pth"
    ).train(), spec


@pytest.mark.parametrize(
    "file",
    [
        LOGITS,
        "cfgs/synthetic/recipes/logitbox_labels.yaml",
        "cfgs/synthetic/recipes/masked_imitation.yaml",
    ],
)
def test_real_detectors_learn_the_same(file, teacher_of):
    results = []
    for reuse in (1, 2):
        model, spec = built(file, teacher_of, reuse)
        assert spec.epochs_per_draw == reuse
        assert (model.teacher.memory is None) == (reuse == 1)
        runs = []
        model.teacher.model.backbone_2d.register_forward_hook(lambda *_, runs=runs: runs.append(1))
        results.append([model(voxel_batch(spec))[0]["loss"].item() for _ in range(2)])
        assert len(runs) == 2 // reuse
    assert results[0] == results[1]


@pytest.mark.parametrize("reuse", [0, -1, "2", 1.5, True])
def test_only_whole_numbers(reuse, teacher_of):
    with pytest.raises(
        ConfigError, match="^DISTILL.TEACHER.REUSE: expected a whole number from 1 up"
    ):
        built(LOGITS, teacher_of, reuse)


def test_what_cannot_be_kept_is_refused(teacher_of):
    with pytest.raises(ConfigError, match="REUSE: has no effect without DISTILL.TERMS"):
        built(LOGITS, teacher_of, 2, TERMS={}, INIT_STUDENT="SLICE")
    with pytest.raises(ConfigError, match="REUSE: DataSpec cannot repeat its augmented frames"):
        built(LOGITS, teacher_of, 2, DataSpec)
    with pytest.raises(
        ConfigError, match=r"REUSE: term LOCAL compares vfe@pillar_features .* a run of the teacher"
    ):
        built(LOGITS, teacher_of, 2, TERMS={"LOCAL": GRAPH})
