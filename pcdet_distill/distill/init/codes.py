"""Codes of channels: random numbers by which a channel is recognised behind other modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from .layers import Layer

# Name of a layer and number of one of its output channels.
Source: TypeAlias = tuple[str, int]

# The channels that are summed up in one input: usually one. Empty: the input depends on no coded
# layer. None: it could not be found out.
Origin: TypeAlias = tuple[Source, ...] | None

# Codes lie between 1.1 and 2.0. The factor 1 is left for inputs that no coded layer changes.
LOWEST_CODE = 1.1
CODE_RANGE = 0.9
TOLERANCE = 4e-6  # float32 sums over the rows of a map are exact to about 1e-6
CODE_SEED = 0


class ChannelCodes:
    """Two different numbers for every output channel of ``layers``.

    Everything between two layers (ReLU, max pooling, concatenation, scattering, interpolation)
    multiplies a constant channel by a factor that does not depend on its value. Call an input r
    when all channels output 1. When they output their codes, it is ``code * r``. The quotient is
    the code, which identifies the channel.

    There are two codes because the quotient of a sum may equal one code by chance, or by rounding.
    An input must match both codes of a channel.

    Attributes:
        codes: (2, L), for L channels of all layers.
    """

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self._widths = {name: layer.out_channels for name, layer in layers.items()}
        self._first_label: dict[str, int] = {}  # a channel's label is its column in ``codes``
        self._sources: list[Source] = []  # by label
        for name, width in self._widths.items():
            self._first_label[name] = len(self._sources)
            self._sources += [(name, channel) for channel in range(width)]
        self.codes = _draw_codes(len(self._sources))

    def of_layer(self, name: str, values: Tensor) -> Tensor:
        """The part of ``values`` (L,) that belongs to the channels of one layer."""
        first = self._first_label[name]
        return values[first : first + self._widths[name]]

    def mask(self, name: str) -> Tensor:
        """(L,), 1 for the channels of one layer and 0 for all others."""
        mask = torch.zeros_like(self.codes[0])
        self.of_layer(name, mask).fill_(1)
        return mask

    def decode(self, ones: Tensor, first: Tensor, second: Tensor) -> list[Origin]:
        """Origins of a layer's inputs.

        Args:
            ones: (C_in,) float64, each input summed over its rows, when all channels output 1.
            first: (C_in,) the same when they output their first codes.
            second: (C_in,) the same for their second codes.
        """
        factors = torch.stack([first, second]) / ones
        labels = self._nearest_labels(factors[0])
        distance = (factors - self.codes.double()[:, labels]).abs()
        is_code = (distance < TOLERANCE).all(dim=0).tolist()
        is_constant = ((factors - 1).abs() < TOLERANCE).all(dim=0).tolist()
        origins: list[Origin] = []
        for column, label in enumerate(labels.tolist()):
            if is_code[column]:
                origins.append((self._sources[label],))
            else:
                origins.append(() if is_constant[column] else None)
        is_zero = (ones == 0) & (first == 0) & (second == 0)
        if is_zero.any():
            self._fill_zero_inputs(origins, is_zero.tolist())
        return origins

    def _nearest_labels(self, factors: Tensor) -> Tensor:
        """(C_in,) label of the smallest first code that is not below each factor."""
        first_codes = self.codes[0].double()
        order = first_codes.argsort()
        positions = torch.searchsorted(first_codes[order], factors.nan_to_num(0.0) - TOLERANCE)
        return order[positions.clamp(max=len(order) - 1)]

    def _fill_zero_inputs(self, origins: list[Origin], is_zero: list[bool]) -> None:
        """Find the origins of inputs that were zero in every row, from the pattern of the others.

        A RoI head flattens its pooled grid (C, places) or (places, C) to one row. A cell of the
        grid that is empty in every proposal gives zeros, and zeros carry no code. If neither order
        explains all other inputs, the zero inputs count as inputs that every student has.
        """
        known: dict[int, tuple[Source, ...]] = {}
        for column, origin in enumerate(origins):
            if is_zero[column]:
                origins[column] = ()
            elif origin:
                known[column] = origin
        names: set[str] = set()
        for origin in known.values():
            names.update(layer for layer, _ in origin)
        if len(names) != 1 or None in origins:
            return
        name = names.pop()
        channels = self._widths[name]
        places = len(origins) // channels
        if channels * places != len(origins):
            return
        patterns: list[Callable[[int], int]] = [
            lambda column: column // places,
            lambda column: column % channels,
        ]
        for channel_of in patterns:
            expected: list[Origin] = [
                ((name, channel_of(column)),) for column in range(len(origins))
            ]
            if all(expected[column] == origin for column, origin in known.items()):
                origins[:] = expected
                return


def _draw_codes(count: int) -> Tensor:
    """(2, count) random numbers; no two of a row are closer than 0.4 steps of an even spacing."""
    generator = torch.Generator().manual_seed(CODE_SEED)
    steps = torch.stack([torch.randperm(count, generator=generator) for _ in range(2)])
    jitter = 0.2 + 0.6 * torch.rand(2, count, generator=generator)
    return LOWEST_CODE + CODE_RANGE * (steps + jitter) / max(count, 1)
