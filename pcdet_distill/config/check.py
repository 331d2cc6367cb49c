"""Compare a config with the schema: every unknown key or name is a problem, reported with its file.

A message names the file, the key path and the nearest valid key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..errors import ConfigError
from ..types import ConfigDict
from .names import most_similar, unknown_key
from .nodes import Block, Free, ListOf, Node
from .values import KNOWN_NAMES, wrong_kind

# One typo in a name of ten letters leaves a similarity of nine tenths. The names of real classes
# differ more than that from one another.
TYPO_SIMILARITY = 0.85
DATASET_ENDING = "dataset"
DATASET_SIMILARITY = 0.88  # of their beginnings, which are short


class Problem(NamedTuple):
    """Something wrong in a config: the key path, and a sentence about it."""

    path: str
    sentence: str


def check(config: ConfigDict, root: Block, origins: Mapping[str, str], file: str) -> None:
    """Raise a ConfigError for the first problem; it also says how many others there are.

    Args:
        config: the merged config.
        root: the schema of the whole file.
        origins: key path -> file that set it.
        file: the file that was loaded, for keys without an origin.
    """
    problems = list(_problems(config, root, ""))
    if not problems:
        return
    path, sentence = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise ConfigError(f"{origin_of(path, origins, file)}: {sentence}{more}")


def origin_of(path: str, origins: Mapping[str, str], default: str) -> str:
    """The file that set ``path``, or the nearest block above it."""
    while path:
        if path in origins:
            return origins[path]
        end = max(path.rfind("."), path.rfind("["), 0)
        path = path[:end]
    return default


def is_open(node: Node | None, value: object) -> bool:
    """Whether ``value`` may hold any key.

    That is so for a free value, and for a block whose class is not one of OpenPCDet's.
    """
    if isinstance(node, Free):
        return True
    if not isinstance(node, Block) or not node.names or not isinstance(value, Mapping):
        return False
    return node.name_key in value and value[node.name_key] not in node.names


def correct_name(name: str, known: Sequence[str]) -> str | None:
    """The known name that ``name`` is a typo of; None when it is a name of its own.

    ``MyPillarVFE`` contains a known name and is longer: that is a class of the user's, no typo. All
    data sets end with ``Dataset``, which would make any two of them alike: ``SceneDataset`` is no
    typo of ``NuScenesDataset``. So that ending is not compared.
    """
    lower = name.lower()
    for candidate in known:
        if lower == candidate.lower():
            return candidate
    for candidate in known:
        if candidate.lower() in lower and len(name) > len(candidate) + 1:
            return None
    if not lower.endswith(DATASET_ENDING):
        return most_similar(name, known, TYPO_SIMILARITY)
    beginnings = {_beginning(candidate): candidate for candidate in known}
    similar = most_similar(_beginning(name), beginnings, DATASET_SIMILARITY)
    return None if similar is None else beginnings[similar]


def _beginning(name: str) -> str:
    """A name without the ending of data sets, upper or lower case."""
    has_ending = name.lower().endswith(DATASET_ENDING)
    return name[: -len(DATASET_ENDING)] if has_ending else name


def _problems(value: object, node: Node, path: str) -> Iterator[Problem]:
    """Everything wrong at and below ``path``. A null stands for a key that is not there."""
    if isinstance(node, Free) or value is None:
        return
    if isinstance(node, ListOf):
        yield from _list_problems(value, node, path)
    elif not isinstance(value, Mapping):
        yield Problem(path, f"{path}: expected a block of keys, got {value!r}")
    elif is_open(node, value):
        yield from _name_problems(value[node.name_key], node.names, f"{path}.{node.name_key}")
    else:
        yield from _block_problems(value, node, path)


def _name_problems(name: object, known: Sequence[str], place: str) -> Iterator[Problem]:
    correct = correct_name(name, known) if isinstance(name, str) else None
    if correct is not None and correct != name:
        place = place.lstrip(".")
        yield Problem(place, f"{place}: unknown name {name!r}; did you mean '{correct}'?")


def _list_problems(value: object, node: ListOf, path: str) -> Iterator[Problem]:
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _problems(item, node.item, f"{path}[{index}]")
    elif node.or_block is not None:
        yield from _problems(value, node.or_block, path)
    else:
        yield Problem(path, f"{path}: expected a list of blocks, got {value!r}")


def _block_problems(value: ConfigDict, node: Block, path: str) -> Iterator[Problem]:
    for key, inner in value.items():
        place = f"{path}.{key}".lstrip(".")
        below = node.find(str(key))
        if below is None:
            yield Problem(place, unknown_key(str(key), node.keys, path=place))
            continue
        yield from _value_problems(str(key), inner, place)
        yield from _problems(inner, below, place)


def _value_problems(key: str, value: object, place: str) -> Iterator[Problem]:
    kind = wrong_kind(key, value)
    if kind:
        yield Problem(place, f"{place}: {kind}")
    else:
        yield from _name_problems(value, KNOWN_NAMES.get(key, ()), place)
