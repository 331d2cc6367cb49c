"""From a folder that a user names to the results in it, and to the yaml of their training."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...datasets.kitti.result_files import result_files
from ...errors import DataError
from ...report.record import FILE as RECORD

RESULT = "result.pkl"
SEARCHED_PARENTS = 6
EPOCH = re.compile(r"epoch_(\d+)")
EXPECTED = (
    f"expected {RECORD} or {RESULT}, which 'pcdet-distill test' and the end of "
    "'pcdet-distill train' write into <run>/eval/.../epoch_N/<split>, or KITTI's result files as "
    "in final_result/data"
)


@dataclass(frozen=True)
class Results:
    """The results of one evaluation.

    Attributes:
        folder: of result.pkl.
        num_others: further results in the folder that the user named.
    """

    folder: Path
    num_others: int = 0

    @property
    def text_files(self) -> dict[str, Path]:
        """KITTI's result files by frame, where the folder holds these and no result.pkl."""
        return {} if self.detections_file.is_file() else result_files(self.folder)

    @property
    def newest(self) -> float:
        """When its detections were written, in seconds; 0 without any."""
        files = [self.detections_file, *self.text_files.values()]
        return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)

    @property
    def record_file(self) -> Path:
        """The data of its report, which need not exist."""
        return self.folder / RECORD

    @property
    def detections_file(self) -> Path:
        """Its detections, which need not exist."""
        return self.folder / RESULT

    def config_file(self) -> Path | None:
        """The resolved yaml of the training that the results lie in."""
        for folder in self.folder.resolve().parents[:SEARCHED_PARENTS]:
            files = sorted(folder.glob("*.yaml"))
            if files and (folder / "metrics.jsonl").is_file():
                return files[0]
        return None


def find_results(named: str | Path) -> Results:
    """The results in a folder: its own, else those of the last epoch below it."""
    folder = Path(named)
    if folder.is_file():
        folder = folder.parent
    if not folder.is_dir():
        raise DataError(f"{named}: no such folder; expected that of a training or of results")
    if _has_results(folder):
        return Results(folder)
    found = {file.parent for name in (RECORD, RESULT) for file in folder.rglob(name)}
    if not found and result_files(folder):
        return Results(folder)
    if not found:
        raise DataError(f"{named}: no results in it; {EXPECTED}")
    chosen = max(found, key=_order)
    return Results(chosen, len(found) - 1)


def _has_results(folder: Path) -> bool:
    return (folder / RECORD).is_file() or (folder / RESULT).is_file()


def _order(folder: Path) -> tuple[bool, int, float]:
    """The student before its teacher, then the last epoch, then the newest file."""
    is_teacher = "teacher" in folder.parts[-4:]
    epochs = [int(number) for number in EPOCH.findall(str(folder))]
    files = [folder / name for name in (RECORD, RESULT)]
    newest = max(file.stat().st_mtime for file in files if file.is_file())
    return not is_teacher, max(epochs, default=-1), newest
