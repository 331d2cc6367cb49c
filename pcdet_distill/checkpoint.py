"""Checkpoints in OpenPCDet's format: written atomically, read without running any code in them.

A file holds ``epoch``, ``it``, ``model_state``, ``optimizer_state`` and ``version``, and whatever
else a training needs to resume. OpenPCDet's own files load too: its older serialization, numpy
learning rates in the optimizer state, and the weight layout of spconv 1.x. Weights may also come
as .safetensors, where that package is installed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from . import __version__
from .config import nearest
from .errors import CheckpointError
from .whole_files import whole_file

# Counts training steps inside the model; checkpoints older than the buffer do not have it.
OPTIONAL_KEYS = frozenset({"global_step"})
# Longer lists of tensor names are cut in messages.
NAMES_SHOWN = 10
SUFFIXES = (".pth", ".safetensors")

# numpy 2 renamed the module whose functions a pickle calls; a file may have either name.
NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
NUMPY_TYPE_CODES = "?bBhHiIlLqQefd"  # all booleans, integers and floats


@dataclass
class LoadReport:
    """What happened to the tensors of a state dict when it was loaded into a model.

    Attributes:
        loaded: names of the tensors that were copied.
        missing: names that the model has and the file has not.
        unexpected: names that the file has and the model has not.
        mismatched: names of tensors with another shape, followed by both shapes.
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    @property
    def problems(self) -> str:
        """The three kinds of misfits in one phrase; empty when there is none."""
        kinds = {
            "missing": self.missing,
            "not in the model": self.unexpected,
            "of another shape": self.mismatched,
        }
        phrases = [
            f"{len(names)} {kind}: {_shorten(names)}" for kind, names in kinds.items() if names
        ]
        return "; ".join(phrases)

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        summary = f"loaded {len(self.loaded)} of {total} tensors"
        return f"{summary}; {self.problems}" if self.problems else summary


# --- files ----------------------------------------------------------------------------------------


def save_checkpoint(state: Mapping[str, object], path: str | Path) -> None:
    """Write a checkpoint so that a crash leaves either the old file or the new one, never a half.

    Tensors are moved to the CPU, and numpy numbers become Python's, so that a reader may refuse
    everything but tensors and plain values.
    """
    path = Path(path)
    content = {"version": f"pcdet_distill+{__version__}", **_plain(state)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, f".{path.name}.partial") as partial, open(partial, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CheckpointError(f"{path}: the checkpoint cannot be written ({reason})") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, without running any code in it.

    A bare state dict becomes ``{"model_state": ...}``.
    """
    path = Path(path)
    content = _read(path)
    if content and _is_state_dict(content):
        return {"model_state": content}
    if isinstance(content, Mapping) and _is_state_dict(content.get("model_state")):
        return dict(content)
    if isinstance(content, Mapping):
        found = f"keys {_shorten(map(str, content))}"
    else:
        found = type(content).__name__
    raise CheckpointError(
        f"{path}: not a detector checkpoint: expected the key model_state, found {found}"
    )


def optimizer_state(checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Any] | None:
    """The optimizer state of a checkpoint; None where there is none.

    Args:
        checkpoint: what was read from ``path``.
        path: OpenPCDet can keep the optimizer state in ``<name>_optim.pth`` beside it.
    """
    if checkpoint.get("optimizer_state") is not None:
        return checkpoint["optimizer_state"]
    path = Path(path)
    beside = path.with_name(f"{path.stem}_optim{path.suffix}")
    if not beside.is_file():
        return None
    content = _read(beside)
    return content.get("optimizer_state") if isinstance(content, Mapping) else None


def _read(path: Path) -> object:
    if path.is_dir():
        hint = _nearest_checkpoint(path / path.name)
        raise CheckpointError(f"{path}: is a folder, expected a .pth file{hint}")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint{_nearest_checkpoint(path)}")
    if not os.access(path, os.R_OK):
        raise CheckpointError(f"{path}: cannot be read (no permission)")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with _numpy_numbers_allowed():
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (a damaged pickle can raise any exception)
        raise CheckpointError(f"{path}: {_why_unreadable(error)}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file in Hugging Face's format, which can hold no code."""
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(
            f"{path}: to read it the package safetensors is needed: pip install safetensors "
            "(or pip install '.[safetensors]')"
        ) from error
    try:
        return load_file(path)
    except Exception as error:  # noqa: BLE001 (its exception class is not public in every version)
        raise CheckpointError(
            f"{path}: not a .safetensors file, or one that was cut off or damaged"
        ) from error


def _why_unreadable(error: Exception) -> str:
    """One phrase for the many exceptions of ``torch.load``."""
    text = str(error)
    code = re.search(r"GLOBAL ([\w.]+)", text)
    if code:
        return f"holds code ({code.group(1)}) instead of tensors only; it was not executed"
    if "Unsupported" in text:
        return "holds Python objects instead of tensors only; nothing was executed"
    return "not a checkpoint, or one that was cut off or damaged"


def _numpy_numbers_allowed() -> contextlib.AbstractContextManager[None]:
    """Let ``torch.load`` read numpy numbers and arrays: OpenPCDet's optimizer states hold them."""
    allowed: list[Any] = [np.ndarray, np.dtype]
    allowed += {type(np.dtype(code)) for code in NUMPY_TYPE_CODES}
    # The functions that rebuild a number and an array from a pickle.
    for example in (np.float64(0), np.zeros(1)):
        function: Any = example.__reduce__()[0]
        allowed += [(function, f"{module}.{function.__name__}") for module in NUMPY_MODULES]
    return torch.serialization.safe_globals(allowed)


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


def _is_state_dict(value: object) -> TypeGuard[Mapping[str, Tensor]]:
    if not isinstance(value, Mapping):
        return False
    return all(isinstance(tensor, Tensor) for tensor in value.values())


def _shorten(names: Iterable[str]) -> str:
    names = list(names)
    more = f", and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _nearest_checkpoint(path: Path) -> str:
    """The end of a message about a file that does not exist."""
    folder = path.parent
    if not folder.is_dir():
        return f": the folder {folder} does not exist"
    names = sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES)
    return nearest(path.name, names) if names else f"; {folder} holds no .pth file"


# --- models ---------------------------------------------------------------------------------------


def load_model_state(
    model: nn.Module, state: Mapping[str, Tensor], *, strict: bool, where: str
) -> LoadReport:
    """Copy a state dict into a model, which an error leaves unchanged.

    Args:
        model: the model to change.
        state: a state dict. Prefixes ``module.`` are dropped, and the sparse weights of spconv 1.x
            are brought into our layout.
        strict: whether any tensor that is missing, unexpected or of another shape is an error.
            Otherwise the fitting ones are loaded, and it is only an error when there is none.
        where: the source of ``state``, for the message.
    """
    model_state = model.state_dict()
    fitting: dict[str, Tensor] = {}
    report = LoadReport()
    present = set()
    for key, value in _without_module_prefix(state).items():
        if key not in model_state:
            report.unexpected.append(key)
            continue
        present.add(key)
        target = model_state[key]
        value = _to_our_layout(value, target, key, model)
        if value.shape == target.shape:
            fitting[key] = value
        else:
            report.mismatched.append(f"{key} {tuple(value.shape)}, model {tuple(target.shape)}")
    report.loaded = list(fitting)
    report.missing = [key for key in model_state if key not in present | OPTIONAL_KEYS]
    if (strict and report.problems) or not fitting:
        problems = report.problems or "it holds no tensors"
        raise CheckpointError(f"{where}: does not fit the model: {problems}")
    model.load_state_dict(fitting, strict=False)
    return report


def _without_module_prefix(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """DistributedDataParallel puts ``module.`` before every name."""
    if all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _to_our_layout(value: Tensor, target: Tensor, key: str, model: nn.Module) -> Tensor:
    """The weight of a sparse convolution in the layout of ``target``.

    spconv 1.x stored (z, y, x, in, out). Ours, and spconv 2's implicit GEMM, is (out, z, y, x, in);
    spconv 2's native algorithm wants (z, y, x, out, in). A weight that fits none stays as it is.
    """
    same_shape = value.shape == target.shape
    if same_shape or value.dim() != target.dim() or not _is_sparse_weight(key, target, model):
        return value
    channels_swapped = value.transpose(-1, -2)
    output_first = value.permute(-1, *range(value.dim() - 1))
    for turned in (channels_swapped, output_first):
        if turned.shape == target.shape:
            return turned
    return value


def _is_sparse_weight(key: str, target: Tensor, model: nn.Module) -> bool:
    """Whether ``key`` is the weight of a convolution that is not one of torch's.

    The axes of torch's own convolutions never need turning: a misfit there is an error.
    """
    owner, _, name = key.rpartition(".")
    is_dense = isinstance(model.get_submodule(owner), (nn.modules.conv._ConvNd, nn.Linear))
    return name == "weight" and target.dim() in (4, 5) and not is_dense
