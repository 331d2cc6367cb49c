"""Quantisation: an exported network with int8 convolutions.

options      what a user chooses
dense        the convolutions alone; ``editing`` replaces nodes of a network
int8         ranges from calibration frames, then QDQ nodes around the convolutions
upsampling   transposed convolutions as convolutions, which have int8 kernels
predictions  the heads' outputs in 256 steps of their own for every channel
scatter      pillars are quantised before they are scattered
sensitivity  what every layer loses, and which stay in float
run          all of it for an export
"""

from __future__ import annotations

from .options import METHODS, QuantizeOptions
from .run import HIGHEST_OPSET, Quantized, quantize_export

__all__ = ["HIGHEST_OPSET", "METHODS", "QuantizeOptions", "Quantized", "quantize_export"]
