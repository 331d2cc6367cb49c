"""What a user chooses of the quantisation."""

from __future__ import annotations

import dataclasses

from ...config import nearest
from ...errors import ConfigError

# Calibration methods, with their names in onnxruntime.
METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}


@dataclasses.dataclass(frozen=True)
class QuantizeOptions:
    """How a network becomes int8.

    Attributes:
        method: how the range of a tensor follows from its values on the calibration frames.
            ``minmax`` takes all, ``percentile`` cuts off rare ones, ``entropy`` the range whose
            int8 histogram has the lowest relative entropy to the float one.
        percentile: of the values inside a range, for ``percentile``.
        highest_error: the mean difference of scores of candidates that is accepted. Layers stay in
            float, the most sensitive first, until it is reached.
    """

    method: str = "minmax"
    percentile: float = 99.99
    highest_error: float = 0.01

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(
                f"calibration by '{self.method}'{nearest(self.method, METHODS)}; expected one of "
                f"{', '.join(METHODS)}"
            )
        if not 50 < self.percentile <= 100:
            raise ConfigError(f"percentile {self.percentile}: expected above 50, up to 100")
        if not self.highest_error > 0:
            raise ConfigError(f"highest error {self.highest_error}: expected more than 0")
