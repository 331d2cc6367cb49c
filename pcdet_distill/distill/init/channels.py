"""Which channels does a layer see? Found by watching numbers run through the detector, not by reading its code.

Every layer puts out a code instead of its features: one number per channel, the same at every place. Batch norms let
it pass. Whatever lies between two layers (ReLU, maxima, concatenation, scattering to a map,
grouping, interpolation) keeps a code or scales it, so that the ratio of two runs with different codes tells, for every
input of a later layer, which channel of which layer it is. Predictions keep their true values, and with them proposals.

Where two channels are added up (a shortcut), their codes mix. Then the layers are watched one at a time, and channels
that meet in a sum are kept or dropped together. What cannot be told apart even so is refused by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError
from .layers import Layer, layers_of, listening, run
from .options import WHERE

Source = tuple[str, int]  # layer and channel
LOWEST_CODE, CODE_RANGE = (
    1.1,
    0.9,
)  # codes are factors: 1 is what does not depend on any coded layer
TOLERANCE = 4e-6
CODE_SEED = 0


@dataclasses.dataclass(frozen=True)
class LayerFlow:
    """A layer in running order.

    Attributes:
        layer: the teacher's.
        sources: for each input channel, the channels that are summed up in it; empty: a prediction or the detector's
            own input.
        everywhere: every row of the input holds features; not so where some were replaced by zeros.
    """

    layer: Layer
    sources: list[tuple[Source, ...]]
    everywhere: bool = True


def trace_channels(
    model: Any, predictions: set[str], batch_dict: Mapping[str, Any]
) -> list[LayerFlow]:
    """The layers of ``model`` that run, in running order, with the origin of their inputs.

    Args:
        model: the teacher, in eval mode.
        predictions: names of the layers whose output no layer sees as features.
        batch_dict: a batch on the model's device.
    """
    tracer = _Tracer(model, predictions, batch_dict)
    inputs = tracer.read_all()
    if any(None in columns for calls in inputs.values() for columns in calls):
        tracer.resolve_sums(inputs)
    return [
        LayerFlow(tracer.layers[name], _one_answer(name, calls), tracer.everywhere[name])
        for name, calls in inputs.items()
    ]


class _Tracer:
    """Runs the detector with codes in place of features."""

    def __init__(self, model: Any, predictions: set[str], batch_dict: Mapping[str, Any]) -> None:
        self.model, self.batch_dict = model, batch_dict
        self.layers = layers_of(model)
        self.coded = {
            name: layer
            for name, layer in self.layers.items()
            if name not in predictions and not layer.is_norm
        }
        total = sum(layer.outputs for layer in self.coded.values())
        self.codes = _draw_codes(total)  # (2, channels of all coded layers)
        starts = (
            torch.tensor([0, *(layer.outputs for layer in self.coded.values())]).cumsum(0).tolist()
        )
        self.first = dict(zip(self.coded, starts))
        self.owners = [
            (name, channel)
            for name, layer in self.coded.items()
            for channel in range(layer.outputs)
        ]
        self.everywhere: dict[str, bool] = {}
        self.true_outputs: dict[str, list[Any]] = {}
        with listening({name: self.layers[name] for name in predictions}, self._remember):
            run(model, batch_dict)

    def _remember(self, layer: Layer, inputs: tuple, output: Any) -> None:
        self.true_outputs.setdefault(layer.name, []).append(output)

    def read_all(self) -> dict[str, list[list]]:
        """For every run of every layer, each input's sources; None where they are not one channel."""
        ones, first, second = (
            self._watch(codes) for codes in (torch.ones_like(self.codes[0]), *self.codes)
        )
        return {
            name: [self._decode(*call) for call in zip(calls, first[name], second[name])]
            for name, calls in ones.items()
        }

    def resolve_sums(self, inputs: dict[str, list[list]]) -> None:
        """Fill in what ``read_all`` left open, by watching one coded layer at a time."""
        unclear = [
            (name, call)
            for name, calls in inputs.items()
            for call, columns in enumerate(calls)
            if None in columns
        ]
        nothing = self._watch(torch.zeros_like(self.codes[0]))
        found: dict[tuple[str, int, int], tuple[Source, ...]] = {}
        for name, layer in self.coded.items():
            mask = torch.zeros_like(self.codes[0])
            mask[self.first[name] : self.first[name] + layer.outputs] = 1
            runs = [self._watch(codes * mask) for codes in (torch.ones_like(mask), *self.codes)]
            for reader, call in unclear:
                steps = [heard[reader][call] - nothing[reader][call] for heard in runs]
                steps[0][steps[0].abs() <= TOLERANCE * nothing[reader][call].abs()] = 0
                if not steps[0].any():
                    continue
                for column, sources in enumerate(self._decode(*steps)):
                    if steps[0][column] != 0 and inputs[reader][call][column] is None:
                        place = (reader, call, column)
                        found[place] = found.get(place, ()) + (
                            sources or _raise(_unknown(reader, column))
                        )
        for reader, call in unclear:
            columns = inputs[reader][call]
            columns[:] = [
                found.get((reader, call, column)) or _raise(_unknown(reader, column))
                if sources is None
                else sources
                for column, sources in enumerate(columns)
            ]

    def _watch(self, codes: Tensor) -> dict[str, list[Tensor]]:
        """Sums (C_in,) float64 over the rows of every layer's input, run by run, while coded layers say ``codes``."""
        heard: dict[str, list[Tensor]] = {}

        def listener(layer: Layer, inputs: tuple, output: Any) -> Any:
            calls, rows = heard.setdefault(layer.name, []), layer.rows(inputs[0])
            calls.append(rows.double().sum(dim=0).cpu())
            self.everywhere[layer.name] = self.everywhere.get(layer.name, True) and bool(
                (rows != 0).any(dim=1).all()
            )
            if layer.is_norm:
                return inputs[0]
            if layer.name not in self.coded:
                return self.true_outputs[layer.name][len(calls) - 1]
            start = self.first[layer.name]
            return layer.spread(codes[start : start + layer.outputs], output)

        with listening(self.layers, listener):
            run(self.model, self.batch_dict)
        return heard

    def _decode(self, ones: Tensor, first: Tensor, second: Tensor) -> list:
        """The sources of every column: (), one channel, or None."""
        factors = torch.stack([first, second]) / ones
        order = self.codes[0].double().argsort()
        at = torch.searchsorted(
            self.codes[0].double()[order], factors[0].nan_to_num(0.0) - TOLERANCE
        )
        nearest = order[at.clamp(max=len(order) - 1)]
        is_code = ((factors - self.codes.double()[:, nearest]).abs() < TOLERANCE).all(dim=0)
        is_constant = ((factors - 1).abs() < TOLERANCE).all(dim=0)
        silent = (ones == 0) & (first == 0) & (second == 0)
        columns: list = [
            (self.owners[label],) if code else () if constant else None
            for label, code, constant in zip(
                nearest.tolist(), is_code.tolist(), is_constant.tolist()
            )
        ]
        if silent.any():
            self._fill_silent(columns, silent.tolist())
        return columns

    def _fill_silent(self, columns: list, silent: list[bool]) -> None:
        """Inputs that were zero everywhere, as a corner of a grid no object fills: told from how the others repeat.

        Grids flattened to a row go by channel, then place, or by place, then channel. Where neither fits all other
        inputs, or nothing else is known, they count as inputs that all students have.
        """
        known = {
            column: sources
            for column, sources in enumerate(columns)
            if not silent[column] and sources
        }
        columns[:] = [() if is_silent else sources for is_silent, sources in zip(silent, columns)]
        names = {layer for sources in known.values() for layer, _ in sources}
        if len(names) != 1 or None in columns:
            return
        name = names.pop()
        channels, places = self.coded[name].outputs, len(columns) // self.coded[name].outputs
        for pattern in (lambda column: column // places, lambda column: column % channels):
            expected = [((name, pattern(column)),) for column in range(len(columns))]
            if channels * places == len(columns) and all(
                known[column] == expected[column] for column in known
            ):
                columns[:] = expected
                return


def _draw_codes(count: int) -> Tensor:
    """Two numbers (2, count) for each channel, no two alike."""
    generator = torch.Generator().manual_seed(CODE_SEED)
    places = torch.stack([torch.randperm(count, generator=generator) for _ in range(2)])
    jitter = 0.2 + 0.6 * torch.rand(2, count, generator=generator)
    return LOWEST_CODE + CODE_RANGE * (places + jitter) / max(count, 1)


def _one_answer(name: str, calls: list[list]) -> list:
    """A layer that runs several times must see the same channels every time."""
    if any(call != calls[0] for call in calls):
        raise ConfigError(
            f"{WHERE}: {name} runs {len(calls)} times in a forward pass, on other channels each time, so "
            "there is no one choice of its inputs; use INIT_STUDENT: NONE"
        )
    return calls[0]


def _unknown(name: str, column: int) -> ConfigError:
    return ConfigError(
        f"{WHERE}: which channels input {column} of {name} is made of cannot be told; what lies before "
        "it does more than choose, repeat, scale or add up channels; use INIT_STUDENT: NONE"
    )


def _raise(error: ConfigError) -> Any:
    raise error
