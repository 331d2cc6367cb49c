"""A checksum of everything in a checkpoint, stored in the file itself.

It is computed from names, types, shapes and values, not from the bytes of the file: so a file that
another program has read and written again still has it, and one flipped bit of a weight is seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

KEY = "checksum"
ALGORITHM = "sha256"


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...


def checksum_of(content: Mapping[str, object]) -> str:
    """The checksum of a checkpoint; what it holds as its own checksum does not count."""
    digest = hashlib.new(ALGORITHM)
    _add(digest, {key: value for key, value in content.items() if key != KEY})
    return f"{ALGORITHM}:{digest.hexdigest()}"


def _add(digest: _Hash, value: Any) -> None:
    """Add a value: a mark of its kind and its size first, so that no two values look alike."""
    if isinstance(value, Mapping):
        digest.update(b"{%d" % len(value))
        for key, inner in value.items():
            _add(digest, key)
            _add(digest, inner)
    elif isinstance(value, (list, tuple)):
        digest.update(b"[%d" % len(value))
        for inner in value:
            _add(digest, inner)
    elif isinstance(value, Tensor):
        _add_bytes(digest, f"tensor {value.dtype} {tuple(value.shape)}".encode())
        _add_bytes(digest, _tensor_bytes(value))
    elif isinstance(value, np.ndarray):
        _add_bytes(digest, f"array {value.dtype.str} {value.shape}".encode())
        _add_bytes(digest, value.tobytes())
    elif isinstance(value, bytes):
        _add_bytes(digest, value)
    else:
        # Numbers and text: repr() gives a float back exactly.
        _add_bytes(digest, f"{type(value).__name__} {value!r}".encode())


def _add_bytes(digest: _Hash, data: bytes | memoryview) -> None:
    digest.update(b"<%d" % len(data))
    digest.update(data)


def _tensor_bytes(tensor: Tensor) -> memoryview:
    """The values of a dense tensor as bytes, in the order of its axes."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
