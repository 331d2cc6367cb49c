"""Finds out which channels each layer reads, by running codes through the detector.

Every layer's output is replaced by a code: one number per channel, the same at every place. The
modules between two layers keep or scale the codes. So the inputs of a layer show which channels
they come from (``codes.py``). Batch norms let codes pass. Prediction layers keep their true
outputs, so that proposals stay where they are.

A shortcut adds up two channels, and their codes with them. Then the layers are coded one at a time,
which shows each summand alone. Channels that meet in a sum are kept or dropped together
(``plan.py``). A detector that mixes channels in another way is refused by the name of the layer.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from ...errors import ConfigError
from ...models import Detector3DTemplate
from ...types import BatchDict
from .codes import TOLERANCE, ChannelCodes, Origin, Source
from .layers import (
    AllRead,
    Features,
    Layer,
    find_layers,
    layer_hooks,
    record_outputs,
    run_detector,
)
from .options import WHERE

# For each layer, and each time it runs in a forward pass: a value for every input channel.
InputSums: TypeAlias = dict[str, list[Tensor]]
InputOrigins: TypeAlias = dict[str, list[list[Origin]]]
Column: TypeAlias = tuple[str, int, int]  # name of a layer, number of its run, input channel


@dataclasses.dataclass(frozen=True)
class LayerFlow:
    """One layer of the teacher and the channels it reads.

    Attributes:
        layer: the layer.
        sources: for each input channel, the channels that are summed up in it. Empty for inputs
            that are no features of another layer: a prediction, or the detector's own input.
        no_empty_rows: no row of its input was all zeros.
    """

    layer: Layer
    sources: list[tuple[Source, ...]]
    no_empty_rows: bool = True


def trace_channels(
    model: Detector3DTemplate, predictions: set[str], batch_dict: BatchDict
) -> list[LayerFlow]:
    """The layers of ``model`` in the order in which they run, with the channels they read.

    Args:
        model: the teacher, in eval mode.
        predictions: names of the layers whose outputs are predictions.
        batch_dict: a batch on the model's device.
    """
    tracer = _ChannelTracer(model, predictions, batch_dict)
    origins = tracer.trace()
    tracer.resolve_sums(origins)
    flows = []
    for name, runs in origins.items():
        sources = _same_in_every_run(name, runs)
        flows.append(LayerFlow(tracer.layers[name], sources, tracer.no_empty_rows[name]))
    return flows


class _ChannelTracer:
    """Runs a detector with codes in place of features."""

    def __init__(
        self, model: Detector3DTemplate, predictions: set[str], batch_dict: BatchDict
    ) -> None:
        self.model = model
        self.batch_dict = batch_dict
        self.layers = find_layers(model)
        self.coded_layers = {
            name: layer
            for name, layer in self.layers.items()
            if name not in predictions and not layer.is_norm
        }
        self.codes = ChannelCodes(self.coded_layers)
        self.no_empty_rows: dict[str, bool] = {}
        prediction_layers = {name: self.layers[name] for name in predictions}
        self.predictions = record_outputs(model, prediction_layers, batch_dict)

    def trace(self) -> InputOrigins:
        """Origins of the inputs of every layer; None for an input that is not one channel."""
        first_code, second_code = self.codes.codes
        ones = self._run_with(torch.ones_like(first_code))
        first = self._run_with(first_code)
        second = self._run_with(second_code)
        origins: InputOrigins = {}
        for name, runs in ones.items():
            sums_of_runs = zip(runs, first[name], second[name])
            origins[name] = [self.codes.decode(*sums) for sums in sums_of_runs]
        return origins

    def resolve_sums(self, origins: InputOrigins) -> None:
        """Replace each None of ``origins`` by the channels that are summed up in the input.

        One layer at a time outputs its codes while all others output zeros. What this changes in an
        input is that layer's summand. A pass ends with the last of these inputs: in a detector with
        a sparse residual backbone most layers come after it.
        """
        sums = _unresolved(origins)
        if not sums:
            return
        readers = {name: len(origins[name]) for name, _, _ in sums}
        reading_runs = list(dict.fromkeys((name, run) for name, run, _ in sums))
        background = self._run_with(torch.zeros_like(self.codes.codes[0]), readers)
        for name in background:
            if name not in self.coded_layers:
                continue
            mask = self.codes.mask(name)
            ones = self._run_with(mask, readers)
            changed_runs = []
            for reader, run in reading_runs:
                if _changes(ones, background, reader, run).any():
                    changed_runs.append((reader, run))
            if not changed_runs:
                continue
            coded = [self._run_with(codes * mask, readers) for codes in self.codes.codes]
            for reader, run in changed_runs:
                zero = background[reader][run]
                changes = [_changes(ones, background, reader, run)]
                changes += [response[reader][run] - zero for response in coded]
                self._add_summands(sums, reader, run, changes)
        for (reader, run, column), sources in sums.items():
            if not sources:
                raise _unknown_origin(reader, column)
            origins[reader][run][column] = sources

    def _add_summands(
        self,
        sums: dict[Column, tuple[Source, ...]],
        reader: str,
        run: int,
        changes: list[Tensor],
    ) -> None:
        """Add the channels that ``changes``, three times (C_in,), belong to."""
        for column, origin in enumerate(self.codes.decode(*changes)):
            key = (reader, run, column)
            if key in sums and changes[0][column] != 0:
                if not origin:
                    raise _unknown_origin(reader, column)
                sums[key] += origin

    def _run_with(self, values: Tensor, readers: Mapping[str, int] | None = None) -> InputSums:
        """Run the detector while the coded layers output ``values`` (L,), one number per channel.

        Args:
            values: the outputs.
            readers: stop as soon as each of these layers has run so many times.

        Returns:
            the inputs of every layer that has run, (C_in,) float64, each summed over all rows.
        """
        input_sums: InputSums = {}

        def replace_output(
            layer: Layer, inputs: tuple[Features, ...], output: Features
        ) -> Features:
            rows = layer.as_rows(inputs[0])
            runs = input_sums.setdefault(layer.name, [])
            runs.append(rows.double().sum(dim=0).cpu())
            if readers and _have_run(input_sums, readers):
                raise AllRead
            no_empty_rows = bool((rows != 0).any(dim=1).all())
            self.no_empty_rows[layer.name] = (
                self.no_empty_rows.get(layer.name, True) and no_empty_rows
            )
            if layer.is_norm:
                return inputs[0]
            if layer.name in self.coded_layers:
                return layer.fill(output, self.codes.of_layer(layer.name, values))
            return self.predictions[layer.name][len(runs) - 1]

        with contextlib.suppress(AllRead), layer_hooks(self.layers, replace_output):
            run_detector(self.model, self.batch_dict)
        return input_sums


def _have_run(input_sums: InputSums, readers: Mapping[str, int]) -> bool:
    """Whether each of ``readers`` has run as often as it says."""
    return all(len(input_sums.get(name, ())) >= count for name, count in readers.items())


def _changes(ones: InputSums, background: InputSums, reader: str, run: int) -> Tensor:
    """What a layer's ones add to the inputs (C_in,) of a run; without differences of rounding."""
    zero = background[reader][run]
    changes = ones[reader][run] - zero
    return changes.masked_fill(changes.abs() <= TOLERANCE * zero.abs(), 0)


def _unresolved(origins: InputOrigins) -> dict[Column, tuple[Source, ...]]:
    """The inputs whose origin is None, each with an empty sum."""
    sums: dict[Column, tuple[Source, ...]] = {}
    for name, runs in origins.items():
        for run, columns in enumerate(runs):
            for column, origin in enumerate(columns):
                if origin is None:
                    sums[name, run, column] = ()
    return sums


def _same_in_every_run(name: str, runs: list[list[Origin]]) -> list[tuple[Source, ...]]:
    """The sources of a layer, which must be the same each time it runs."""
    if any(run != runs[0] for run in runs):
        raise ConfigError(
            f"{WHERE}: {name} runs {len(runs)} times in a forward pass, on other channels each "
            "time, so its inputs cannot be chosen once for all; use INIT_STUDENT: NONE"
        )
    return [origin or () for origin in runs[0]]


def _unknown_origin(name: str, column: int) -> ConfigError:
    return ConfigError(
        f"{WHERE}: cannot find out which channels input {column} of {name} is made of; the "
        "modules before it do more than select, repeat, scale or add up channels; use "
        "INIT_STUDENT: NONE"
    )
