"""Whether a student is its teacher with fewer channels: the same modules, geometry, classes and grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import ConfigError
from .layers import Layer, as_layer
from .options import WHERE

HINT = "only widths may differ; use INIT_STUDENT: NONE with this teacher"


def narrower_layers(teacher: nn.Module, student: nn.Module) -> set[str]:
    """Names of the layers with fewer outputs in the student.

    A student that differs from the teacher in anything but widths is a ConfigError that names the first difference.
    """
    _check_data(getattr(teacher, "dataset", None), getattr(student, "dataset", None))
    found = set()
    for (name, theirs), (own_name, own) in _pairs(teacher, student):
        if name != own_name or not _same_kind(theirs, own):
            raise ConfigError(
                f"{WHERE}: the student has {_described(own_name, own)} where the teacher has "
                f"{_described(name, theirs)}; {HINT}"
            )
        layer, own_layer = as_layer(name, theirs), as_layer(name, own)
        if layer is None or own_layer is None:
            _check_same_tensors(name, theirs, own)
            continue
        _check_layer(layer, own_layer)
        if own_layer.outputs < layer.outputs and not layer.is_norm:
            found.add(name)
    return found


def _pairs(teacher: nn.Module, student: nn.Module) -> Iterator[tuple]:
    """The modules of both in order; an end is a module without a name."""
    theirs, own = (list(model.named_modules())[1:] for model in (teacher, student))
    longest = max(len(theirs), len(own))
    filled = [
        modules + [("", nn.Identity())] * (longest - len(modules)) for modules in (theirs, own)
    ]
    return zip(*filled)


def _same_kind(teacher: nn.Module, student: nn.Module) -> bool:
    if isinstance(teacher, _BatchNorm) and isinstance(student, _BatchNorm):
        return True  # --sync_bn exchanges the class
    return type(teacher) is type(student)


def _described(name: str, module: nn.Module) -> str:
    return f"{name} ({type(module).__name__})" if name else "no further module"


def _check_layer(teacher: Layer, student: Layer) -> None:
    for key, value in teacher.geometry.items():
        if student.geometry.get(key) != value:
            raise ConfigError(
                f"{WHERE}: {teacher.name} has {key} {student.geometry.get(key)} in the student and "
                f"{value} in the teacher; {HINT}"
            )
    if (teacher.module.bias is None) != (student.module.bias is None):
        with_bias, without = (
            ("student", "teacher") if teacher.module.bias is None else ("teacher", "student")
        )
        raise ConfigError(
            f"{WHERE}: {teacher.name} has a bias in the {with_bias} and none in the {without}; {HINT}"
        )
    for what in ("outputs", "inputs"):
        if getattr(student, what) > getattr(teacher, what):
            raise ConfigError(
                f"{WHERE}: {teacher.name} has {getattr(student, what)} {what} in the student and only "
                f"{getattr(teacher, what)} in the teacher; the teacher must be the wider one"
            )


def _check_same_tensors(name: str, teacher: nn.Module, student: nn.Module) -> None:
    """Other modules: their own parameters and buffers must be as large."""
    for key, tensor in [
        *teacher.named_parameters(recurse=False),
        *teacher.named_buffers(recurse=False),
    ]:
        own = getattr(student, key, None)
        if own is None or own.shape != tensor.shape:
            shape = "missing" if own is None else list(own.shape)
            raise ConfigError(
                f"{WHERE}: {name}.{key} is {shape} in the student and {list(tensor.shape)} in the "
                f"teacher, and which channels of a {type(teacher).__name__} to keep is not known; {HINT}"
            )


def _check_data(teacher: Any, student: Any) -> None:
    """Classes, grid and point features, as far as both tell."""
    theirs, own = _facts(teacher), _facts(student)
    for what, value in theirs.items():
        if what in own and own[what] != value:
            raise ConfigError(
                f"{WHERE}: the teacher has the {what} {value}, the student {own[what]}; {HINT}"
            )


def _facts(data: Any) -> dict[str, list]:
    """What is known of a dataset or DataSpec."""
    names, encoder = (
        getattr(data, "class_names", None),
        getattr(data, "point_feature_encoder", None),
    )
    facts = {"classes": names, "point features": getattr(encoder, "used_feature_list", None)}
    for what, values in (
        ("voxel size", getattr(data, "voxel_size", None)),
        ("range", getattr(data, "point_cloud_range", None)),
    ):
        facts[what] = None if values is None else [round(float(value), 5) for value in values]
    return {what: list(value) for what, value in facts.items() if value is not None}
