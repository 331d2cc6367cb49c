"""The bytes of a file, and which format they have, whatever the file is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...config import check_regular
from ...errors import DataError

HEAD_BYTES = 512
# First bytes of a file to its format.
MAGIC = {
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".npz",
    b"LASF": ".las",
    b"ARROW1": ".feather",
    b"FEA1": ".feather",
    b"PAR1": "Parquet",
    b"#ROSBAG": ".bag",
    b"\x89MCAP0": ".mcap",
    b"SQLite format 3": ".db3",
    b"\x89HDF": "HDF5",
    b"\x89PNG": "PNG",
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ": "xz",
    b"version https://git-lfs": "Git LFS pointer",
}
PCD_WORDS = (b"VERSION", b"FIELDS", b"COLUMNS")
POINTER_ADVICE = "only the pointer of Git LFS is here; 'git lfs pull' brings the file"


def read_bytes(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        DataError: the file does not exist, cannot be read, or is empty.
    """
    return _read(path, -1)


def check_head(path: Path, expected: tuple[str, ...]) -> None:
    """``check_content`` of a file that another package reads."""
    check_content(path, _read(path, HEAD_BYTES), expected)


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """An error of the system while ``path`` is read becomes a DataError that names it."""
    check_regular(path)
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: this point file does not exist") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read(path: Path, num_bytes: int) -> bytes:
    """The first bytes of a file; all for -1."""
    with named_errors(path), path.open("rb") as file:
        content = file.read(num_bytes)
    if not content:
        raise DataError(f"{path}: is empty; expected points")
    return content


def format_of(head: bytes) -> str | None:
    """The suffix or name of the format that begins with these bytes; None for plain numbers."""
    for magic, name in MAGIC.items():
        if head.startswith(magic):
            return name
    first_lines = head.split(b"\n")
    if first_lines[0].strip() == b"ply":
        return ".ply"
    if _begins_pcd(first_lines):
        return ".pcd"
    return "text" if _is_text(head) else None


def _begins_pcd(lines: list[bytes]) -> bool:
    """Whether the first line that is no comment is one of a PCD header."""
    for line in lines:
        if line.startswith(b"# .PCD"):
            return True
        if line.strip() and not line.startswith(b"#"):
            return line.split()[0] in PCD_WORDS
    return False


def check_content(path: Path, content: bytes, expected: tuple[str, ...]) -> None:
    """Refuse content of another format than the suffix of the file says.

    Args:
        content: the file, or its first ``HEAD_BYTES``.
        expected: results of ``format_of`` that fit; "" stands for plain numbers.
    """
    found = format_of(content[:HEAD_BYTES])
    if (found or "") in expected:
        return
    if found == "Git LFS pointer":
        raise DataError(f"{path}: {POINTER_ADVICE}")
    wanted = expected[0] or "plain float32 numbers"
    if found is None:
        raise DataError(f"{path}: does not begin like a {wanted} file; it may be damaged")
    holds = f"the content of a {found} file" if found.startswith(".") else f"{found} data"
    advice = f"; name it *{found}" if found.startswith(".") else ""
    raise DataError(f"{path}: holds {holds}, expected {wanted}{advice}")


def _is_text(head: bytes) -> bool:
    """Whether all bytes are printable ASCII, which float32 numbers never are."""
    printable = bytes(range(32, 127)) + b"\t\r\n"
    return len(head) >= 16 and not head.translate(None, printable)
