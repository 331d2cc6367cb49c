"""The files of checkpoints: written whole, checked before and after they are read.

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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard, cast

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..config import nearest
from ..errors import CheckpointError
from ..extras import import_extra
from ..whole_files import whole_file
from . import checksum
from .contents import nonfinite_tensor, problem_of
from .limits import DAMAGED, check_before_reading, holds_code
from .policy import current_policy
from .words import shorten

SUFFIXES = (".pth", ".safetensors")

# numpy 2 renamed the module whose functions a pickle calls; a file may have either name.
NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
NUMPY_TYPE_CODES = "?bBhHiIlLqQefd"  # all booleans, integers and floats


def save_checkpoint(state: Mapping[str, object], path: str | Path) -> None:
    """Write a checkpoint so that a crash leaves either the old file or the new one, never a half.

    Tensors are moved to the CPU, and numpy numbers become Python's, so that a reader may refuse
    everything but tensors and plain values. Weights that are not finite are never written. The
    file has a checksum of its contents, which ``load_checkpoint`` compares.
    """
    path = Path(path)
    content = {"version": f"pcdet_distill+{__version__}", **_plain(state)}
    problem = nonfinite_tensor(content)
    if problem is not None:
        raise CheckpointError(f"{path}: not written: {problem}; the file before it stays")
    content[checksum.KEY] = checksum.checksum_of(content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, f".{path.name}.partial") as partial, open(partial, "wb") as file:
            _write(content, file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"{path}: the checkpoint cannot be written ({reason})") from error


def _write(content: Mapping[str, object], file: BinaryIO) -> None:
    """Write a checkpoint to the disk itself: after ``fsync`` a power cut loses nothing of it."""
    output = _NotingErrors(file)
    try:
        torch.save(content, cast(BinaryIO, output))
    except RuntimeError as error:
        if output.error is not None:
            raise output.error from error
        raise OSError(str(error).splitlines()[0]) from error
    file.flush()
    os.fsync(file.fileno())


class _NotingErrors:
    """A file that remembers why it could not be written.

    PyTorch's writer drops the error of the system ("No space left on device"), and raises one
    about a wrong position in the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, without running any code in it.

    The file is one of this package, of OpenPCDet or of torch (.pth), or a .safetensors file. A bare
    state dict becomes ``{"model_state": ...}``. ``policy.reading`` changes what is accepted.
    """
    path = Path(path)
    policy = current_policy()
    content = _read(path)
    if content and _is_state_dict(content):
        content = {"model_state": content}
    if not isinstance(content, Mapping) or not _is_state_dict(content.get("model_state")):
        raise CheckpointError(
            f"{path}: not a detector checkpoint: expected the key model_state, "
            f"found {_found(content)}"
        )
    content = dict(content)
    _check(path, content, policy.allow_nonfinite)
    stored = content.pop(checksum.KEY, None)
    if stored is None and policy.note is not None:
        policy.note(f"{path}: has no checksum (another program wrote it): damage cannot be seen")
    return content


def _check(path: Path, content: Mapping[str, Any], allow_nonfinite: bool) -> None:
    """Refuse a checkpoint that is malformed, not finite, or not what was written."""
    problem = problem_of(content, allow_nonfinite)
    if problem is not None:
        hint = "; --allow_nonfinite accepts it" if "not finite" in problem else ""
        raise CheckpointError(f"{path}: {problem}{hint}")
    stored = content.get(checksum.KEY)
    if stored is not None and stored != checksum.checksum_of(content):
        raise CheckpointError(
            f"{path}: damaged: its contents do not have the checksum that was written with them"
        )


def _found(content: object) -> str:
    if isinstance(content, Mapping):
        return f"keys {shorten(map(str, content))}"
    return type(content).__name__


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
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{beside}: expected the key optimizer_state, found {_found(content)}"
        )
    _check(beside, content, current_policy().allow_nonfinite)
    return content.get("optimizer_state")


def _read(path: Path) -> object:
    if path.is_dir():
        hint = _nearest_checkpoint(path / path.name)
        raise CheckpointError(f"{path}: is a folder, expected a .pth file{hint}")
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint{_nearest_checkpoint(path)}")
    if not os.access(path, os.R_OK):
        raise CheckpointError(f"{path}: cannot be read (no permission)")
    if not path.is_file():
        raise CheckpointError(f"{path}: is no regular file (a pipe or a device)")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    check_before_reading(path)
    try:
        with _numpy_numbers_allowed():
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (a damaged pickle can raise any exception)
        raise CheckpointError(f"{path}: {_why_unreadable(error)}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file in Hugging Face's format, which can hold no code."""
    safetensors = import_extra(
        "safetensors.torch", needed_by=f"{path}: reading it", raises=CheckpointError
    )
    try:
        return safetensors.load_file(path)
    except Exception as error:  # noqa: BLE001 (its exception class is not public in every version)
        raise CheckpointError(
            f"{path}: not a .safetensors file, or one that was cut off or damaged"
        ) from error


def _why_unreadable(error: Exception) -> str:
    """One phrase for the many exceptions of ``torch.load``."""
    text = str(error)
    code = re.search(r"GLOBAL ([\w.]+)", text)
    if code:
        return holds_code(code.group(1))
    if "Unsupported" in text:
        return "holds Python objects instead of tensors only; nothing was executed"
    return DAMAGED


def _numpy_numbers_allowed() -> contextlib.AbstractContextManager[None]:
    """Let ``torch.load`` read numpy numbers and arrays: OpenPCDet's optimizer states hold them."""
    allowed: list[Any] = [np.ndarray, np.dtype]
    allowed += {type(np.dtype(code)) for code in NUMPY_TYPE_CODES}
    number: Any = np.float64(0).__reduce__()[0]
    for module in NUMPY_MODULES:
        allowed += [(number, f"{module}.scalar"), (_empty_array, f"{module}._reconstruct")]
    return torch.serialization.safe_globals(allowed)


def _empty_array(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """What numpy calls before it fills an array; a pickle of numpy's asks for no elements here."""
    if kind is not np.ndarray or shape != (0,):
        raise ValueError(f"an array of shape {shape} before its values")
    return np.ndarray(shape, code.decode())


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


def _nearest_checkpoint(path: Path) -> str:
    """The end of a message about a file that does not exist."""
    folder = path.parent
    if not folder.is_dir():
        return f": the folder {folder} does not exist"
    names = sorted(file.name for file in folder.iterdir() if file.suffix in SUFFIXES)
    return nearest(path.name, names) if names else f"; {folder} holds no .pth file"
