"""Checks that a student is its teacher with fewer channels: same modules, geometry and data."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import ConfigError
from .layers import Layer, as_layer
from .options import WHERE

HINT = "only widths may differ; use INIT_STUDENT: NONE with this teacher"
NO_MODULE = ("", nn.Identity())  # stands behind the last module of the shorter detector


def find_narrower_layers(teacher: nn.Module, student: nn.Module) -> set[str]:
    """Names of the layers that have fewer outputs in the student.

    A student that differs from the teacher in more than widths is a ConfigError that names the
    first difference.
    """
    _check_data(getattr(teacher, "dataset", None), getattr(student, "dataset", None))
    narrower = set()
    teacher_modules = list(teacher.named_modules())[1:]  # without the detector itself
    student_modules = list(student.named_modules())[1:]
    pairs = zip_longest(teacher_modules, student_modules, fillvalue=NO_MODULE)
    for (name, teacher_module), (student_name, student_module) in pairs:
        if name != student_name or not _same_class(teacher_module, student_module):
            raise ConfigError(
                f"{WHERE}: the student has {_describe(student_name, student_module)} where the "
                f"teacher has {_describe(name, teacher_module)}; {HINT}"
            )
        teacher_layer = as_layer(name, teacher_module)
        student_layer = as_layer(name, student_module)
        if teacher_layer is None or student_layer is None:
            _check_equal_shapes(name, teacher_module, student_module)
            continue
        _check_geometry(teacher_layer, student_layer)
        _check_biases(teacher_layer, student_layer)
        _check_widths(teacher_layer, student_layer)
        has_fewer_outputs = student_layer.out_channels < teacher_layer.out_channels
        if has_fewer_outputs and not teacher_layer.is_norm:
            narrower.add(name)
    return narrower


def _same_class(teacher: nn.Module, student: nn.Module) -> bool:
    if isinstance(teacher, _BatchNorm) and isinstance(student, _BatchNorm):
        return True  # --sync_bn replaces the class in the student
    return type(teacher) is type(student)


def _describe(name: str, module: nn.Module) -> str:
    return f"{name} ({type(module).__name__})" if name else "no further module"


def _check_geometry(teacher: Layer, student: Layer) -> None:
    """Kernel size, stride and so on must be equal."""
    student_geometry = student.geometry
    for key, value in teacher.geometry.items():
        if student_geometry.get(key) != value:
            raise ConfigError(
                f"{WHERE}: {teacher.name} has {key} {student_geometry.get(key)} in the student and "
                f"{value} in the teacher; {HINT}"
            )


def _check_biases(teacher: Layer, student: Layer) -> None:
    """Both have a bias or none has."""
    teacher_has_bias = teacher.module.bias is not None
    student_has_bias = student.module.bias is not None
    if teacher_has_bias != student_has_bias:
        with_bias = "teacher" if teacher_has_bias else "student"
        without = "student" if teacher_has_bias else "teacher"
        raise ConfigError(
            f"{WHERE}: {teacher.name} has a bias in the {with_bias} and none in the {without}; "
            f"{HINT}"
        )


def _check_widths(teacher: Layer, student: Layer) -> None:
    """The student may not have more channels."""
    widths = {
        "outputs": (student.out_channels, teacher.out_channels),
        "inputs": (student.in_channels, teacher.in_channels),
    }
    for side, (student_width, teacher_width) in widths.items():
        if student_width > teacher_width:
            raise ConfigError(
                f"{WHERE}: {teacher.name} has {student_width} {side} in the student and only "
                f"{teacher_width} in the teacher; the teacher must be the wider one"
            )


def _check_equal_shapes(name: str, teacher: nn.Module, student: nn.Module) -> None:
    """Refuse other sizes in modules that are no layers: which part to keep is unknown."""
    teacher_tensors = [
        *teacher.named_parameters(recurse=False),
        *teacher.named_buffers(recurse=False),
    ]
    for key, tensor in teacher_tensors:
        student_tensor = getattr(student, key, None)
        if student_tensor is None or student_tensor.shape != tensor.shape:
            shape = "missing" if student_tensor is None else list(student_tensor.shape)
            raise ConfigError(
                f"{WHERE}: {name}.{key} is {shape} in the student and {list(tensor.shape)} in the "
                f"teacher, and which channels of a {type(teacher).__name__} to keep is unknown; "
                f"{HINT}"
            )


def _check_data(teacher_data: object, student_data: object) -> None:
    """Classes, voxels, range and point features must be equal, where both datasets have them."""
    student_facts = _data_facts(student_data)
    for name, value in _data_facts(teacher_data).items():
        if name in student_facts and student_facts[name] != value:
            raise ConfigError(
                f"{WHERE}: the teacher has the {name} {value}, the student {student_facts[name]}; "
                f"{HINT}"
            )


def _data_facts(data: object) -> dict[str, list[object]]:
    """What a dataset or DataSpec has of classes, point features, voxel size and range."""
    encoder = getattr(data, "point_feature_encoder", None)
    facts = {
        "classes": getattr(data, "class_names", None),
        "point features": getattr(encoder, "used_feature_list", None),
        "voxel size": _rounded(getattr(data, "voxel_size", None)),
        "range": _rounded(getattr(data, "point_cloud_range", None)),
    }
    return {name: list(value) for name, value in facts.items() if value is not None}


def _rounded(values: Iterable[float] | None) -> list[float] | None:
    """Metres to 0.01 mm: yaml and float32 arrays differ in later digits."""
    return None if values is None else [round(float(value), 5) for value in values]
