"""Taps: any intermediate feature of any model, named by a string and recorded without touching the model.

    backbone_2d.blocks.1                           the output of that submodule
    vfe@pillar_features                            batch_dict["pillar_features"] as it left ``vfe``
    backbone_3d@multi_scale_3d_features.x_conv4    one step deeper into a dict or list

A tap is a forward hook, removed when the ``with`` block ends, however it ends. What cannot be recorded faithfully is
refused: an unknown path, a module that did not run or ran twice, a tensor that was changed in place after it was
recorded (a tap before an in-place ReLU would otherwise silently hold rectified values). Knows nothing of distillation.
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
    """What a tap delivers, so that whoever listens can size itself before the first batch.

    Attributes:
        path: the tap string.
        channels: C of the feature.
        stride: how many voxels (per axis of the ground plane) one cell covers; 1 for voxels, None for points in metres.
        kind: ``voxel`` (N, C) rows of ``voxel_coords``; ``bev`` (B, C, H, W); ``sparse`` a sparse tensor;
            ``point`` (N, C) rows of ``point_coords``; ``roi`` (N, C) rows of ``roi_point_coords``.
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
    """A tap string taken apart: ``vfe@a.b`` -> module ``vfe``, keys ``("a", "b")``."""

    module: str
    keys: tuple[str, ...]


def parse_tap(path: str) -> TapPath:
    """Take a tap string apart; a malformed one is a ConfigError."""
    module, at, keys = path.partition("@")
    parts = tuple(keys.split(".")) if at else ()
    if not module or not all(module.split(".")) or not all(parts) or "@" in keys:
        raise ConfigError(
            f"tap '{path}': expected 'module.path' or 'module.path@batch_dict_key.deeper'"
        )
    return TapPath(module, parts)


def collect_taps(slots: Iterable[tuple[str, nn.Module]]) -> dict[str, TapInfo]:
    """All taps that the slots of a detector publish.

    A slot publishes by a method ``taps() -> list[TapInfo]`` whose paths are relative to the slot: ``@pillar_features``
    or ``blocks.1``. A slot without the method (a third-party one) publishes nothing; it can still be captured.
    """
    found: dict[str, TapInfo] = {}
    for name, module in slots:
        publish = getattr(module, "taps", None)
        for info in publish() if callable(publish) else ():
            path = name + info.path if info.path.startswith("@") else f"{name}.{info.path}"
            found[path] = dataclasses.replace(info, path=path)
    return found


@contextmanager
def capture(
    model: nn.Module, paths: Sequence[str], *, stop_when_complete: bool = False
) -> Iterator[dict[str, Any]]:
    """Record features while ``model`` runs inside the ``with`` block: ``{path: feature}``.

    The dict fills as the modules run, and is checked when the block ends without an exception: then every path has been
    recorded exactly once and still holds what the module put out.

    Args:
        model: any module.
        paths: taps.
        stop_when_complete: leave the ``with`` block as soon as every path has been recorded; whatever ``model`` would
            have computed after that is not.
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
    """Everything has been recorded: the way out of the running model."""


class _Recorder:
    """What the hooks of one ``capture`` write to."""

    def __init__(self, stop_after: int | None) -> None:
        self.stop_after = stop_after
        self.features: dict[str, Any] = {}
        self.runs: dict[str, int] = {}
        self.versions: dict[str, list[tuple[Tensor, int]]] = {}

    def record(
        self, path: str, tap: TapPath, module: nn.Module, inputs: tuple, output: Any
    ) -> None:
        """The forward hook."""
        value = _dig(path, tap, output)
        self.runs[path] = self.runs.get(path, 0) + 1
        # A dict is copied one level deep: the batch_dict goes on changing after the module is left.
        self.features[path] = dict(value) if isinstance(value, Mapping) else value
        # Tensors made under inference_mode carry no version: there an in-place change goes unnoticed.
        self.versions[path] = [
            (tensor, tensor._version) for tensor in _tensors(value) if not tensor.is_inference()
        ]
        if len(self.features) == self.stop_after:
            raise _Complete

    def check(self, taps: Mapping[str, TapPath]) -> None:
        """Refuse what was not recorded faithfully."""
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


def _dig(path: str, tap: TapPath, output: Any) -> Any:
    """Follow the keys of a tap into a module's output."""
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
                f"tap '{path}': the output of {so_far} is a {type(value).__name__}, which has no '{key}'"
            )
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in a feature: tensors, containers of them, and sparse tensors with a ``features`` attribute."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(getattr(value, "features", None), Tensor):
        yield value.features


def _module_hint(name: str, modules: Mapping[str, nn.Module]) -> str:
    """The nearest module path, and what the deepest existing parent holds."""
    parent = name
    while parent and parent not in modules:
        parent = parent.rpartition(".")[0]
    children = ", ".join(child for child, _ in modules[parent].named_children()) or "no submodules"
    return f"{nearest(name, filter(None, modules))} ({f'{parent!r}' if parent else 'the model'} has: {children})"
