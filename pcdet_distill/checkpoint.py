"""Checkpoints in OpenPCDet's format: written atomically, read without executing anything, loaded with a report.

A file is ``{epoch, it, model_state, optimizer_state, version}`` (and what else a training needs to go on). OpenPCDet's
own files load too: its older serialization, numpy learning rates in the optimizer state, and the weight layout of
spconv 1.x. Weights may also come as .safetensors, where the package of that name is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import __version__
from .config import nearest
from .errors import CheckpointError

# Counts training steps inside the model; checkpoints older than the buffer do not have it.
OPTIONAL_KEYS = frozenset({"global_step"})
NAMES_SHOWN = 10
ENDINGS = (".pth", ".safetensors")


@dataclass
class LoadReport:
    """What became of a state dict: names that were loaded, absent from the file, absent from the model, misshapen."""

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    @property
    def problems(self) -> str:
        """The three kinds of misfits in one phrase; empty when there is none."""
        kinds = (
            ("missing", self.missing),
            ("not in the model", self.unexpected),
            ("of another shape", self.mismatched),
        )
        return "; ".join(
            f"{len(names)} {kind}: {_shorten(names)}" for kind, names in kinds if names
        )

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        return f"loaded {len(self.loaded)} of {total} tensors" + (
            f"; {self.problems}" if self.problems else ""
        )


def save_checkpoint(state: Mapping[str, Any], path: str | Path) -> None:
    """Write ``state`` so that ``path`` holds either what it held before or all of the new checkpoint.

    Tensors are moved to the CPU and numpy numbers become plain ones, so that any reader may be a strict one.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    content = {"version": f"pcdet_distill+{__version__}", **_plain(state)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _removed_on_failure(partial), open(partial, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CheckpointError(f"{path}: the checkpoint cannot be written ({reason})") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing in it is executed. A bare state dict becomes ``{"model_state": ...}``."""
    path = Path(path)
    content = _read(path)
    if (
        isinstance(content, Mapping)
        and content
        and all(isinstance(value, Tensor) for value in content.values())
    ):
        content = {"model_state": content}
    if not isinstance(content, Mapping) or not _is_state_dict(content.get("model_state")):
        held = (
            f"keys {_shorten(map(str, content))}"
            if isinstance(content, Mapping)
            else type(content).__name__
        )
        raise CheckpointError(
            f"{path}: not a detector checkpoint: expected the key model_state, found {held}"
        )
    return dict(content)


def optimizer_state(checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Any] | None:
    """The optimizer state of a checkpoint read from ``path``, or of the ``<name>_optim.pth`` that stands beside it."""
    if checkpoint.get("optimizer_state") is not None:
        return checkpoint["optimizer_state"]
    path = Path(path)
    beside = path.with_name(f"{path.stem}_optim{path.suffix}")
    if not beside.is_file():
        return None
    content = _read(beside)
    return content.get("optimizer_state") if isinstance(content, Mapping) else None


def load_model_state(
    model: nn.Module, state: Mapping[str, Tensor], *, strict: bool, where: str
) -> LoadReport:
    """Copy ``state`` into ``model``.

    Args:
        model: left untouched when an error is raised.
        state: a state dict; prefixes ``module.`` are dropped, sparse weights of spconv 1.x are turned into our layout.
        strict: any missing, extra or misshapen tensor is an error. Else what fits is loaded; only nothing is an error.
        where: what ``state`` was read from, for the message.
    """
    own = model.state_dict()
    fitting: dict[str, Tensor] = {}
    report = LoadReport()
    for key, value in _without_module_prefix(state).items():
        if key not in own:
            report.unexpected.append(key)
            continue
        value = _to_our_layout(value, own[key], key, model)
        if value.shape == own[key].shape:
            fitting[key] = value
        else:
            report.mismatched.append(f"{key} {tuple(value.shape)}, model {tuple(own[key].shape)}")
    offered = {*fitting, *(entry.split(" ", 1)[0] for entry in report.mismatched)}
    report.missing = [key for key in own if key not in offered and key not in OPTIONAL_KEYS]
    report.loaded = list(fitting)
    if (strict and report.problems) or not fitting:
        raise CheckpointError(
            f"{where}: does not fit the model: {report.problems or 'it holds no tensors'}"
        )
    model.load_state_dict(fitting, strict=False)
    return report


@contextlib.contextmanager
def _removed_on_failure(file: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
        raise


def _read(path: Path) -> Any:
    if path.is_dir():
        raise CheckpointError(
            f"{path}: is a folder, expected a .pth file{_nearest_checkpoint(path / path.name)}"
        )
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint{_nearest_checkpoint(path)}")
    if not os.access(path, os.R_OK):
        raise CheckpointError(f"{path}: cannot be read (no permission)")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with _numpy_numbers_allowed():
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (damaged bytes make an unpickler fail in any way there is)
        raise CheckpointError(f"{path}: {_why_unreadable(error)}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of Hugging Face's format, which holds nothing else."""
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            f"{path}: to read it the package safetensors is needed: pip install safetensors "
            "(or pip install '.[safetensors]')"
        ) from error
    try:
        return load_file(path)
    except Exception as error:  # noqa: BLE001 (its own exception class is not public in every version)
        raise CheckpointError(
            f"{path}: not a .safetensors file, or one that was cut off or damaged"
        ) from error


def _why_unreadable(error: Exception) -> str:
    """One phrase for the many ways in which a file is no checkpoint."""
    text = str(error)
    code = re.search(r"GLOBAL ([\w.]+)", text)
    if code:
        return f"holds code ({code.group(1)}) instead of tensors only; it was not executed"
    if "Unsupported" in text:
        return "holds Python objects instead of tensors only; nothing was executed"
    return "not a checkpoint, or one that was cut off or damaged"


@contextlib.contextmanager
def _numpy_numbers_allowed() -> Iterator[None]:
    """Let numpy scalars and arrays through, as OpenPCDet's optimizer states hold them; where torch can be told so."""
    safe_globals = getattr(torch.serialization, "safe_globals", None)
    if safe_globals is None:
        yield
        return
    scalar: Any = np.float64(0).__reduce__()[0]
    rebuild: Any = np.zeros(1).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
    # numpy 2 renamed its core module; files written by the other generation name it differently.
    aliases = [
        (function, f"numpy.{core}.multiarray.{function.__name__}")
        for function in (scalar, rebuild)
        for core in ("core", "_core")
    ]
    takes_aliases = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6)
    functions = aliases if takes_aliases else [scalar, rebuild]
    with safe_globals([*functions, np.ndarray, np.dtype, *dtypes]):
        yield


def _plain(value: Any) -> Any:
    """``value`` with tensors on the CPU and numpy numbers as Python's."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind((key, _plain(inner)) for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(inner) for inner in value)
    return value


def _without_module_prefix(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """DistributedDataParallel puts ``module.`` before every name."""
    if state and all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _to_our_layout(value: Tensor, own: Tensor, key: str, model: nn.Module) -> Tensor:
    """A sparse convolution's weight as (out, kz, ky, kx, in); spconv 1.x stored (kz, ky, kx, in, out)."""
    if (
        value.shape == own.shape
        or value.dim() != own.dim()
        or not _is_sparse_weight(key, own, model)
    ):
        return value
    swapped = value.transpose(-1, -2)
    output_first = value.permute(-1, *range(value.dim() - 1))
    return next((turned for turned in (swapped, output_first) if turned.shape == own.shape), value)


def _is_sparse_weight(key: str, own: Tensor, model: nn.Module) -> bool:
    """Whether ``key`` is the weight of a convolution that is not one of torch's (whose axes are never turned)."""
    owner, _, leaf = key.rpartition(".")
    is_dense = isinstance(model.get_submodule(owner), (nn.modules.conv._ConvNd, nn.Linear))
    return leaf == "weight" and own.dim() in (4, 5) and not is_dense


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(tensor, Tensor) for tensor in value.values()
    )


def _shorten(names: Any) -> str:
    names = list(names)
    more = f", and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _nearest_checkpoint(path: Path) -> str:
    if not path.parent.is_dir():
        return f": the folder {path.parent} does not exist"
    files = sorted(file.name for ending in ENDINGS for file in path.parent.glob(f"*{ending}"))
    return nearest(path.name, files) if files else f"; {path.parent} holds no .pth file"
