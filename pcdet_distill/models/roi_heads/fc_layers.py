"""Fully connected layers of second stages, and their initial weights."""

from __future__ import annotations

from torch import nn

FullyConnected = (nn.Conv1d, nn.Conv2d, nn.Linear)


def fc_layer(input_channels: int, output_channels: int, on_rows: bool = False) -> list[nn.Module]:
    """A fully connected layer, batch norm and ReLU on (N, C, 1), or on (N, C) when ``on_rows``.

    OpenPCDet writes most of them as convolutions of size 1, and checkpoints have their shapes.
    """
    first: nn.Module
    if on_rows:
        first = nn.Linear(input_channels, output_channels, bias=False)
    else:
        first = nn.Conv1d(input_channels, output_channels, 1, bias=False)
    return [first, nn.BatchNorm1d(output_channels), nn.ReLU()]


def init_fc(layers: nn.Module, fill: str = "xavier", output_std: float | None = None) -> None:
    """Give the fully connected layers in ``layers`` fresh weights, and biases of zero.

    Args:
        layers: a layer, or a module that holds some.
        fill: ``xavier`` or ``kaiming``, both normal.
        output_std: standard deviation of the last one's weights, if it predicts. Small predictions
            leave the proposals almost as they are at the start.
    """
    last = None
    for module in layers.modules():
        if not isinstance(module, FullyConnected):
            continue
        if fill == "kaiming":
            nn.init.kaiming_normal_(module.weight)
        else:
            nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
        last = module
    if output_std is not None:
        assert last is not None
        nn.init.normal_(last.weight, mean=0.0, std=output_std)
