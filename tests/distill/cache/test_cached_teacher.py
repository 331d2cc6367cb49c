"""DISTILL.TEACHER.CACHE: what is stored, what the losses get of it, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np
import pytest
import torch
from distillation_steps import losses_of_distillation
from made_cache import (
    AUGMENTATIONS,
    FRAMES,
    TERM,
    batch_of,
    cached_distiller,
    dataset,
)
from small_point_rcnn import small_point_rcnn

from pcdet_distill.datasets.predicted import PREDICTED
from pcdet_distill.distill import DistillHead, TapSource
from pcdet_distill.distill.cache import CachedTeacher, use_stored_predictions
from pcdet_distill.distill.losses import DISTILL_LOSSES, PredictionLoss
from pcdet_distill.distill.predictions import ABSENT_LOGIT
from pcdet_distill.errors import ConfigError, DataError
from pcdet_distill.ops.boxes import limit_period

LABELS = {"NAME": "TeacherLabels", "SCORE_THRESH": 0.1}
MAP = {
    "NAME": "FeatureMimicLoss",
    "STUDENT": "backbone_2d@spatial_features_2d",
    "TEACHER": "backbone_2d@spatial_features_2d",
}


def live_rows(model, batch):
    """The raw predictions of the teacher, run on the batch."""
    reader = model.head.terms["LOGIT_BOX"].teacher.reader
    _, features = model.teacher.detect(dict(batch), reader.paths)
    return reader.read(features, batch)


def stored_rows(model, batch):
    return model.head.terms["LOGIT_BOX"].teacher.read({}, batch, detached=True)


@pytest.mark.parametrize("kind", ["wide", "centres"])
def test_without_augmentation_the_targets_are_the_teachers_own(tmp_path, kind) -> None:
    data = dataset()
    student = "centres" if kind == "centres" else "anchors"
    model = cached_distiller(tmp_path, student=student, teacher=kind, data=data, CACHE_THRESH=0.02)
    model.prepare_data()
    batch = batch_of(data, [0, 1])
    live = live_rows(model, batch)
    stored = stored_rows(model, batch)
    above = (live.scores() > 0.02).nonzero().flatten()
    assert len(above) > 50
    # Scores are stored in half precision.
    torch.testing.assert_close(
        stored.logits[above].sigmoid(), live.logits[above].sigmoid(), atol=2e-3, rtol=0
    )
    torch.testing.assert_close(
        stored.boxes()[above, :6], live.boxes()[above, :6], rtol=0, atol=1e-3
    )
    below = (live.scores() <= 0.02).nonzero().flatten()
    assert (stored.scores()[below] < 0.02).all()
    torch.testing.assert_close(stored.coords, live.coords)
    assert torch.equal(stored.batch_index, live.batch_index)


def test_headings_are_the_ones_that_a_student_regresses(tmp_path) -> None:
    """A head with a direction classifier learns the code of the nearer of two opposite headings."""
    data = dataset()
    model = cached_distiller(tmp_path, data=data, CACHE_THRESH=0.02)
    model.prepare_data()
    stored = stored_rows(model, batch_of(data, [0, 1]))
    assert stored.codes[:, 6].abs().max() <= np.pi / 2 + 1e-4


def test_no_teacher_runs_in_a_training_step(tmp_path) -> None:
    model = cached_distiller(tmp_path)
    model.prepare_data()
    runs = []
    model.teacher.model.register_forward_hook(lambda *_: runs.append(1))
    model.teacher.model.backbone_2d.register_forward_hook(lambda *_: runs.append(1))
    batch = batch_of(model.teacher.cache.builder.dataset, [0, 1, 2])
    ret, tb, _ = model(batch)
    ret["loss"].backward()
    assert runs == []
    assert tb["distill_logit_box"] > 0 and tb["distill_logit_box_positions"] > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_every_loss_between_predictions_takes_its_targets_from_the_cache(tmp_path) -> None:
    """Without augmentation each of them is nearly what it is with the teacher's own predictions."""
    losses = [name for name, kind in DISTILL_LOSSES.items() if issubclass(kind, PredictionLoss)]
    terms = {"LOGIT_BOX": TERM}
    for name in losses:
        terms[name.upper()] = {"NAME": name, "STUDENT": "dense_head", "TEACHER": "dense_head"}
    data = dataset()
    model = cached_distiller(tmp_path, data=data, terms=terms, CACHE_THRESH=0.02)
    model.prepare_data()
    batch = batch_of(data, [0, 1])
    live = live_rows(model, batch)
    stored = stored_rows(model, batch)
    student = dataclasses.replace(live, logits=live.logits - 1, codes=live.codes + 0.1)
    for name in losses:
        loss = model.head.terms[name.upper()].loss
        with_live = loss(student, live, batch).item()
        with_stored = loss(student, stored, batch).item()
        assert with_live > 0, name
        assert with_stored == pytest.approx(with_live, rel=0.15), name


def test_twenty_steps_make_the_student_like_its_cached_teacher(tmp_path) -> None:
    model = cached_distiller(tmp_path, data=dataset())
    model.prepare_data()
    batch = batch_of(model.teacher.cache.builder.dataset, [0, 1])
    seen = losses_of_distillation(model, batch)
    assert seen[-1] < 0.6 * seen[0]


def test_labels_of_a_cached_teacher(tmp_path) -> None:
    data = dataset()
    model = cached_distiller(tmp_path, data=data, terms={"LABELS": LABELS, "LOGIT_BOX": TERM})
    model.prepare_data()
    batch = batch_of(data, [0, 1])
    stored = model.teacher.predict(batch)
    live, _ = model.teacher.detect({k: v for k, v in batch.items() if k != PREDICTED})
    for found, expected in zip(stored, live):
        difference = found["pred_boxes"] - expected["pred_boxes"]
        difference[:, 6] = limit_period(difference[:, 6], 0.5, 2 * np.pi)
        assert difference.abs().max() < 1e-4
        torch.testing.assert_close(found["pred_scores"], expected["pred_scores"])
        assert torch.equal(found["pred_labels"], expected["pred_labels"])
    _, tb, _ = model(batch)
    assert tb["distill_labels_added"] > 0


def test_student_with_fewer_classes_in_another_order(tmp_path) -> None:
    data = dataset(class_names=["Cyclist", "Car"])
    full = cached_distiller(tmp_path, data=dataset())
    full.prepare_data()
    model = cached_distiller(tmp_path, data=data, student="two_classes")
    model.prepare_data()
    stored = stored_rows(model, batch_of(data, [0]))
    of_all = stored_rows(full, batch_of(full.teacher.cache.builder.dataset, [0]))
    grid = model.head.terms["LOGIT_BOX"].student.reader.grid()
    all_grid = full.head.terms["LOGIT_BOX"].student.reader.grid()
    for name, column in (("Cyclist", 0), ("Car", 1)):
        own = [number for number, kind in enumerate(grid.kinds) if kind.classes == (name,)]
        other = [number for number, kind in enumerate(all_grid.kinds) if kind.classes == (name,)]
        own_rows = torch.isin(grid.kind_index, torch.tensor(own))
        other_rows = torch.isin(all_grid.kind_index, torch.tensor(other))
        all_column = {"Car": 0, "Cyclist": 2}[name]
        torch.testing.assert_close(
            stored.logits[own_rows, column], of_all.logits[other_rows, all_column]
        )


def test_places_outside_of_the_recorded_scene_teach_nothing(tmp_path) -> None:
    data = dataset([{"NAME": "random_world_rotation", "WORLD_ROT_ANGLE": [0.3, 0.3]}])
    model = cached_distiller(tmp_path, data=data)
    model.prepare_data()
    batch = batch_of(data, [0])
    term = model.head.terms["LOGIT_BOX"]
    teacher = term.teacher.read({}, batch, detached=True)
    is_unseen = (teacher.logits == ABSENT_LOGIT).all(dim=1)
    assert 0.05 < is_unseen.float().mean() < 0.4
    live = live_rows(model, batch)
    student, matched = term.student.match(live, teacher)
    assert (student.logits[is_unseen] == ABSENT_LOGIT).all()
    assert (matched.logits[is_unseen] == ABSENT_LOGIT).all()
    assert not (student.logits[~is_unseen] == ABSENT_LOGIT).any()


def test_an_item_does_not_depend_on_the_process_that_makes_it(tmp_path) -> None:
    data = dataset(AUGMENTATIONS)
    model = cached_distiller(tmp_path, data=data)
    model.prepare_data()
    here = [data[number][PREDICTED] for number in range(FRAMES)]
    loader = torch.utils.data.DataLoader(
        data, batch_size=1, num_workers=2, collate_fn=data.collate_batch
    )
    for own, batch in zip(here, loader):
        for name, values in own.items():
            if name != "matrix":
                np.testing.assert_array_equal(batch[PREDICTED][name], values)


# Files


def test_a_second_training_finds_everything(tmp_path, monkeypatch) -> None:
    first = cached_distiller(tmp_path)
    first.prepare_data()
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}
    assert sorted(before) == ["manifest.json", "part_0000.npz"]
    second = cached_distiller(tmp_path)
    monkeypatch.setattr(second.teacher.model, "forward", lambda batch: pytest.fail("it ran"))
    second.prepare_data()
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}
    assert after == before


def test_an_interrupted_cache_is_completed(tmp_path, monkeypatch) -> None:
    from pcdet_distill.distill.cache import build

    monkeypatch.setattr(build, "FRAMES_PER_PART", 2)
    cached_distiller(tmp_path).prepare_data()
    whole = cached_distiller(tmp_path)
    whole.prepare_data()
    parts = sorted((tmp_path / "cache").glob("part_*"))
    assert len(parts) == 3
    parts[1].unlink()
    kept = parts[0].stat().st_mtime_ns
    again = cached_distiller(tmp_path)
    again.prepare_data()
    assert parts[0].stat().st_mtime_ns == kept
    for number in range(FRAMES):
        name = f"scene{number}"
        np.testing.assert_array_equal(
            again.teacher.cache.store.of_frame(name).boxes,
            whole.teacher.cache.store.of_frame(name).boxes,
        )


def test_processes_share_the_work(tmp_path, monkeypatch) -> None:
    from pcdet_distill.distill.cache import build

    monkeypatch.setattr(build, "FRAMES_PER_PART", 2)
    model = cached_distiller(tmp_path)
    builder = model.teacher.cache.builder
    folder = tmp_path / "shared"
    folder.mkdir()
    logger = logging.getLogger("test")
    builder.write_missing(folder, torch.device("cpu"), (1, 2), logger)
    assert [file.name for file in folder.iterdir()] == ["part_0001.npz"]
    builder.write_missing(folder, torch.device("cpu"), (0, 2), logger)
    assert sorted(file.name for file in folder.iterdir()) == [
        f"part_000{number}.npz" for number in range(3)
    ]


@pytest.mark.parametrize(
    "other, words",
    [
        ({"teacher_seed": 2}, "other weights of the teacher; delete it, or name another folder"),
        ({"teacher": "anchors"}, "other weights of the teacher and another config of the teacher"),
        ({"CACHE_THRESH": 0.3}, "another threshold, precision or version"),
    ],
)
def test_a_cache_of_something_else_is_refused(tmp_path, other, words) -> None:
    cached_distiller(tmp_path).prepare_data()
    with pytest.raises(ConfigError, match=f"cache holds the predictions of {words}"):
        cached_distiller(tmp_path, **other).prepare_data()


def test_a_cache_of_other_data_is_refused(tmp_path, monkeypatch) -> None:
    cached_distiller(tmp_path).prepare_data()
    model = cached_distiller(tmp_path)
    data = model.teacher.cache.builder.dataset
    plain = data.load_frame

    def other_frame(index: int) -> dict:
        item = plain(index)
        item["points"] = item["points"] + np.float32(0.01)
        return item

    monkeypatch.setattr(data, "load_frame", other_frame)
    with pytest.raises(ConfigError, match="holds the predictions of other data"):
        model.prepare_data()


def test_a_cache_of_other_classes_is_refused(tmp_path) -> None:
    cached_distiller(tmp_path).prepare_data()
    file = tmp_path / "cache" / "manifest.json"
    stored = json.loads(file.read_text())
    stored["classes"] = stored["classes"][::-1]
    file.write_text(json.dumps(stored))
    with pytest.raises(ConfigError, match="holds the predictions of another list of the teacher's"):
        cached_distiller(tmp_path).prepare_data()


def test_parts_without_a_manifest_are_not_taken_over(tmp_path) -> None:
    """Nothing tells of which teacher they are."""
    cached_distiller(tmp_path).prepare_data()
    (tmp_path / "cache" / "manifest.json").unlink()
    with pytest.raises(ConfigError, match=r"has no manifest.json, but other files \(part_0000.npz"):
        cached_distiller(tmp_path).prepare_data()


def test_a_cache_whose_folder_is_a_file_is_refused(tmp_path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(ConfigError, match="cache is a file, expected a folder"):
        cached_distiller(tmp_path).prepare_data()


def test_what_a_kill_left_of_the_manifest_is_no_other_file(tmp_path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / ".manifest.json.7.partial").write_text("{")
    cached_distiller(tmp_path).prepare_data()


def test_every_teacher_has_a_folder_of_its_own(tmp_path) -> None:
    folders = []
    for seed in (1, 2, 1):
        data = dataset()
        data.root_path = tmp_path / "data"
        model = cached_distiller(tmp_path, data=data, teacher_seed=seed, CACHE_DIR=None)
        model.prepare_data()
        folders.append(len(list((tmp_path / "data" / "teacher_cache").iterdir())))
    assert folders == [1, 2, 2]


def test_batches_without_prepared_data_are_refused(tmp_path) -> None:
    data = dataset()
    model = cached_distiller(tmp_path, data=data)
    with pytest.raises(DataError, match="call distiller.prepare_data"):
        model(batch_of(data, [0]))


# Terms


def test_terms_of_features_need_a_teacher_that_runs(tmp_path) -> None:
    with pytest.raises(ConfigError, match="MAP compare features, for which the teacher has to run"):
        cached_distiller(tmp_path, terms={"MAP": MAP})


def test_the_teacher_runs_for_terms_of_features_alone(tmp_path) -> None:
    ends = {**MAP, "WEIGHT": {"START": 1.0, "END": 0.0, "UNTIL": 0.5}}
    model = cached_distiller(tmp_path, terms={"MAP": ends, "LOGIT_BOX": TERM})
    model.prepare_data()
    runs = []
    model.teacher.model.backbone_2d.register_forward_hook(lambda *_: runs.append("map"))
    model.teacher.model.dense_head.register_forward_hook(lambda *_: runs.append("head"))
    data = model.teacher.cache.builder.dataset
    _, tb, _ = model(batch_of(data, [0, 1]))
    assert tb["distill_map"] > 0 and tb["distill_logit_box"] > 0
    assert runs == ["map"]
    model.set_progress(0.6)
    _, tb, _ = model(batch_of(data, [0, 1]))
    assert tb["distill_map"] == 0 and tb["distill_logit_box"] > 0
    assert runs == ["map"]


def test_predictions_for_points_cannot_be_stored() -> None:
    student = small_point_rcnn(seed=0)
    teacher = small_point_rcnn(seed=1)
    term = {**TERM, "STUDENT": "point_head", "TEACHER": "point_head"}
    head = DistillHead.from_config(
        {"POINTS": term},
        TapSource.of("student", student, student.dataset),
        TapSource.of("teacher", teacher, teacher.dataset),
    )
    with pytest.raises(ConfigError, match=r"TERMS.POINTS: .* point_head predicts for points"):
        use_stored_predictions(head, None)


def test_a_teacher_of_points_gives_its_detections_as_labels(tmp_path) -> None:
    data = dataset()
    labels = {**LABELS, "SCORE_THRESH": 0.0}
    model = cached_distiller(tmp_path, data=data, teacher="points", terms={"LABELS": labels})
    model.prepare_data()
    assert model.teacher.cache.store.rows == 0
    batch = batch_of(data, [0, 1])
    assert sum(len(frame["pred_boxes"]) for frame in model.teacher.predict(batch)) > 0
    ret, tb, _ = model(batch)
    ret["loss"].backward()
    assert tb["distill_labels_added"] > 0


def test_an_unreadable_frame_is_named_or_left_out(tmp_path, monkeypatch) -> None:
    data = dataset()
    plain = data.load_frame

    def broken(index: int) -> dict:
        if index == 3:
            raise DataError("its points end in the middle")
        return plain(index)

    monkeypatch.setattr(data, "load_frame", broken)
    model = cached_distiller(tmp_path, data=data)
    with pytest.raises(DataError, match="frame scene3: its points end in the middle"):
        model.prepare_data()
    data.skip_bad_frames = True
    model.prepare_data()
    assert model.teacher.cache.store.frames == FRAMES - 1
    assert PREDICTED in data[3]  # another frame has taken its place


@pytest.mark.parametrize(
    "options, words",
    [
        ({"REUSE": 2}, "REUSE: has no effect with CACHE"),
        ({"MODE": "train"}, "stored once, for a teacher in MODE: eval; found MODE: train"),
        ({"CACHE": "features"}, "CACHE"),
    ],
)
def test_options_that_do_not_fit_together(tmp_path, options, words) -> None:
    with pytest.raises(ConfigError, match=words):
        cached_distiller(tmp_path, **options)


def test_the_teacher_is_checked_by_its_stored_boxes(tmp_path, caplog) -> None:
    data = dataset()
    model = cached_distiller(tmp_path, data=data)
    assert isinstance(model.teacher, CachedTeacher)
    model.prepare_data()

    class Batches:
        class_names = data.class_names

        def first_frames(self, count: int) -> list[dict]:
            return [data.collate_batch([data[number]]) for number in range(2)]

    with caplog.at_level(logging.INFO):
        model.check_before_training(Batches(), logging.getLogger("test"))
    assert "teacher check on 2 frames: finds" in caplog.text
