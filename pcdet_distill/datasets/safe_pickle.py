"""Info files, which are pickles: read without running the code that a pickle can hide.

OpenPCDet writes its infos as pickles of lists, dicts, strings, numbers and numpy arrays. Only the
few constructors that those need are allowed, under their names of all numpy versions. Anything else
is refused by name.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..config import check_regular
from ..errors import DataError
from .pickle_steps import check_steps

try:
    from numpy._core import multiarray, numeric
except ImportError:  # numpy < 2
    from numpy.core import multiarray, numeric  # type: ignore[no-redef]

PLAIN_KINDS = "biufcUS"  # of arrays of numbers and of text
PROTOCOL = 4  # of all Python versions that are supported


def _latin1_bytes(text: str, encoding: str = "latin1") -> bytes:
    """Stands for ``_codecs.encode``, by which old pickle protocols build bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    """Stands for ``bytes``, by which old pickle protocols build the data of an empty array."""
    return b""


def _empty_array(kind: type, shape: tuple[int, ...], code: bytes | str) -> object:
    """Stands for numpy's first step, an empty array; a file could ask for a huge one."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError(f"an array of shape {shape} before its values")
    return multiarray._reconstruct(kind, shape, code)


ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _latin1_bytes,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): dict,
    ("__builtin__", "bytes"): _empty_bytes,
}
_from_buffer = numeric._frombuffer  # type: ignore[attr-defined]
for _package in ("numpy.core", "numpy._core"):
    ALLOWED[f"{_package}.multiarray", "_reconstruct"] = _empty_array
    ALLOWED[f"{_package}.multiarray", "scalar"] = multiarray.scalar
    ALLOWED[f"{_package}.numeric", "_frombuffer"] = _from_buffer


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return ALLOWED[module, name]


def load_plain_pickle(path: Path, how_to_make: str) -> Any:
    """The content of an info file; ``how_to_make`` ends the message when the file is missing."""
    check_regular(path)
    try:
        with open(path, "rb") as file:
            check_steps(file)
            return _PlainUnpickler(file).load()
    except FileNotFoundError:
        raise DataError(f"{path}: this info file does not exist; {how_to_make}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: refused, or no info file: those hold numpy arrays and plain containers only "
            f"({error})"
        ) from None
    except Exception as error:  # a damaged pickle can raise almost anything
        raise DataError(
            f"{path}: damaged, or no info file ({type(error).__name__}: {error}); {how_to_make}"
        ) from None


def plain_pickle(content: Any) -> bytes:
    """The bytes of lists, dicts, strings, numbers and numpy arrays; equal ones for equal content.

    A pickle writes an object that comes twice once. So its bytes depend on which equal strings are
    one object, and that depends on the number of processes that made the content.
    """
    return pickle.dumps(_own_objects(content, {}), protocol=PROTOCOL)


def _own_objects(content: Any, strings: dict[str, str]) -> Any:
    """A copy in which equal strings are one object, and nothing else comes twice."""
    if type(content) is str:
        return strings.setdefault(content, content)
    if type(content) is dict:
        return {
            _own_objects(key, strings): _own_objects(value, strings)
            for key, value in content.items()
        }
    if type(content) in (list, tuple):
        return type(content)(_own_objects(value, strings) for value in content)
    if type(content) is np.ndarray and content.dtype.kind in PLAIN_KINDS:
        # numpy's own dtype of this kind, which arrays from another process do not share.
        copied = np.empty(content.shape, dtype=np.dtype(content.dtype.str))
        copied[...] = content
        return copied
    if isinstance(content, np.generic):
        return content.copy()
    return content
