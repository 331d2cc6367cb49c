"""The keys of DATA_CONFIG that only nuScenes has, under OpenPCDet's names."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from ..types import ConfigDict
from .names import nearest
from .options import option, option_keys, read_options

WHERE = "DATA_CONFIG"
# The columns of a point: the intensity is 0 to 255, the time is the age in seconds.
FEATURES = ("x", "y", "z", "intensity", "timestamp")


@dataclass(frozen=True)
class NuScenesOptions:
    """What a nuScenes frame consists of, and how often it is trained on."""

    version: str = option(
        "v1.0-trainval", help="folder of the tables, below DATA_PATH: `v1.0-mini`, `v1.0-test`, ..."
    )
    max_sweeps: int = option(
        10, at_least=1, help="sweeps joined to one frame, the newest one included"
    )
    pred_velocity: bool = option(
        False, help="boxes have the velocity vx, vy in metres per second as two more columns"
    )
    set_nan_velocity_to_zeros: bool = option(
        False, help="train an unknown velocity as standing still; else it stays NaN"
    )
    filter_min_points_in_gt: int = option(
        0, at_least=0, help="least number of LiDAR points of a labelled box that is kept"
    )
    balanced_resampling: bool = option(
        False, help="train on frames of rare classes more often (CBGS), every class equally often"
    )

    @classmethod
    def from_config(cls, dataset_cfg: ConfigDict) -> NuScenesOptions:
        """The options of a DATA_CONFIG block, which holds other keys too."""
        own = {key: dataset_cfg[key] for key in option_keys(cls) if key in dataset_cfg}
        if own.get("FILTER_MIN_POINTS_IN_GT") is False:  # OpenPCDet's way to write 0
            own["FILTER_MIN_POINTS_IN_GT"] = 0
        if dataset_cfg.get("COMMON_CLOUD"):
            raise ConfigError(
                f"{WHERE}.COMMON_CLOUD joins the sensors and sweeps of a KITTI folder; nuScenes "
                "joins its sweeps by MAX_SWEEPS"
            )
        cameras = dataset_cfg.get("CAMERA_CONFIG") or {}
        if cameras.get("USE_CAMERA"):
            raise ConfigError(
                f"{WHERE}.CAMERA_CONFIG.USE_CAMERA is true, but detectors of LiDAR points alone "
                "are supported; expected False, or no such block"
            )
        options = read_options(cls, own, WHERE)
        if not options.version or "/" in options.version:
            known = ("v1.0-trainval", "v1.0-mini", "v1.0-test")
            raise ConfigError(
                f"{WHERE}.VERSION: expected the name of a folder of tables, found "
                f"'{options.version}'{nearest(options.version, known)}"
            )
        return options
