"""Class names: the user's choice, joined classes, and names that a text file can hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...config import nearest
from ...config.names import SUGGESTED_SIMILARITY, most_similar
from ...datasets.custom.labels import FrameLabels
from ...errors import ConfigError, DataError

# OpenPCDet's label files and yaml entries such as 'Car:15' separate by these.
SEPARATORS = re.compile(r"[\s:,]+")
TYPING_ERROR = 0.8  # difflib's similarity, from 0 to 1, of a name and its misspelling


@dataclass(frozen=True)
class NamedLabels:
    """Labels whose classes have their final names.

    Attributes:
        labels: by frame; of all classes.
        trained: the classes to train, in the order of the yaml.
        notes: what was changed or is doubtful, a sentence each.
    """

    labels: Mapping[str, FrameLabels]
    trained: tuple[str, ...]
    notes: tuple[str, ...]


def name_classes(
    labels: Mapping[str, FrameLabels], classes: Sequence[str], renames: Sequence[str]
) -> NamedLabels:
    """Give every label its final class name, and choose the classes to train.

    Args:
        classes: the user's choice; empty for all that are labelled.
        renames: ``OLD=NEW`` each.
    """
    new_names, notes = _new_names(labels, _read_renames(renames))
    renamed = {}
    for frame, entry in labels.items():
        names = [new_names[str(name)] for name in entry.names]
        renamed[frame] = replace(entry, names=np.array(names, dtype=str))
    counts = count_classes(renamed)
    chosen = [clean_name(name) for name in classes]
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"--classes {' '.join(classes)}: names a class twice")
    for name in chosen:
        if name not in counts:
            raise ConfigError(f"--classes: no object is labelled '{name}'{nearest(name, counts)}")
    if chosen:
        notes += _other_classes(renamed, counts, chosen)
    trained = chosen or sorted(counts, key=lambda name: (-counts[name], name))
    notes += _similar_classes(trained, counts)
    return NamedLabels(renamed, tuple(trained), tuple(notes))


def clean_name(name: str) -> str:
    """A class name without the separators of label files: 'hand truck' becomes 'hand_truck'."""
    return SEPARATORS.sub("_", name.strip()).strip("_") or "unnamed"


def count_classes(labels: Mapping[str, FrameLabels]) -> dict[str, int]:
    """The number of objects of each class."""
    counts: dict[str, int] = {}
    for entry in labels.values():
        for name in entry.names:
            counts[str(name)] = counts.get(str(name), 0) + 1
    return counts


def _read_renames(renames: Sequence[str]) -> dict[str, str]:
    new_of = {}
    for text in renames:
        old, equals, new = text.partition("=")
        if not equals or not old or not new:
            raise ConfigError(f"--rename {text}: expected OLD=NEW")
        new_of[old] = new
    return new_of


def _new_names(
    labels: Mapping[str, FrameLabels], renames: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """The final name of every name in the labels, and what was changed."""
    counts = count_classes(labels)
    for old in renames:
        if old not in counts:
            raise ConfigError(f"--rename: no object is labelled '{old}'{nearest(old, counts)}")
    new_names = {}
    notes = []
    for name in counts:
        new = clean_name(renames.get(name, name))
        new_names[name] = new
        if new != renames.get(name, name):
            notes.append(
                f"class '{name}' is written as '{new}': label files separate by spaces, yaml "
                "entries such as 'Car:15' by colons"
            )
    return new_names, notes


def _other_classes(
    labels: Mapping[str, FrameLabels], counts: Mapping[str, int], chosen: Sequence[str]
) -> list[str]:
    """A note on classes that are not trained; a misspelt one is refused with its place."""
    others = [name for name in counts if name not in chosen]
    for name in others:
        meant = most_similar(name, chosen, TYPING_ERROR)
        if meant is not None:
            raise DataError(
                f"{_first_place(labels, name)}: the class '{name}' ({counts[name]} objects) is "
                f"none of --classes; did you mean '{meant}'? --rename {name}={meant} joins them, "
                f"--rename {name}=other_{name} keeps it apart"
            )
    if not others:
        return []
    shown = ", ".join(f"{name} ({counts[name]})" for name in others)
    return [f"not trained, because --classes leaves them out: {shown}"]


def _first_place(labels: Mapping[str, FrameLabels], name: str) -> str:
    """Where a class stands first."""
    for entry in labels.values():
        for found, where in zip(entry.names, entry.where):
            if found == name:
                return where
    return "labels"


def _similar_classes(trained: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    """Doubts about pairs of names that may be one class."""
    notes = []
    for index, name in enumerate(trained):
        earlier = trained[:index]
        meant = most_similar(name, earlier, max(TYPING_ERROR, SUGGESTED_SIMILARITY))
        if meant is not None:
            notes.append(
                f"warning: '{meant}' ({counts[meant]}) and '{name}' ({counts[name]}) have similar "
                f"names; if they are one class, --rename {name}={meant} joins them"
            )
    return notes
