"""The public API, frozen: a name or parameter that disappears from here breaks somebody's code."""

from __future__ import annotations

import dataclasses
import importlib
import inspect

import pytest
import torch

# module -> name -> parameters that callers may rely on (None: members are listed elsewhere).
NAMES: dict[str, dict[str, list[str] | None]] = {
    "pcdet_distill": {"__version__": None},
    "pcdet_distill.errors": {
        "UserError": None,
        "ConfigError": None,
        "DataError": None,
        "CheckpointError": None,
        "exit_on_user_error": ["main"],
    },
    "pcdet_distill.lookup": {"lookup": ["table", "name", "where"], "nearest": ["name", "known"]},
    "pcdet_distill.config": {
        "load_config": ["path", "overrides"],
        "find_file": ["name", "near"],
        "resolve_data_path": ["path", "root_dir"],
        "to_plain": ["cfg"],
        "errors_name_file": ["cfg"],
        "read_yaml": ["file"],
        "lookup": ["table", "name", "where"],
        "nearest": ["name", "known"],
        "required": ["block", "key", "where"],
        "same_length": ["lists", "where"],
        "refuse_unknown_keys": ["block", "known", "where"],
    },
    "pcdet_distill.checkpoint": {
        "save_checkpoint": ["state", "path"],
        "load_checkpoint": ["path"],
        "load_model_state": ["model", "state", "strict", "where"],
        "LoadReport": None,
    },
    "pcdet_distill.inference": {
        "load_detector": [
            "cfg",
            "ckpt",
            "device",
            "score_threshold",
            "nms_threshold",
            "max_boxes",
            "classes",
            "columns",
            "divide_intensity",
            "fill_missing",
            "batch_size",
            "compile",
            "tell",
        ],
        "Detector": None,
        "Detections": ["boxes", "scores", "labels", "names"],
        "BoxSettings": ["score_threshold", "nms_threshold", "max_boxes", "classes"],
        "InputWarning": None,
    },
    "pcdet_distill.datasets": {
        "DATASETS": None,
        "DataSpec": None,
        "DatasetTemplate": None,
        "NuScenesDataset": [
            "dataset_cfg",
            "class_names",
            "training",
            "root_path",
            "logger",
            "seed",
            "skip_bad_frames",
        ],
        "PointView": ["dataset_cfg", "stored_features", "training"],
        "build_dataset": [
            "dataset_cfg",
            "class_names",
            "root_dir",
            "training",
            "seed",
            "skip_bad_frames",
            "logger",
        ],
        "build_dataloader": [
            "dataset_cfg",
            "class_names",
            "batch_size",
            "dist",
            "root_dir",
            "workers",
            "seed",
            "training",
            "merge_all_iters_to_one_epoch",
            "total_epochs",
            "skip_bad_frames",
            "logger",
        ],
    },
    "pcdet_distill.models": {
        "build_network": ["model_cfg", "num_class", "dataset"],
        "load_data_to_device": ["batch_dict", "device"],
    },
    "pcdet_distill.models.taps": {"capture": ["model", "paths"], "TapInfo": None},
    "pcdet_distill.distill.init": {
        "InitOptions": ["mode", "frames", "select", "samples", "seed"],
        "StudentInit": ["options"],
        "init_student": ["teacher", "student", "batches", "options", "logger"],
    },
    "pcdet_distill.distill.student_init": {  # the old place, for one more version
        "InitOptions": ["mode", "frames", "select", "samples", "seed"],
        "StudentStart": ["options"],
        "initialise_student": ["teacher", "student", "batches", "options", "logger"],
    },
    "pcdet_distill.distill": {
        "build_distiller": ["cfg", "student", "dataset", "teacher_ckpt", "logger"],
        "Distiller": ["student", "teacher", "head"],
        "build_teacher": ["cfg", "dataset", "checkpoint", "logger"],
        "ClassMap": ["student", "teacher"],
        "BATCH_TRANSFORMS": None,
        "BatchTransform": ["options"],
        "DISTILL_LOSSES": None,
        "DistillHead": None,
        "DistillLoss": None,
        "GraphDistillLoss": ["student", "teacher", "options"],
        "MapLoss": ["student", "teacher", "options"],
        "NodeLoss": ["student", "teacher", "options"],
        "PredictionLoss": ["student", "teacher", "options"],
        "NodeFeatures": None,
        "Predictions": None,
        "Teacher": None,
        "TeacherReport": None,
        "WeightSchedule": ["start", "end", "shape", "until"],
        "VoxelSpace": ["voxel_size", "point_cloud_range", "class_names"],
        "check_teacher": ["teacher", "batches", "class_names"],
        "distill": [
            "student",
            "teacher",
            "terms",
            "student_data",
            "teacher_data",
            "example_batch",
            "teacher_mode",
        ],
        "match_nodes": ["student", "teacher"],
    },
    "pcdet_distill.integrations.openpcdet": {
        "distill_openpcdet": [
            "student",
            "cfg",
            "train_set",
            "teacher_ckpt",
            "teacher",
            "example_batch",
            "total_steps",
            "logger",
        ],
        "build_openpcdet_teacher": ["cfg", "train_set", "checkpoint"],
        "OpenPCDetDistiller": ["student", "teacher", "head", "total_steps"],
    },
    "pcdet_distill.ops.sparse_tensor": {
        "SparseConvTensor": ["features", "indices", "spatial_shape", "batch_size"]
    },
    "pcdet_distill.ops.sparse_conv": {
        **dict.fromkeys(
            [
                "SubMConv2d",
                "SubMConv3d",
                "SparseConv2d",
                "SparseConv3d",
                "SparseInverseConv2d",
                "SparseInverseConv3d",
            ],
            ["in_channels", "out_channels", "kernel_size"],
        ),
        "SparseSequential": None,
    },
    "pcdet_distill.ops.point_sampling": {
        "furthest_point_sample": ["points", "num_samples"],
        "ball_query": ["radius_m", "num_neighbors", "points", "centres"],
        "three_nn": ["points", "known"],
        "three_interpolate": ["features", "rows", "weights"],
        "group_points": ["features", "rows"],
    },
    "pcdet_distill.ops.roi_pooling": {
        "roipoint_pool3d": ["points", "features", "rois", "num_sampled"],
        "roiaware_pool3d": ["rois", "points", "features", "out_size"],
        "voxel_query": ["reach", "radius_m", "num_neighbors", "voxels", "voxel_coords"],
    },
    "pcdet_distill.apps.study": {
        "StudyPlan": ["spec", "root", "options"],
        "Runner": ["plan", "jobs", "only", "on_gpu", "check", "say"],
        "make_table": ["plan", "outcomes", "split"],
        "write_tables": ["plan", "on_gpu"],
    },
    "pcdet_distill.evaluation.kitti": {
        "kitti_eval": ["gt_annos", "det_annos", "classes"],
        "KittiResult": None,
    },
}

# class -> method -> parameters after self.
METHODS: dict[str, dict[str, list[str]]] = {
    "pcdet_distill.models.detectors.detector3d_template.Detector3DTemplate": {
        "run_modules": ["batch_dict", "until"],
        "taps": [],
        "capture": ["paths"],
        "get_training_loss": [],
        "forward": ["batch_dict"],
        "update_global_step": [],
        "checkpoint_state": [],
        "load_checkpoint_state": ["state", "where"],
    },
    "pcdet_distill.distill.Teacher": {
        "observe": ["batch_dict", "paths"],
        "predict": ["batch_dict"],
        "features": ["batch_dict", "paths"],
        "run": ["batch_dict", "paths", "with_boxes"],
    },
    "pcdet_distill.distill.DistillLoss": {
        "from_config": ["cfg", "student", "teacher", "where"],
        "forward": ["student", "teacher", "batch_dict"],
        "prepare": ["batch_dict", "teacher"],
        "nothing": [],
        "zero_loss": [],
    },
    "pcdet_distill.distill.NodeLoss": {"compute": ["student", "teacher", "batch_dict"]},
    "pcdet_distill.distill.MapLoss": {"compute": ["student", "teacher", "batch_dict"]},
    "pcdet_distill.distill.PredictionLoss": {"compute": ["student", "teacher", "batch_dict"]},
    "pcdet_distill.distill.BatchTransform": {
        "from_config": ["cfg", "where"],
        "prepare": ["batch_dict", "teacher"],
    },
    "pcdet_distill.distill.Predictions": {
        "boxes": [],
        "scores": [],
        "select": ["rows"],
        "codes_like": ["other"],
    },
    "pcdet_distill.distill.DistillHead": {
        "forward": ["student_taps", "teacher_taps", "batch_dict"]
    },
    "pcdet_distill.distill.Distiller": {
        "forward": ["batch_dict"],
        "update_global_step": [],
        "checkpoint_state": [],
        "load_checkpoint_state": ["state", "where"],
    },
    "pcdet_distill.evaluation.kitti.KittiResult": {
        "map": ["metric", "recall", "difficulty"],
        "metrics": [],
    },
}

FIELDS = {
    "pcdet_distill.distill.Predictions": ["logits", "codes", "batch_index", "coords"],
    "pcdet_distill.distill.NodeFeatures": ["features", "batch_index", "coords", "saliency"],
    "pcdet_distill.models.taps.TapInfo": ["path", "channels", "stride", "kind"],
    "pcdet_distill.checkpoint.LoadReport": ["loaded", "missing", "unexpected", "mismatched"],
}

ADDED_FIELDS_MAY_FOLLOW = "fields and parameters may be added at the end"


def find(path: str) -> object:
    """The object with this name."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def parameters(function: object) -> list[str]:
    """Names of the parameters, without self and cls."""
    signature = inspect.signature(function)  # type: ignore[arg-type]
    return [name for name in signature.parameters if name not in ("self", "cls")]


def public_names() -> list[tuple[str, list[str] | None]]:
    """(path, first parameters) of every entry of NAMES."""
    entries = []
    for module, names in NAMES.items():
        for name, expected in names.items():
            entries.append((f"{module}.{name}", expected))
    return entries


def public_methods() -> list[tuple[str, str, list[str]]]:
    """(class, method, first parameters) of every entry of METHODS."""
    entries = []
    for owner, methods in METHODS.items():
        for method, expected in methods.items():
            entries.append((owner, method, expected))
    return entries


@pytest.mark.parametrize(("path", "expected"), public_names())
def test_public_name(path: str, expected: list[str] | None):
    found = find(path)
    if expected is not None:
        assert parameters(found)[: len(expected)] == expected, ADDED_FIELDS_MAY_FOLLOW


@pytest.mark.parametrize(("owner", "method", "expected"), public_methods())
def test_public_method(owner: str, method: str, expected: list[str]):
    found = parameters(getattr(find(owner), method))
    assert found[: len(expected)] == expected, ADDED_FIELDS_MAY_FOLLOW


@pytest.mark.parametrize(("path", "expected"), FIELDS.items())
def test_public_fields(path: str, expected: list[str]):
    fields = dataclasses.fields(find(path))  # type: ignore[arg-type]
    names = [field.name for field in fields]
    assert names[: len(expected)] == expected


@pytest.mark.parametrize("name", ["StudyPlan", "Runner", "make_table", "write_tables"])
def test_names_of_study_stay_at_their_old_place_with_a_warning(name: str):
    new = find(f"pcdet_distill.apps.study.{name}")
    with pytest.warns(DeprecationWarning, match=r"pcdet_distill\.apps\.study"):
        old = find(f"pcdet_distill.study.{name}")
    assert old is new


def test_everything_public_says_what_it_is():
    for path, _ in public_names():
        found = find(path)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert found.__doc__, path


def test_old_names_of_the_distillation_work_with_a_warning():
    """Names of version 0.1, and what they are now called."""
    from pcdet_distill.distill import DistillLoss, TapSource, Teacher

    class Detector(torch.nn.Module):
        def forward(self, batch_dict):
            return [], {}

    loss = DistillLoss()
    with pytest.warns(DeprecationWarning, match="DistillLoss.nothing is now DistillLoss.zero_loss"):
        assert loss.nothing() == loss.zero_loss() == 0
    with pytest.warns(DeprecationWarning, match="Teacher.observe is now Teacher.features"):
        assert Teacher(Detector()).observe({}, []) == {}
    with pytest.warns(DeprecationWarning, match="TapSource.who is now TapSource.role"):
        assert TapSource("student", {}, None).who == "student"
