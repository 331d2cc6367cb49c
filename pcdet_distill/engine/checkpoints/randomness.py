"""The random generators that a training step may draw from: seeded, saved, restored."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

FIXED_SEED = 666  # OpenPCDet's --fix_random_seed


class RandomState(TypedDict):
    """The states of all generators, in plain containers and tensors that a checkpoint can hold.

    Keys:
        python: version, state words and the cached normal number of ``random``.
        numpy: algorithm, key (624,), position, has_gauss and the cached normal number.
        torch: state of the CPU generator.
        cuda: state of the current GPU's generator; None where CUDA was not used.
    """

    python: list
    numpy: list
    torch: Tensor
    cuda: Tensor | None


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> RandomState:
    """The current state of all generators."""
    version, words, cached_normal = random.getstate()
    name, keys, position, has_gauss, cached_gauss = np.random.get_state(legacy=True)
    numpy_keys = torch.as_tensor(np.asarray(keys, dtype=np.int64))
    return {
        "python": [version, list(words), cached_normal],
        "numpy": [name, numpy_keys, int(position), int(has_gauss), float(cached_gauss)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    }


def restore_random_state(state: RandomState) -> None:
    """Continue where ``random_state()`` was called."""
    version, words, cached_normal = state["python"]
    random.setstate((version, tuple(words), cached_normal))
    name, keys, position, has_gauss, cached_gauss = state["numpy"]
    numpy_keys = keys.numpy().astype(np.uint32)
    np.random.set_state((name, numpy_keys, position, has_gauss, cached_gauss))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def preserve_randomness() -> Iterator[None]:
    """Restore the generators afterwards, so that numbers drawn inside change nothing outside.

    A DataLoader, for example, draws one number whenever it starts.
    """
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)
