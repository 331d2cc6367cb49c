"""A look at a .pth file before anything in it is unpickled: could it be what it says?

A hostile file can be small and unpack to gigabytes. Nothing here allocates more than the pickle's
own length, and a file that passes needs no more memory than a few times its own size.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import CheckpointError

# The pickle describes the tensors, whose values lie beside it: 100 bytes each.
MAX_PICKLE_BYTES = 64 * 2**20
MAX_PICKLE_STEPS = 3_000_000
# torch's older format: three short pickles, the content, and the list of its storages.
LEGACY_PICKLES = 5
CHUNK_BYTES = 2**20
NUMBER_STEPS = ("BININT", "BININT1", "BININT2", "LONG1")

# What pickles of tensors and plain values name. torch's own reader has a longer list, with calls
# that make memory of any size.
GLOBALS = {
    "collections OrderedDict",
    "collections Counter",
    "torch Size",
    "torch device",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch.nn.parameter Parameter",
    "numpy ndarray",
    "numpy dtype",
    "_codecs encode",
}
GLOBALS |= {
    f"numpy.{core}.multiarray {name}"
    for core in ("core", "_core")
    for name in ("scalar", "_reconstruct")
}
STORAGE = re.compile(r"torch (?:cuda\.)?[A-Z]\w*Storage")
DTYPE = re.compile(r"torch (?:u?int|float|bfloat|complex|bool|half|double|long|short|q)\w*")

DAMAGED = "not a checkpoint, or one that was cut off or damaged"


def check_before_reading(path: Path) -> None:
    """Raise a CheckpointError when a .pth file is damaged, larger than it seems, or holds code."""
    try:
        if zipfile.is_zipfile(path):
            _check_archive(path)
        else:
            _check_legacy(path)
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 (a damaged archive or pickle can raise any exception)
        raise CheckpointError(f"{path}: {DAMAGED}") from error


def _check_archive(path: Path) -> None:
    """torch's format since 1.6: a zip archive of ``data.pkl`` and one member for each storage."""
    file_bytes = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(
                    f"{path}: its member {member.filename} is compressed, "
                    "which torch never writes; it was not unpacked"
                )
        if sum(member.file_size for member in members) > file_bytes:
            raise CheckpointError(
                f"{path}: says that it holds more bytes than it has; it was not unpacked"
            )
        for member in members:
            if member.filename.endswith("data.pkl"):
                _check_pickle_size(path, member.file_size)
        _check_sums(path, archive)
        for member in members:
            if member.filename.endswith("data.pkl"):
                _count_steps(path, io.BytesIO(archive.read(member)))


def _check_sums(path: Path, archive: zipfile.ZipFile) -> None:
    """Compare every member with the CRC-32 that torch wrote beside it."""
    for member in archive.infolist():
        try:
            with archive.open(member) as stream:
                while stream.read(CHUNK_BYTES):
                    pass
        except zipfile.BadZipFile as error:
            raise CheckpointError(
                f"{path}: damaged: {member.filename} is not what was written"
            ) from error


def _check_legacy(path: Path) -> None:
    """torch's format before 1.6: pickles one after the other, then the storages."""
    with open(path, "rb") as file:
        stored = 0
        for _ in range(LEGACY_PICKLES):
            stored += _count_steps(path, file)
        remaining = path.stat().st_size - file.tell()
    if stored > remaining:
        raise CheckpointError(
            f"{path}: says that it holds {stored} numbers, and has {remaining} bytes for them; "
            "it was cut off or damaged"
        )


def _check_pickle_size(path: Path, size: int) -> None:
    if size > MAX_PICKLE_BYTES:
        raise CheckpointError(
            f"{path}: its data.pkl has {size} bytes, more than the {MAX_PICKLE_BYTES} of any "
            "detector; it was not unpacked"
        )


def _count_steps(path: Path, file: BinaryIO) -> int:
    """Read one pickle without executing it; how many numbers its storages have together."""
    stored = 0
    for count, stored_here in enumerate(_storages(file, path)):
        stored += stored_here
        if count > MAX_PICKLE_STEPS:
            raise CheckpointError(
                f"{path}: has more than {MAX_PICKLE_STEPS} entries; it was not unpacked"
            )
    return stored


def _storages(file: BinaryIO, path: Path) -> Iterator[int]:
    """For each step of a pickle the size of the storage that it names, mostly 0.

    A storage is named by a tuple that ends with its number of elements (and, in old files, a view).
    """
    start = file.tell()
    last_number = 0
    for opcode, argument, position in pickletools.genops(file):
        read = (position or 0) - start
        if read > MAX_PICKLE_BYTES:
            _check_pickle_size(path, read)
        if opcode.name == "GLOBAL" and not _is_known(str(argument)):
            raise CheckpointError(f"{path}: {holds_code(str(argument).replace(' ', '.'))}")
        if isinstance(argument, int) and opcode.name in NUMBER_STEPS:
            last_number = argument
        yield max(last_number, 0) if opcode.name == "BINPERSID" else 0


def _is_known(name: str) -> bool:
    """Whether a name of a pickle is that of a tensor's parts or of a plain value."""
    return name in GLOBALS or bool(STORAGE.fullmatch(name) or DTYPE.fullmatch(name))


def holds_code(name: str) -> str:
    """The phrase about a pickle that would call ``name``."""
    kind = re.fullmatch(r"torch\._utils\._rebuild_(\w+?)(_no_storage)?", name)
    if kind:
        return f"holds a tensor that is not dense ({kind.group(1)})"
    return f"holds code ({name}) instead of tensors only; it was not executed"
