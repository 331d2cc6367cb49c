"""DATA_CONFIG.COMMON_CLOUD: which points of a frame are joined, for models that see parts of them.

The block is read by the dataset, by the command that makes the database of objects, and where the
clouds of a teacher and its student are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from ..types import ConfigDict
from .options import option, read_options

WHERE = "DATA_CONFIG.COMMON_CLOUD"
PLACE_AND_INTENSITY = ("x", "y", "z", "intensity")
# Names of the columns that say where a point comes from.
SENSOR_COLUMN = "sensor"
AGE_COLUMN = "timestamp"
BEAM_COLUMN = "beam"


@dataclass(frozen=True)
class CloudOptions:
    """The points of an item. By default those of ``velodyne`` alone, as in KITTI."""

    name: str = option(
        "",
        help="ends the names of the database that `create_data.py kitti` makes for this cloud: "
        "`kitti_dbinfos_train_NAME.pkl` and `gt_database_NAME`",
    )
    folders: tuple[str, ...] = option(
        ("velodyne",),
        help="folders of `training/` whose points are joined, one for each sensor; several add the "
        "column `sensor`: 1 for the first folder, then 2, 4, 8",
    )
    sweeps: int = option(
        1,
        at_least=1,
        help="sweeps of each sensor, with the earlier ones from `FOLDER_sweeps`; several add the "
        "column `timestamp`: the age of a point in seconds",
    )
    beams: str = option(
        "none",
        choices=("none", "order", "elevation"),
        help="add the column `beam`, the number of the beam from the top. `order` counts by the "
        "order of KITTI's points, `elevation` by the beams of an HDL-64E",
    )

    @classmethod
    def from_config(cls, dataset_cfg: ConfigDict) -> CloudOptions:
        """The options of a DATA_CONFIG block."""
        options = read_options(cls, dataset_cfg.get("COMMON_CLOUD") or {}, WHERE)
        if not options.folders or len(set(options.folders)) < len(options.folders):
            raise ConfigError(
                f"{WHERE}.FOLDERS: expected different folders, found {list(options.folders)}"
            )
        if options.beams != "none" and options.sweeps > 1:
            raise ConfigError(
                f"{WHERE}.BEAMS: beams cannot be found in earlier sweeps, whose points are in the "
                "frame of the last one; expected SWEEPS: 1, or BEAMS: none"
            )
        is_kittis = options == CloudOptions(name=options.name)
        if not is_kittis and not options.name:
            raise ConfigError(
                f"{WHERE}.NAME is missing: the database of objects of this cloud needs a name of "
                "its own"
            )
        return options

    @property
    def features(self) -> tuple[str, ...]:
        """The columns of a point."""
        features = list(PLACE_AND_INTENSITY)
        if len(self.folders) > 1:
            features.append(SENSOR_COLUMN)
        if self.sweeps > 1:
            features.append(AGE_COLUMN)
        if self.beams != "none":
            features.append(BEAM_COLUMN)
        return tuple(features)

    @property
    def suffix(self) -> str:
        """End of the names of the database's files."""
        return f"_{self.name}" if self.name else ""
