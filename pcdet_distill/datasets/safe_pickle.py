"""Read info files, which are pickles, without running what a pickle could hide.

OpenPCDet writes its infos as pickles of lists, dicts, strings, numbers and numpy arrays. Only the few constructors
those need are admitted, under their names of all numpy versions; anything else is refused by name.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError

try:
    from numpy._core import multiarray, numeric
except ImportError:  # numpy < 2
    from numpy.core import multiarray, numeric  # type: ignore[no-redef]


def _latin1_bytes(text: str, encoding: str = "latin1") -> bytes:
    """What old pickle protocols call to build bytes; limited to the encoding they use."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    """How old protocols write the bytes of an empty array."""
    return b""


ADMITTED: dict[tuple[str, str], Any] = {("_codecs", "encode"): _latin1_bytes}
for _package in ("numpy.core", "numpy._core"):
    ADMITTED[f"{_package}.multiarray", "_reconstruct"] = multiarray._reconstruct
    ADMITTED[f"{_package}.multiarray", "scalar"] = multiarray.scalar
    ADMITTED[f"{_package}.numeric", "_frombuffer"] = numeric._frombuffer  # type: ignore[attr-defined]
ADMITTED["numpy", "ndarray"] = np.ndarray
ADMITTED["numpy", "dtype"] = np.dtype
ADMITTED["collections", "OrderedDict"] = dict
ADMITTED["__builtin__", "bytes"] = _empty_bytes


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return ADMITTED[module, name]


def load_plain_pickle(path: Path, how_to_make: str) -> Any:
    """The content of an info file; ``how_to_make`` ends the sentence when the file is missing."""
    try:
        with open(path, "rb") as file:
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
