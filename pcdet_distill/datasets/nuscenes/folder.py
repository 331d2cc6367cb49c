"""Where the files of a nuScenes version are.

OpenPCDet keeps each version in a folder of its own, ``DATA_PATH/VERSION``, with ``samples/``,
``sweeps/``, ``maps/`` and the folder of tables ``VERSION/`` in it. nuScenes' archives unpack to
another layout, in which nuscenes-devkit reads them: ``DATA_PATH/samples`` beside
``DATA_PATH/VERSION``, which holds the tables. Both are read. Info files and the database of objects
are in ``DATA_PATH/VERSION`` in either case.
"""

from __future__ import annotations

from pathlib import Path

from ...commands import command_text
from ...errors import DataError

CLOUDS = "samples"
LAYOUT = "DATA_PATH/VERSION/{samples, sweeps, maps, VERSION}, or nuscenes-devkit's layout"
DATASET_YAML = "dataset_configs/nuscenes_dataset.yaml"


class NuScenesFolder:
    """The folders of one version.

    Args:
        data_path: DATA_PATH.
        version: name of the folder of tables, such as ``v1.0-mini``.

    Attributes:
        root: holds the info files and the database of objects.
        clouds: the paths of point files and tables are relative to it.
    """

    def __init__(self, data_path: Path, version: str) -> None:
        self.version = version
        self.data_path = Path(data_path)
        self.root = self.data_path / version
        is_devkits = (self.data_path / CLOUDS).is_dir() and not (self.root / CLOUDS).is_dir()
        self.clouds = self.data_path if is_devkits else self.root

    @property
    def tables(self) -> Path:
        """The folder of the tables."""
        return self.clouds / self.version

    def check(self) -> None:
        """Refuse a folder that is not there, with what is there instead."""
        if self.root.is_dir():
            return
        if not self.data_path.is_dir():
            raise DataError(
                f"{self.data_path}: this dataset folder does not exist; expected nuScenes as "
                f"{LAYOUT}"
            )
        versions = sorted(path.name for path in self.data_path.glob("v*") if path.is_dir())
        found = f"it holds {', '.join(versions)}" if versions else "it holds no version"
        raise DataError(
            f"{self.data_path}: there is no folder {self.version}, {found}; set DATA_CONFIG.VERSION"
            f" to the one you have, or unpack nuScenes as {LAYOUT}"
        )

    def check_tables(self) -> None:
        """Refuse a version without tables."""
        self.check()
        if not (self.tables / "sample.json").is_file():
            raise DataError(
                f"{self.tables / 'sample.json'}: this table of nuScenes does not exist; expected "
                f"{LAYOUT}"
            )


def create_data_command(version: str) -> str:
    """The command that makes the info files and the database of objects."""
    return command_text("data", "nuscenes", "CFG", "--version", version)
