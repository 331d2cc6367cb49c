"""Numbers of OpenPCDet's nuScenes pipeline, and which test reads which of them.

A test says by its marker which recorded names it reads; ``{axis}`` in a name stands for the test's
parameter of that name:

    @pytest.mark.recorded("aug_flip_{axis}_*")

It gets no other name. At its end every name of the marker must have been read. Another test
compares the markers of all tests with all names. So no recorded number can go unread.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

STEM = "pipeline/nuscenes_pipeline"


@lru_cache(maxsize=2)
def load_recording(folder: Path) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
    """All arrays and all numbers of a golden folder."""
    with np.load(folder / f"{STEM}.npz", allow_pickle=False) as file:
        arrays = dict(file)
    return arrays, json.loads((folder / f"{STEM}.json").read_text())


def names_of(folder: Path) -> set[str]:
    """Every recorded name; a name may stand for an array, for a number or for both."""
    arrays, numbers = load_recording(folder)
    return {*arrays, *numbers}


class Recording:
    """The part of a recording that one test reads.

    Args:
        folder: the golden folder.
        patterns: of the names that the test reads.
    """

    def __init__(self, folder: Path, patterns: Sequence[str]) -> None:
        self.folder = folder
        self.patterns = patterns
        self._arrays, self._numbers = load_recording(folder)
        self._read: set[tuple[str, str]] = set()

    def array(self, name: str) -> np.ndarray:
        """A recorded array; the test's own copy."""
        return self._get("array", self._arrays, name).copy()

    def tensor(self, name: str) -> Tensor:
        """A recorded array as a tensor."""
        return torch.from_numpy(self.array(name))

    def number(self, name: str) -> Any:
        """What the json file records under a name."""
        return self._get("number", self._numbers, name)

    def arrays(self, pattern: str) -> list[str]:
        """The names of the recorded arrays that match."""
        return [name for name in self._arrays if fnmatchcase(name, pattern)]

    def _get(self, kind: str, table: Mapping[str, Any], name: str) -> Any:
        assert self._claims(name), f"{name} is not among the names of the test's marker"
        self._read.add((kind, name))
        return table[name]

    def _claims(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def unread(self) -> list[str]:
        """Names of the marker that the test has not read."""
        recorded = {("array", name) for name in self._arrays}
        recorded |= {("number", name) for name in self._numbers}
        claimed = {entry for entry in recorded if self._claims(entry[1])}
        return sorted(name for _, name in claimed - self._read)


def claimed_patterns(folder: Path) -> set[str]:
    """The patterns of all ``recorded`` markers in the test files of a folder."""
    patterns: set[str] = set()
    for file in folder.glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if _is_marker(node):
                parts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                patterns.update(_with_any_parameter(part) for part in parts)
    return patterns


def _is_marker(node: ast.AST) -> bool:
    """Whether a node is the call ``pytest.mark.recorded(...)``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    return node.func.attr == "recorded"


def _with_any_parameter(pattern: str) -> str:
    """``aug_flip_{axis}_gt`` as ``aug_flip_*_gt``."""
    before, opened, rest = pattern.partition("{")
    if not opened:
        return pattern
    _, _, after = rest.partition("}")
    return f"{before}*{_with_any_parameter(after)}"
