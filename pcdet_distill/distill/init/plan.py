"""Which channels of which layers are kept, and what follows from it for every other layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from .channels import LayerFlow, Source
from .layers import layers_of
from .options import WHERE


class Plan:
    """The flow of channels through the teacher, and how many of them the student keeps.

    Args:
        flows: the teacher's layers in running order.
        narrower: names of those that lose channels.
        teacher, student: the detectors.
    """

    def __init__(
        self, flows: Sequence[LayerFlow], narrower: set[str], teacher: nn.Module, student: nn.Module
    ) -> None:
        self.flows = {flow.layer.name: flow for flow in flows}
        self.narrower = narrower
        self.teacher_layers, self.student_layers = layers_of(teacher), layers_of(student)
        self.kept: dict[str, Tensor] = {}
        self._leader = _groups(flows, narrower)
        self._exact: dict[str, bool] = {}
        self._check()

    @property
    def groups(self) -> dict[str, list[str]]:
        """Layers whose channels are kept or dropped together, by the name of one of them."""
        members: dict[str, list[str]] = {}
        for name in self.flows:
            if name in self.narrower:
                members.setdefault(self._leader[name], []).append(name)
        return members

    def num_kept(self, name: str) -> int:
        """Channels of a layer that the student has."""
        return self.student_layers[name].outputs

    def keep(self, group: str, channels: Tensor) -> None:
        """Choose the channels (sorted) of all layers of a group."""
        for name in self.groups[group]:
            self.kept[name] = channels

    def outputs(self, name: str) -> Tensor:
        """Output channels of a layer that stay, for a norm those of its input."""
        flow = self.flows.get(name)
        if flow is not None and flow.layer.is_norm:
            return self.inputs(name)
        return self.kept.get(name, torch.arange(self.student_layers[name].outputs))

    def inputs(self, name: str) -> Tensor:
        """Input channels of a layer that stay."""
        kept = {layer: set(channels.tolist()) for layer, channels in self.kept.items()}
        stay = [
            column
            for column, sources in enumerate(self.flows[name].sources)
            if all(layer not in kept or channel in kept[layer] for layer, channel in sources)
        ]
        if len(stay) != self.student_layers[name].inputs:
            raise ConfigError(
                f"{WHERE}: {len(stay)} inputs of {name} come from channels that are kept, but the "
                f"student's {name} has {self.student_layers[name].inputs}; the layers before it "
                "are joined in another way than the teacher's, or show nothing on the first frames"
            )
        return torch.tensor(stay, dtype=torch.long)

    def is_exact(self, name: str) -> bool:
        """Whether a layer of the student computes what the teacher's does, because nothing before it was dropped."""
        return name not in self.flows or self._exact[name]

    def settle(self) -> None:
        """After all choices: find out which layers stay exact."""
        for name, flow in self.flows.items():
            complete = flow.layer.is_norm or len(self.inputs(name)) == len(
                flow.sources
            )  # norms mix no channels
            self._exact[name] = complete and self._before_is_exact(flow)

    def _before_is_exact(self, flow: LayerFlow) -> bool:
        return all(self._exact[layer] for sources in flow.sources for layer, _ in sources)

    def readers(self, group: str) -> list[tuple[str, list[list[int]]]]:
        """Layers (no norms) that see a group's channels: name, and for each channel the inputs it is found in."""
        found = []
        for name, flow in self.flows.items():
            if flow.layer.is_norm:
                continue
            places: dict[int, list[int]] = {}
            for column, sources in enumerate(flow.sources):
                for channel in {
                    channel for layer, channel in sources if self._leader.get(layer) == group
                }:
                    places.setdefault(channel, []).append(column)
            if places:
                total = self.flows[group].layer.outputs
                found.append((name, [places.get(channel, []) for channel in range(total)]))
        return found

    def read_layers(self) -> set[str]:
        """Layers whose channels another layer (no norm) sees."""
        return {
            layer
            for flow in self.flows.values()
            if not flow.layer.is_norm
            for sources in flow.sources
            for layer, _ in sources
        }

    def _check(self) -> None:
        """Refuse what did not run, and predictions of another size."""
        read = self.read_layers()
        for name, layer in self.student_layers.items():
            smaller = layer.module.weight.shape != self.teacher_layers[name].module.weight.shape
            if smaller and name not in self.flows:
                raise ConfigError(
                    f"{WHERE}: {name} did not run on the first frames, so what its channels are for is "
                    "not known; use INIT_STUDENT: NONE"
                )
        for name in sorted(self.narrower):
            kept = self.num_kept(name)
            if name not in read:
                raise ConfigError(
                    f"{WHERE}: {name}, which no other layer reads, has {kept} outputs in the student and "
                    f"{self.flows[name].layer.outputs} in the teacher: they predict different things"
                )
            partners = {other: self.num_kept(other) for other in self.groups[self._leader[name]]}
            if len(set(partners.values())) > 1:
                raise ConfigError(
                    f"{WHERE}: the channels of {' and '.join(partners)} are added up, but the student "
                    f"has {' and '.join(map(str, partners.values()))} of them"
                )


def _groups(flows: Sequence[LayerFlow], narrower: set[str]) -> dict[str, str]:
    """For each narrower layer, the layer that its group is named after: layers whose channels meet in sums."""
    leader = {name: name for name in narrower}

    def find(name: str) -> str:
        return name if leader[name] == name else find(leader[name])

    order = [flow.layer.name for flow in flows]
    for flow in flows:
        for sources in flow.sources:
            if not any(layer in narrower for layer, _ in sources):
                continue
            _check_sum(flow.layer.name, sources, narrower)
            for layer, _ in sources[1:]:
                first, second = sorted((find(sources[0][0]), find(layer)), key=order.index)
                leader[second] = first
    return {name: find(name) for name in narrower}


def _check_sum(reader: str, sources: tuple[Source, ...], narrower: set[str]) -> None:
    """What is added up must be channels of one number, of different layers that all lose channels."""
    if len(sources) > 1 and (
        len({channel for _, channel in sources}) > 1
        or len({layer for layer, _ in sources if layer in narrower}) < len(sources)
    ):
        told = " and ".join(f"channel {channel} of {layer}" for layer, channel in sources)
        raise ConfigError(
            f"{WHERE}: {reader} sees the sum of {told}; only channels of one number can be kept or "
            "dropped together, so this student cannot be initialised from its teacher; use NONE"
        )
