"""Taps: record any intermediate feature of any model by its path, without changing the model.

    backbone_2d.blocks.1                           the output of that submodule
    vfe@pillar_features                            batch_dict["pillar_features"] after ``vfe``
    backbone_3d@multi_scale_3d_features.x_conv4    one step deeper into a dict or list

A tap is a forward hook that is removed at the end of the ``with`` block, also after an exception.
A tap that would record a wrong value is an error: an unknown path, a module that did not run or ran
twice, or a tensor that is changed in place afterwards. Before an in-place ReLU, for example, a tap
would hold the rectified values without anyone noticing. Nothing here depends on distillation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..config import nearest
from ..errors import ConfigError

TAP_KINDS = ("voxel", "bev", "sparse", "point", "roi")


@dataclasses.dataclass(frozen=True)
class TapInfo:
    """Shape and kind of a feature, known before the first batch; adapters take their sizes from it.

    Attributes:
        path: the tap string.
        channels: C of the feature.
        stride: voxels along one side of a cell; 1 for voxels, None for points in metres.
        kind: one of
            ``voxel``, (N, C) rows of ``voxel_coords``;
            ``bev``, a map (B, C, H, W);
            ``sparse``, a sparse tensor;
            ``point``, (N, C) rows of ``point_coords``;
            ``roi``, (N, C) rows of ``roi_point_coords``.
    """

    path: str
    channels: int
    stride: int | None
    kind: str

    def __post_init__(self) -> None:
        assert self.kind in TAP_KINDS, (
            f"kind of tap '{self.path}' is '{self.kind}', not one of {TAP_KINDS}"
        )


class TapPath(NamedTuple):
    """A parsed tap string: ``vfe@a.b`` is the module ``vfe`` with the keys ``("a", "b")``."""

    module: str
    keys: tuple[str, ...]


def parse_tap(path: str) -> TapPath:
    """Parse a tap string; a malformed one is a ConfigError."""
    module, at, keys = path.partition("@")
    parts = tuple(keys.split(".")) if at else ()
    has_empty_part = not all(module.split(".")) or not all(parts)
    if has_empty_part or "@" in keys:
        raise ConfigError(
            f"tap '{path}': expected 'module.path' or 'module.path@batch_dict_key.deeper'"
        )
    return TapPath(module, parts)


def collect_taps(slots: Iterable[tuple[str, nn.Module]]) -> dict[str, TapInfo]:
    """The taps that the slots of a detector list, by path.

    A slot lists them in a method ``taps() -> list[TapInfo]``, with paths relative to the slot:
    ``@pillar_features`` or ``blocks.1``. A third-party slot without this method lists none, but its
    features can be captured all the same.
    """
    found: dict[str, TapInfo] = {}
    for name, module in slots:
        list_taps = getattr(module, "taps", None)
        if not callable(list_taps):
            continue
        for info in list_taps():
            path = name + info.path if info.path.startswith("@") else f"{name}.{info.path}"
            found[path] = dataclasses.replace(info, path=path)
    return found


@contextmanager
def capture(
    model: nn.Module, paths: Sequence[str], *, stop_when_complete: bool = False
) -> Iterator[dict[str, Any]]:
    """Record features while ``model`` runs inside the ``with`` block: ``{path: feature}``.

    The dict fills as the modules run. When the block ends without an exception it is checked: every
    path was recorded exactly once and still holds the module's output.

    Args:
        model: any module.
        paths: taps.
        stop_when_complete: leave the ``with`` block as soon as every path has been recorded; the
            rest of the forward pass is skipped.
    """
    modules = dict(model.named_modules())
    taps = {path: parse_tap(path) for path in paths}
    for path, tap in taps.items():
        if tap.module not in modules or not tap.module:
            raise ConfigError(
                f"tap '{path}': no module '{tap.module}'{_module_hint(tap.module, modules)}"
            )
    recorder = _Recorder(stop_after=len(taps) if stop_when_complete else None)
    with ExitStack() as hooks, suppress(_Complete):
        for path, tap in taps.items():
            handle = modules[tap.module].register_forward_hook(partial(recorder.record, path, tap))
            hooks.callback(handle.remove)
        yield recorder.features
    recorder.check(taps)


class _Complete(Exception):
    """Raised inside the running model once everything has been recorded, to leave it."""


class _Recorder:
    """The features of one ``capture``, written by its hooks."""

    def __init__(self, stop_after: int | None) -> None:
        self.stop_after = stop_after
        self.features: dict[str, Any] = {}
        self.runs: dict[str, int] = {}
        self.versions: dict[str, list[tuple[Tensor, int]]] = {}

    def record(
        self, path: str, tap: TapPath, module: nn.Module, inputs: tuple[Any, ...], output: Any
    ) -> None:
        """The forward hook of one tap."""
        value = _follow_keys(path, tap, output)
        self.runs[path] = self.runs.get(path, 0) + 1
        # A dict is copied, because later modules add entries to the batch_dict.
        self.features[path] = dict(value) if isinstance(value, Mapping) else value
        # torch counts in-place changes in ``_version``; tensors of inference_mode have no count.
        self.versions[path] = [
            (tensor, tensor._version) for tensor in tensors_in(value) if not tensor.is_inference()
        ]
        if len(self.features) == self.stop_after:
            raise _Complete

    def check(self, taps: Mapping[str, TapPath]) -> None:
        """Raise a ConfigError for a tap whose recorded value is not the module's one output."""
        for path, tap in taps.items():
            runs = self.runs.get(path, 0)
            if runs != 1:
                happened = "did not run" if runs == 0 else f"ran {runs} times"
                raise ConfigError(
                    f"tap '{path}': module '{tap.module}' {happened} in the captured forward pass, "
                    "expected once"
                )
            if any(tensor._version != version for tensor, version in self.versions[path]):
                raise ConfigError(
                    f"tap '{path}': the tensor was changed in place after it left '{tap.module}' "
                    "(an in-place ReLU or +=?); tap the module that changes it instead"
                )


def _follow_keys(path: str, tap: TapPath, output: Any) -> Any:
    """The part of a module's output that the keys of a tap lead to."""
    value = output
    for depth, key in enumerate(tap.keys):
        so_far = "@".join([tap.module, ".".join(tap.keys[:depth])]).rstrip("@")
        if isinstance(value, Mapping):
            if key not in value:
                raise ConfigError(
                    f"tap '{path}': no '{key}' in the output of {so_far}{nearest(key, value)}"
                )
            value = value[key]
        elif isinstance(value, (list, tuple)) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise ConfigError(
                f"tap '{path}': the output of {so_far} is a {type(value).__name__}, "
                f"which has no '{key}'"
            )
    return value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor of a captured feature: in containers, and ``features`` of a sparse tensor."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(getattr(value, "features", None), Tensor):
        yield value.features


def _module_hint(name: str, modules: Mapping[str, nn.Module]) -> str:
    """The nearest module path, and what the deepest existing parent holds."""
    parent = name
    while parent and parent not in modules:
        parent = parent.rpartition(".")[0]
    children = ", ".join(child for child, _ in modules[parent].named_children()) or "no submodules"
    owner = repr(parent) if parent else "the model"
    known = [path for path in modules if path]
    return f"{nearest(name, known)} ({owner} has: {children})"
