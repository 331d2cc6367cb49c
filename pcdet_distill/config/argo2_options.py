"""The keys of DATA_CONFIG of Argoverse 2, under OpenPCDet's names where it has them."""

from __future__ import annotations

from dataclasses import dataclass

from ..types import ConfigDict
from .options import option, option_keys, read_options


@dataclass(frozen=True)
class Argo2Options:
    """What a frame of Argoverse 2 consists of, and how far it is evaluated."""

    max_sweeps: int = option(
        1, at_least=1, help="sweeps joined to one frame, the newest one included"
    )
    evaluate_range: float = option(
        200.0,
        above=0,
        help="objects and detections farther from the vehicle do not count; av2's own default is "
        "150",
    )

    @classmethod
    def from_config(cls, dataset_cfg: ConfigDict) -> Argo2Options:
        """The options of a DATA_CONFIG block, which holds other keys too."""
        own = {key: dataset_cfg[key] for key in option_keys(cls) if key in dataset_cfg}
        return read_options(cls, own, "DATA_CONFIG")
