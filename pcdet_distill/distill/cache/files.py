"""TeacherCache: the folder of a cached teacher, found, checked, completed and read."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch
from torch import Tensor

from ...datasets.predicted import PredictionStore
from ...errors import ConfigError, DataError
from ...models.trainable import Processes
from ...types import ConfigDict
from ..predictions import ABSENT_LOGIT
from .build import CacheBuilder
from .identity import MANIFEST, CacheIdentity, identity_of, read_manifest

FOLDER = "teacher_cache"  # in the data folder, unless CACHE_DIR names another


class TeacherCache:
    """The stored predictions of a teacher on one training split.

    Args:
        builder: computes what is missing.
        teacher_cfg: the whole config of the teacher.
        folder: CACHE_DIR; None for one in the data folder.
    """

    def __init__(self, builder: CacheBuilder, teacher_cfg: ConfigDict, folder: Path | None) -> None:
        self.builder = builder
        self.teacher_cfg = teacher_cfg
        self.given_folder = folder
        self._store: PredictionStore | None = None

    @property
    def store(self) -> PredictionStore:
        """What is stored; ``prepare`` has read it."""
        if self._store is None:
            raise DataError(
                "DISTILL.TEACHER.CACHE: the teacher's predictions are not loaded; call "
                "distiller.prepare_data() before the first batch is loaded"
            )
        return self._store

    def prepare(
        self, processes: Processes, device: torch.device, logger: logging.Logger
    ) -> PredictionStore:
        """Compute what is missing, each process its share; then read everything.

        Args:
            processes: those that train together.
            device: where the teacher runs.
            logger: receives what is found and what is computed.
        """
        builder = self.builder
        identity = identity_of(
            builder.teacher, self.teacher_cfg, builder.dataset, builder.threshold
        )
        folder = self._folder(identity)
        if processes.rank == 0:
            self._open(folder, identity)
        processes.barrier()
        files = builder.part_files(folder)
        missing = sum(not file.is_file() for file in files)
        start = time.monotonic()
        if missing:
            logger.info(
                "teacher cache: computing the predictions of %d frames into %s",
                builder.dataset.num_frames,
                folder,
            )
            builder.write_missing(folder, device, (processes.rank, processes.size), logger)
        processes.barrier()
        store = PredictionStore(files)
        logger.info(
            "teacher cache: %d frames, %d rows (%s) in %s",
            store.frames,
            store.rows,
            f"{time.monotonic() - start:.0f} s" if missing else "found",
            folder,
        )
        self.use(store)
        return store

    def use(self, store: PredictionStore) -> None:
        """Answer from ``store``."""
        self._store = store

    def _folder(self, identity: CacheIdentity) -> Path:
        if self.given_folder is not None:
            return self.given_folder
        return self.builder.dataset.root_path / FOLDER / identity.short

    def _open(self, folder: Path, identity: CacheIdentity) -> None:
        """Make the folder, or check that it holds this very cache."""
        if folder.is_file():
            raise ConfigError(f"DISTILL.TEACHER.CACHE_DIR: {folder} is a file, expected a folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Listed before the manifest is looked for: another training may write one meanwhile.
            others = visible_names(folder)
            stored = read_manifest(folder)
            if stored is None:
                refuse_other_files(folder, others)
                identity.write(folder)
                return
        except OSError as error:
            raise ConfigError(
                f"DISTILL.TEACHER.CACHE_DIR: {folder} cannot be written ({error.strerror}); name "
                "a folder that can"
            ) from None
        differences = identity.differences(stored)
        if differences:
            raise ConfigError(
                f"DISTILL.TEACHER.CACHE_DIR: {folder} holds the predictions of "
                f"{' and '.join(differences)}; delete it, or name another folder"
            )


def visible_names(folder: Path) -> list[str]:
    """The names in a folder in their order, without those that begin with a dot."""
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))


def refuse_other_files(folder: Path, names: list[str]) -> None:
    """A folder without a manifest must be empty.

    Whose predictions its parts would be, nothing could tell; and other files are not to be mixed
    with a cache.
    """
    if names:
        raise ConfigError(
            f"DISTILL.TEACHER.CACHE_DIR: {folder} has no {MANIFEST}, but other files "
            f"({names[0]}); expected a cache, an empty folder or a new one"
        )


def background_logits(store: PredictionStore) -> Tensor:
    """(kinds, classes) logits of the mean score of the positions that are not stored."""
    scores = store.sum_of("background_scores")
    counts = store.sum_of("background_counts")
    mean = torch.from_numpy(scores / counts.clip(min=1)[:, None])
    return torch.logit(mean).clamp(min=ABSENT_LOGIT).float()
