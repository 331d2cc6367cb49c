"""The logs of a folder of Argoverse 2's sensor data set, and which split each sweep belongs to.

Argoverse 2 unpacks to ``sensor/{train, val, test}/LOG/``. A log holds ``annotations.feather``,
``city_SE3_egovehicle.feather`` and ``sensors/lidar/TIMESTAMP.feather``. A folder of a few logs
without splits is read too, and a single log whose sweeps lie beside its tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError

SPLITS = ("train", "val", "test")
SENSOR = "sensor"
LIDAR = Path("sensors") / "lidar"
ANNOTATIONS = "annotations.feather"
POSES = "city_SE3_egovehicle.feather"
LAYOUT = "sensor/{train,val,test}/LOG/sensors/lidar/TIMESTAMP.feather"


@dataclass(frozen=True)
class Log:
    """One drive of about 15 seconds.

    Attributes:
        path: its folder.
        sweeps: the point files of its frames in this split, by time.
    """

    path: Path
    sweeps: tuple[Path, ...]

    @property
    def name(self) -> str:
        """Argoverse 2's id of the log."""
        return self.path.name

    @property
    def annotations(self) -> Path:
        """The file of all labels; a test log has none."""
        return self.path / ANNOTATIONS

    @property
    def poses(self) -> Path:
        """The file of the vehicle's poses."""
        return self.path / POSES


def timestamp_of(sweep: Path) -> int:
    """Time of a point file in nanoseconds, which is its name."""
    return int(sweep.stem)


def sweeps_of(log: Path) -> tuple[Path, ...]:
    """The point files of a log by time.

    They are in ``sensors/lidar``; a log that was put together by hand has them in ``lidar`` or
    beside its tables.
    """
    folders = [folder for folder in (log / LIDAR, log / "lidar") if folder.is_dir()]
    files = (folders[0] if folders else log).glob("*.feather")
    return tuple(sorted((path for path in files if path.stem.isdigit()), key=timestamp_of))


def find_splits(root: Path, val_share: float) -> dict[str, list[Log]]:
    """The logs of each split in the order of their names.

    Args:
        root: the folder, with or without ``sensor/``.
        val_share: of a folder without split folders, the share of the logs that is for validation:
            the last ones. Of a single log it is the last sweeps.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: this dataset folder does not exist; expected Argoverse 2 as {LAYOUT}"
        )
    top = root / SENSOR if (root / SENSOR).is_dir() else root
    splits = {name: _logs_in(top / name) for name in SPLITS if (top / name).is_dir()}
    if any(splits.values()):
        return splits
    is_log = (top / ANNOTATIONS).is_file() or (top / LIDAR).is_dir()
    logs = _logs_of([top]) if is_log else _logs_in(top) or _logs_of([top])
    if not logs:
        raise DataError(f"{root}: no sweeps found; expected Argoverse 2 as {LAYOUT}")
    return _divide(logs, val_share)


def _logs_in(folder: Path) -> list[Log]:
    return _logs_of(sorted(path for path in folder.iterdir() if path.is_dir()))


def _logs_of(folders: list[Path]) -> list[Log]:
    logs = [Log(folder, sweeps_of(folder)) for folder in folders]
    return [log for log in logs if log.sweeps]


def _divide(logs: list[Log], val_share: float) -> dict[str, list[Log]]:
    """The last logs for validation; of a single log its last sweeps, and of a single sweep both."""
    if len(logs) > 1:
        first = _first_of_val(len(logs), val_share)
        return {"train": logs[:first], "val": logs[first:]}
    (log,) = logs
    if len(log.sweeps) == 1:
        return {"train": [log], "val": [log]}
    first = _first_of_val(len(log.sweeps), val_share)
    train = Log(log.path, log.sweeps[:first])
    val = Log(log.path, log.sweeps[first:])
    return {"train": [train], "val": [val]}


def _first_of_val(count: int, val_share: float) -> int:
    """Where validation begins: at least one entry is on either side."""
    return min(max(round(count * (1 - val_share)), 1), count - 1)


def check_splits(splits: Mapping[str, list[Log]], root: Path) -> None:
    """Refuse a folder without training or validation logs, and a log in two split folders."""
    for name in ("train", "val"):
        if not splits.get(name):
            raise DataError(f"{root}: no log for the split {name}; expected {LAYOUT}")
    paths = {log.path for log in splits["train"]}
    names = {path.name for path in paths}
    for log in splits["val"]:
        if log.name in names and log.path not in paths:  # a log may be divided by time
            raise DataError(f"{root}: log {log.name} is in train and in val")
