"""The channels of the teacher that the student keeps, and the inputs that follow from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from .channels import LayerFlow
from .codes import Source
from .layers import find_layers
from .options import WHERE


@dataclasses.dataclass(frozen=True)
class Reader:
    """A layer that reads the channels of a group.

    Attributes:
        name: the layer.
        columns: for each channel of the group, the inputs in which the layer reads it. There are
            several where features were flattened, one where they were not, none for a channel that
            was left out.
    """

    name: str
    columns: list[list[int]]

    @property
    def most_columns(self) -> int:
        """The largest number of inputs for one channel."""
        return max(len(columns) for columns in self.columns)


class ChannelPlan:
    """How channels flow through the teacher, and which of them the student keeps.

    Args:
        flows: the teacher's layers in running order.
        narrower: names of the layers that lose channels.
        teacher: the teacher.
        student: the student.

    Attributes:
        kept: by layer, the output channels that stay, in ascending order. ``keep`` fills it.
    """

    def __init__(
        self, flows: Sequence[LayerFlow], narrower: set[str], teacher: nn.Module, student: nn.Module
    ) -> None:
        self.flows = {flow.layer.name: flow for flow in flows}
        self.narrower = narrower
        self.teacher_layers = find_layers(teacher)
        self.student_layers = find_layers(student)
        self.kept: dict[str, Tensor] = {}
        self._group_of = _group_layers(flows, narrower)
        self._exact: dict[str, bool] = {}
        self._check_all_layers_ran()
        self._check_widths()

    @property
    def groups(self) -> dict[str, list[str]]:
        """Layers whose channels are kept or dropped together, by the name of the first."""
        members: dict[str, list[str]] = {}
        for name in self.flows:
            if name in self.narrower:
                members.setdefault(self._group_of[name], []).append(name)
        return members

    def num_kept(self, name: str) -> int:
        """Number of output channels that a layer has in the student."""
        return self.student_layers[name].out_channels

    def keep(self, group: str, channels: Tensor) -> None:
        """Keep ``channels`` (ascending) of all layers of a group."""
        for name in self.groups[group]:
            self.kept[name] = channels

    def kept_outputs(self, name: str) -> Tensor:
        """Output channels of a layer that stay; for a norm those of its input."""
        flow = self.flows.get(name)
        if flow is not None and flow.layer.is_norm:
            return self.kept_inputs(name)
        if name in self.kept:
            return self.kept[name]
        return torch.arange(self.student_layers[name].out_channels)

    def kept_inputs(self, name: str) -> Tensor:
        """Input channels of a layer that stay: those whose sources all stay."""
        kept = {layer: set(channels.tolist()) for layer, channels in self.kept.items()}
        inputs = []
        for column, sources in enumerate(self.flows[name].sources):
            if all(layer not in kept or channel in kept[layer] for layer, channel in sources):
                inputs.append(column)
        expected = self.student_layers[name].in_channels
        if len(inputs) != expected:
            raise ConfigError(
                f"{WHERE}: {len(inputs)} inputs of {name} come from channels that are kept, but "
                f"the student's {name} has {expected}; the layers before it are joined in another "
                "way than the teacher's, or output only zeros on the first frames"
            )
        return torch.tensor(inputs, dtype=torch.long)

    def find_exact_layers(self) -> None:
        """Once all channels are chosen: find the layers that compute what the teacher's compute."""
        for name, flow in self.flows.items():
            # A norm mixes no channels: those that stay are not affected by those that are dropped.
            all_inputs_stay = flow.layer.is_norm or len(self.kept_inputs(name)) == len(flow.sources)
            self._exact[name] = all_inputs_stay and self._has_exact_sources(flow)

    def is_exact(self, name: str) -> bool:
        """Whether a student's layer gives the teacher's output for the kept channels.

        It does as long as no channel before it was dropped.
        """
        return name not in self.flows or self._exact[name]

    def _has_exact_sources(self, flow: LayerFlow) -> bool:
        layers_before: set[str] = set()
        for sources in flow.sources:
            layers_before.update(layer for layer, _ in sources)
        return all(self._exact[layer] for layer in layers_before)

    def readers(self, group: str) -> list[Reader]:
        """The layers (no norms) that read the channels of a group."""
        readers = []
        for name, flow in self.flows.items():
            if flow.layer.is_norm:
                continue
            columns: list[list[int]] = [[] for _ in range(self.flows[group].layer.out_channels)]
            for column, sources in enumerate(flow.sources):
                for channel in self._channels_of_group(sources, group):
                    columns[channel].append(column)
            if any(columns):
                readers.append(Reader(name, columns))
        return readers

    def _channels_of_group(self, sources: tuple[Source, ...], group: str) -> set[int]:
        """The channels among ``sources`` that are outputs of layers of ``group``."""
        return {channel for layer, channel in sources if self._group_of.get(layer) == group}

    def layers_that_are_read(self) -> set[str]:
        """Layers whose output channels another layer (no norm) reads."""
        names: set[str] = set()
        for flow in self.flows.values():
            if not flow.layer.is_norm:
                for sources in flow.sources:
                    names.update(layer for layer, _ in sources)
        return names

    def _check_all_layers_ran(self) -> None:
        for name, layer in self.student_layers.items():
            teacher_shape = self.teacher_layers[name].module.weight.shape
            if layer.module.weight.shape != teacher_shape and name not in self.flows:
                raise ConfigError(
                    f"{WHERE}: {name} did not run on the first frames, so the use of its channels "
                    "is unknown; use INIT_STUDENT: NONE"
                )

    def _check_widths(self) -> None:
        """Refuse predictions of another size, and summed layers of different widths."""
        read = self.layers_that_are_read()
        for name in sorted(self.narrower):
            kept = self.num_kept(name)
            if name not in read:
                raise ConfigError(
                    f"{WHERE}: {name}, which no other layer reads, has {kept} outputs in the "
                    f"student and {self.flows[name].layer.out_channels} in the teacher: they "
                    "predict different things"
                )
            widths = {member: self.num_kept(member) for member in self.groups[self._group_of[name]]}
            if len(set(widths.values())) > 1:
                raise ConfigError(
                    f"{WHERE}: the channels of {' and '.join(widths)} are added up, but the "
                    f"student has {' and '.join(map(str, widths.values()))} of them"
                )


def _group_layers(flows: Sequence[LayerFlow], narrower: set[str]) -> dict[str, str]:
    """For each narrower layer the first layer of its group: layers whose channels meet in sums.

    A union-find structure: each layer points to an earlier one of its group, the first to itself.
    """
    parent = {name: name for name in narrower}

    def first_of_group(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    order = [flow.layer.name for flow in flows]
    for flow in flows:
        for sources in flow.sources:
            if not any(layer in narrower for layer, _ in sources):
                continue
            _check_sum(flow.layer.name, sources, narrower)
            summand = sources[0][0]
            for other, _ in sources[1:]:
                pair = [first_of_group(summand), first_of_group(other)]
                earlier, later = sorted(pair, key=order.index)
                parent[later] = earlier
    return {name: first_of_group(name) for name in narrower}


def _check_sum(reader: str, sources: tuple[Source, ...], narrower: set[str]) -> None:
    """Refuse sums that cannot be kept or dropped as a whole.

    The summands must have one channel number, and come from different layers that all lose
    channels.
    """
    if len(sources) == 1:
        return
    channels = {channel for _, channel in sources}
    narrower_summands = {layer for layer, _ in sources if layer in narrower}
    if len(channels) > 1 or len(narrower_summands) < len(sources):
        summands = " and ".join(f"channel {channel} of {layer}" for layer, channel in sources)
        raise ConfigError(
            f"{WHERE}: {reader} reads the sum of {summands}; only channels of equal number can be "
            "kept or dropped together, so this student cannot be initialised from its teacher; "
            "use NONE"
        )
