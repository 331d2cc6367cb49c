"""The pretended GPU refuses what a GPU refuses, and computes what the CPU computes.

In a process of its own: the device's name cannot be taken back.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SETUP = """
import torch
from pretend_gpu import TwoDevicesError, pretended, register
from torch import nn
GPU = register()

def refused(call, error):
    try:
        call()
    except error:
        return
    raise AssertionError("not refused")
"""
TRAINING = """
def train(device):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    for step in range(3):
        image = torch.arange(64.0).reshape(1, 1, 8, 8).to(device) / (1 + step)
        found = net(image)
        chosen = found[found > 0.1]
        optimizer.zero_grad()
        chosen.square().mean().backward()
        optimizer.step()
    assert net[0].weight.grad.device.type == torch.device(device).type
    return {name: value.cpu() for name, value in net.state_dict().items()}

with pretended():
    there = train(GPU)
here = train("cpu")
assert there.keys() == here.keys()
for name in here:
    assert torch.equal(there[name], here[name]), name
"""
REFUSED = """
with pretended():
    one = torch.ones(3, device=GPU)
    refused(lambda: one + torch.ones(3), TwoDevicesError)
    refused(lambda: torch.cat([torch.ones(1), one]), TwoDevicesError)
    refused(lambda: one.numpy(), TypeError)
    refused(lambda: torch.ones(3)[torch.tensor([0], device=GPU)], TwoDevicesError)
"""
ALLOWED = """
with pretended():
    one = torch.ones(3, device=GPU)
    assert (one + torch.tensor(2.0)).tolist() == [3, 3, 3]
    assert one[torch.tensor([0, 2])].device == GPU
    assert one.cpu().numpy().sum() == 3
    assert one.new_zeros(2).device == torch.zeros_like(one).device == GPU
    made = torch.tensor([1, 2], device=GPU), one.new_tensor([1, 2]), torch.arange(2, device=GPU)
    assert {tensor.device for tensor in made} == {GPU}
    with torch.autocast(one.device.type, enabled=False):
        assert (one @ one).item() == 3
    squeezed = one.new_ones(1, 3).squeeze_(0)
    assert squeezed.shape == (3,) and squeezed.tolist() == [1, 1, 1]
    assert torch.ones(2, 3).t_().shape == (3, 2)
    assert torch.eye(3, device=GPU)[:, [2, 0]][0].tolist() == [0, 1]
    one[made[0]] = 5
    one.add_(1)
    assert one.tolist() == [2, 6, 6] and one.sum().item() == 14
"""


@pytest.mark.parametrize("program", [TRAINING, REFUSED, ALLOWED], ids=["train", "no", "yes"])
def test_the_pretended_device(program: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run(
        [sys.executable, "-c", SETUP + program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
