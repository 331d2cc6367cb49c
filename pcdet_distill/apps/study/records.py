"""The files in a study's folder: locks, failures, configurations of runs, chosen epochs."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from ...errors import ConfigError, DataError
from ...file_locks import FileLock
from ...whole_files import whole_file
from .locks import Locks
from .plan import Run, StudyPlan, differences, simulator_options
from .spec import TEACHER

OWNER = "study.json"  # says which study a folder belongs to


class EqualCompute(TypedDict):
    """The epochs of a row of equal compute, and the measured seconds they follow from."""

    epochs: int
    target_s: float  # mean cost of the rows of EQUAL_COMPUTE_OF
    epoch_s: float  # mean cost of an epoch of this row
    unit: str  # "cpu" or "wall" as measured, or "counted"


class Records:
    """Reads and writes ``output/study/<study>``."""

    def __init__(self, plan: StudyPlan) -> None:
        self.plan = plan
        self.folder = plan.folder
        self.locks = Locks(self.folder / "locks")
        # Locks of what several studies share: data, teachers, and rows of studies with SHARE.
        self.shared_locks = Locks(self.folder.parent / ".locks")

    def take(self, run: Run) -> bool:
        """Lock a run for this process; False when another process works on it."""
        return self._locks_of(run).take(self._lock_name(run))

    def release(self, run: Run) -> None:
        """Give a run back."""
        self._locks_of(run).release(self._lock_name(run))

    def release_all(self) -> None:
        """Give back everything that this process has locked."""
        self.locks.release_all()
        self.shared_locks.release_all()

    def is_taken(self, run: Run) -> bool:
        """Whether a process works on a run, perhaps this one."""
        return self._locks_of(run).is_taken(self._lock_name(run))

    def _locks_of(self, run: Run) -> Locks:
        return self.shared_locks if self.plan.is_shared(run.row) else self.locks

    def _lock_name(self, run: Run) -> str:
        return run.tag if self.plan.is_shared(run.row) else run.name

    def log(self, run: Run) -> Path:
        """The output of a run's commands."""
        return self.folder / "logs" / f"{run.name}.log"

    def own_the_folder(self) -> None:
        """Mark the folder as this study's; refuse one that belongs to another study."""
        with FileLock(self.folder / ".lock"):
            if not self._owner_file.exists():
                write_json(self._owner_file, self._identity())
        self.refuse_foreign_results()

    def refuse_foreign_results(self) -> None:
        """Raise a ConfigError when the folder, or a run in it, belongs to another configuration."""
        if self._owner_file.exists():
            wrong = differences(read_json(self._owner_file), self._identity())
            if wrong:
                raise ConfigError(
                    f"{self.folder}: belongs to another study ({'; '.join(wrong)}); give this one "
                    "another NAME, or delete that folder with its trainings"
                )
        for run in self.plan.runs():
            self._refuse_changed(run)

    @property
    def _owner_file(self) -> Path:
        return self.folder / OWNER

    def _identity(self) -> dict[str, object]:
        data = _as_json(asdict(self.plan.spec.data))
        frames = data["frames"] or {}
        frames.pop("unlabelled", None)  # such frames may be added later
        for key in ("scenes", "sensors", "sweeps", "configs"):
            data.pop(key)
        # A study of one data set has written a text here since the first version.
        configs = list(self.plan.spec.data.configs)
        data["config"] = configs[0] if len(configs) == 1 else configs
        data.update(simulator_options(self.plan.spec.data))
        return {"file": os.path.relpath(self.plan.spec.file, self.plan.root), "data": data}

    def _refuse_changed(self, run: Run) -> None:
        """A run begun from another configuration must not be resumed, nor shown as this one's."""
        path = self._record_file(run)
        if not path.exists():
            return
        identity = _as_json(self.plan.identity(run.row, run.seed))
        wrong = differences(read_json(path)["identity"], identity)
        if wrong:
            raise ConfigError(
                f"{self.plan.spec.file}: {run.name} was trained with another configuration "
                f"({'; '.join(wrong[:5])}); give the row another name, or delete {path} and "
                f"{self.plan.root / run.folder} to train it again"
            )

    def begin(self, run: Run) -> None:
        """Record what a run is made from."""
        identity = self.plan.identity(run.row, run.seed)
        write_json(self._record_file(run), {"identity": identity, "epochs": run.epochs})

    def fail(self, run: Run, reason: str) -> None:
        """Record why a run failed."""
        write_json(self._failure_file(run), {"reason": reason})

    def forget_failure(self, run: Run) -> None:
        """Let a failed run be tried again."""
        self._failure_file(run).unlink(missing_ok=True)

    def failure(self, run: Run) -> str | None:
        """Why a run failed; None when it did not."""
        path = self._failure_file(run)
        return str(read_json(path)["reason"]) if path.exists() else None

    def equal_epochs(self) -> dict[str, EqualCompute]:
        """The epochs chosen so far for rows of equal compute."""
        path = self.folder / "equal_compute.json"
        return read_json(path) if path.exists() else {}

    def keep_equal_epochs(self, row: str, choice: EqualCompute) -> None:
        """Fix the epochs of a row for good: another process may already train with them."""
        with FileLock(self.folder / ".lock"):
            known = self.equal_epochs()
            if row not in known:
                write_json(self.folder / "equal_compute.json", {**known, row: choice})

    def _record_file(self, run: Run) -> Path:
        return self._notes(run) / "runs" / f"{run.name}.json"

    def _failure_file(self, run: Run) -> Path:
        return self._notes(run) / "failed" / f"{run.name}.json"

    def _notes(self, run: Run) -> Path:
        """The folder of notes on a run: that of all studies which share it, or of this one."""
        share = self.plan.spec.share
        if share is None or run.row.name == TEACHER or not self.plan.is_shared(run.row):
            return self.folder
        return self.folder.parent / f".shared-{share}"


def _as_json(content: object) -> Any:
    """What ``content`` is after writing and reading: lists for tuples, text for keys."""
    return json.loads(json.dumps(content))


def write_json(path: Path, content: object) -> None:
    """Write a whole file or none: a killed process must not leave half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """The content of a file of ``write_json``."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as a record of this study ({error}); delete it"
        ) from None
