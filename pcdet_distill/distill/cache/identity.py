"""Of which teacher, data and classes a cache is: hashes in its manifest, compared before its use.

Predictions of another teacher look like those of the right one. Only a hash of everything that
decides them can tell.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from ...config import to_plain
from ...datasets.dataset import DatasetTemplate
from ...errors import DataError
from ...types import ConfigDict
from ...whole_files import whole_file
from ..teacher import Teacher

MANIFEST = "manifest.json"
# Blocks of DATA_CONFIG that decide which points a teacher sees, and how.
PROCESSING = ("COMMON_CLOUD", "POINT_CLOUD_RANGE", "POINT_FEATURE_ENCODING", "DATA_PROCESSOR")
FORMAT = 1  # a later version that stores something else counts up
SAMPLED_FRAMES = 8  # whose points and labels are hashed, spread over the split
DIGEST_BYTES = 8


@dataclasses.dataclass(frozen=True)
class CacheIdentity:
    """Everything that decides what a cache holds.

    Attributes:
        teacher_weights: hash of the teacher's parameters and buffers.
        teacher_config: hash of its MODEL block and of how its points are processed.
        classes: its classes, in the order of their labels.
        data: hash of the info files, of the names of all frames and of some frames' points.
        settings: the threshold, the teacher's precision and the version of the files.
    """

    teacher_weights: str
    teacher_config: str
    classes: tuple[str, ...]
    data: str
    settings: str

    @property
    def short(self) -> str:
        """A name for the folder of this cache."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()

    def differences(self, stored: Mapping[str, object]) -> list[str]:
        """In words, what is other in the manifest of a stored cache; empty if it is the same."""
        own = dataclasses.asdict(self)
        own["classes"] = list(self.classes)
        return [WORDS[name] for name in WORDS if stored.get(name) != own[name]]

    def write(self, folder: Path) -> None:
        """Write the manifest of a cache."""
        text = json.dumps(dataclasses.asdict(self), indent=2)
        with whole_file(folder / MANIFEST) as partial:
            partial.write_text(text + "\n")


WORDS = {
    "teacher_weights": "other weights of the teacher",
    "teacher_config": "another config of the teacher",
    "classes": "another list of the teacher's classes",
    "data": "other data",
    "settings": "another threshold, precision or version",
}


def read_manifest(folder: Path) -> dict[str, object] | None:
    """The manifest of a folder; None where there is none."""
    file = folder / MANIFEST
    if not file.is_file():
        return None
    try:
        stored = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file}: it cannot be read ({error}); delete the folder, and the next training "
            "computes the teacher's predictions again"
        ) from None
    return stored if isinstance(stored, dict) else {}


def identity_of(
    teacher: Teacher, teacher_cfg: ConfigDict, dataset: DatasetTemplate, threshold: float
) -> CacheIdentity:
    """The identity of the cache of a teacher on a training split."""
    data_cfg = teacher_cfg["DATA_CONFIG"]
    processing = {key: data_cfg[key] for key in PROCESSING if key in data_cfg}
    return CacheIdentity(
        teacher_weights=_hash_of_weights(teacher.model),
        teacher_config=_hash_of_text([to_plain(teacher_cfg["MODEL"]), to_plain(processing)]),
        classes=tuple(teacher_cfg["CLASS_NAMES"]),
        data=_hash_of_data(dataset),
        settings=f"threshold {threshold:g}, {teacher.precision}, format {FORMAT}",
    )


def _hash_of_weights(model: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for name, tensor in sorted(model.state_dict().items()):
        if name == "global_step":  # counts the training steps, and decides nothing
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _hash_of_text(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def _hash_of_data(dataset: DatasetTemplate) -> str:
    """A hash of the info files, the names of all frames, and the content of a few of them.

    The info files of two folders may agree where the points do not, as when another sensor has
    recorded the same scenes. The points of some frames show it.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for file in _info_files(dataset):
        digest.update(hashlib.blake2b(file.read_bytes()).digest())
    names = [dataset.frame_name(number) for number in range(dataset.num_frames)]
    digest.update("\n".join(names).encode())
    for number in sampled_frames(dataset.num_frames):
        item = dataset.recorded_frame(number) or {}
        for key in ("points", "gt_boxes"):
            digest.update(np.ascontiguousarray(item.get(key, ())).tobytes())
    return digest.hexdigest()


def sampled_frames(count: int) -> list[int]:
    """Numbers of SAMPLED_FRAMES of ``count`` frames, evenly spread; all of fewer."""
    spread = np.linspace(0, count - 1, min(SAMPLED_FRAMES, count))
    return sorted({int(number) for number in spread})


def _info_files(dataset: DatasetTemplate) -> list[Path]:
    """The info files of the training split; none for a dataset without any."""
    paths: object = (dataset.dataset_cfg.get("INFO_PATH") or {}).get(dataset.mode) or ()
    names: Sequence[str] = [paths] if isinstance(paths, str) else paths  # type: ignore[assignment]
    return [dataset.root_path / name for name in names if (dataset.root_path / name).is_file()]
