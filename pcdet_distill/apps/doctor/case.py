"""What every check reads: the config, the frames of the splits, and the labelled objects."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...datasets.labelled_objects import LabelledObject, has_size
from ...datasets.spec import DataSpec
from ...types import ConfigDict
from .frames import Frame, Split

if TYPE_CHECKING:
    from .detections import Seen

EMPTY: ConfigDict = {}

SHOWN_NAMES = 4  # of frames, in a finding


@dataclass
class Case:
    """One yaml with its data.

    Attributes:
        cfg: the config, of an experiment or of a dataset alone.
        splits: ``train`` and ``val``, those that could be read.
        errors: split -> why it could not be read.
        runs_model: whether checks may run the untrained model.
        checkpoint: weights to look through, if any.
        seen: what they detect, once that is known.
        diagnosis: of the geometry of the labels, once it is made.
    """

    cfg: ConfigDict
    splits: dict[str, Split]
    errors: dict[str, str] = field(default_factory=dict)
    runs_model: bool = True
    checkpoint: str | None = None
    seen: Seen | None = None
    diagnosis: object = None

    @property
    def is_experiment(self) -> bool:
        """Whether the yaml has a MODEL."""
        return "DATA_CONFIG" in self.cfg

    @property
    def data(self) -> ConfigDict:
        """The DATA_CONFIG block."""
        return self.cfg["DATA_CONFIG"] if self.is_experiment else self.cfg

    @property
    def model(self) -> ConfigDict:
        """The MODEL block; empty for the yaml of a dataset."""
        return self.cfg.get("MODEL") or EMPTY

    @property
    def head(self) -> ConfigDict:
        """The DENSE_HEAD block; empty where there is none."""
        return self.model.get("DENSE_HEAD") or EMPTY

    @property
    def root_dir(self) -> Path:
        """Where relative paths start."""
        return Path(self.cfg["ROOT_DIR"])

    def key(self, path: str) -> str:
        """The path of a key of DATA_CONFIG in this yaml."""
        return f"DATA_CONFIG.{path}" if self.is_experiment else path

    @functools.cached_property
    def spec(self) -> DataSpec:
        """Range, voxels and features."""
        return DataSpec.from_config(self.data, self.class_names)

    @functools.cached_property
    def class_names(self) -> list[str]:
        """The trained classes; all classes of the data where the yaml names none."""
        given = self.cfg.get("CLASS_NAMES") or self.data.get("CLASS_NAMES")
        return list(given) if given else sorted(self.names_in())

    @property
    def names_classes(self) -> bool:
        """Whether the yaml says what is trained."""
        return bool(self.cfg.get("CLASS_NAMES") or self.data.get("CLASS_NAMES"))

    def frames(self, split: str | None = None) -> Iterator[Frame]:
        """The frames of one split or of all."""
        for name, part in self.splits.items():
            if split in (None, name):
                yield from part.frames

    def labelled(self, split: str | None = None) -> Iterator[tuple[Frame, LabelledObject]]:
        """Objects of any class that have a finite box, with their frames."""
        for frame in self.frames(split):
            if frame.objects is not None:
                for labelled in frame.objects.objects:
                    yield frame, labelled

    def objects(self, split: str | None = None) -> list[tuple[Frame, LabelledObject]]:
        """Objects of the trained classes whose boxes have a volume."""
        trained = set(self.class_names)
        found = []
        for frame, labelled in self.labelled(split):
            if labelled.name in trained and has_size(labelled):
                found.append((frame, labelled))
        return found

    def boxes(self, split: str | None = None) -> np.ndarray:
        """(K, 7) boxes of the trained classes."""
        rows = [labelled.box[:7] for _, labelled in self.objects(split)]
        return np.array(rows, dtype=np.float64).reshape(-1, 7)

    def names_in(self, split: str | None = None) -> Counter[str]:
        """How often each class is labelled in the frames that were looked at."""
        names: Counter[str] = Counter()
        for frame in self.frames(split):
            if frame.objects is not None:
                names.update(str(name) for name in frame.objects.names)
        return names

    def step(self, name: str) -> tuple[int, ConfigDict] | None:
        """Place and block of a step of DATA_PROCESSOR whose NAME begins so; None without one."""
        for place, step in enumerate(self.data.get("DATA_PROCESSOR") or ()):
            if str(step.get("NAME", "")).startswith(name):
                return place, step
        return None

    def augmentations(self) -> list[tuple[str, ConfigDict]]:
        """Key path and block of every augmentation that is not disabled."""
        block = self.data.get("DATA_AUGMENTOR") or {}
        if isinstance(block, (list, tuple)):
            return [(self.key(f"DATA_AUGMENTOR.{n}"), entry) for n, entry in enumerate(block)]
        disabled = set(block.get("DISABLE_AUG_LIST") or ())
        found = []
        for number, entry in enumerate(block.get("AUG_CONFIG_LIST") or ()):
            if entry.get("NAME") not in disabled:
                found.append((self.key(f"DATA_AUGMENTOR.AUG_CONFIG_LIST.{number}"), entry))
        return found

    def looked_at(self, split: str) -> str:
        """``40 of 200 frames of train``, for messages."""
        part = self.splits[split]
        seen = len(part.frames)
        total = len(part.all_names)
        if seen == total:
            return f"all {total} frames of {split}"
        return f"{seen} of {total} frames of {split}"


def of_class(
    objects: list[tuple[Frame, LabelledObject]], name: str
) -> list[tuple[Frame, LabelledObject]]:
    """The objects of one class."""
    return [(frame, labelled) for frame, labelled in objects if labelled.name == name]


def frame_names(objects: list[tuple[Frame, LabelledObject]]) -> tuple[str, ...]:
    """The first different frames of some objects."""
    names = dict.fromkeys(frame.name for frame, _ in objects)
    return tuple(names)[:SHOWN_NAMES]
