"""Results of a pass on any device, for comparisons on the CPU."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor
from torch.utils._pytree import tree_map

Tree = TypeVar("Tree")


def on_cpu(tree: Tree) -> Tree:
    """Nested dicts, lists and tuples with their tensors on the CPU."""
    return tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, tree)
