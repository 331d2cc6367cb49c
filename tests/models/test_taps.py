"""capture(): what it records, and everything it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pcdet_distill.errors import ConfigError
from pcdet_distill.models.taps import TapInfo, capture, collect_taps, parse_tap


class Double(nn.Module):
    """A slot: reads x from the batch_dict, writes y = 2 x and a nested dict."""

    def forward(self, batch_dict):
        y = batch_dict["x"] * 2
        batch_dict["y"] = y
        batch_dict["scales"] = {"fine": y + 1, "list": [y + 2]}
        return batch_dict


class Overwrite(nn.Module):
    """A later slot that replaces y, as OpenPCDet's slots do with batch_cls_preds."""

    def forward(self, batch_dict):
        batch_dict["y"] = batch_dict["y"] * 100
        return batch_dict


class Toy(nn.Module):
    """Two slots and a layer with ReLU, which turns (1, -3) into (0, 3).

    Args:
        inplace: whether the ReLU overwrites the output of the layer.
        repeat: how often layer and ReLU run.
        skip: they do not run at all.
    """

    def __init__(self, inplace=False, repeat=1, skip=False):
        super().__init__()
        self.vfe = Double()
        self.later = Overwrite()
        self.net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(inplace=inplace))
        self.repeat = repeat
        self.skip = skip
        with torch.no_grad():
            self.net[0].weight.copy_(-torch.eye(2))
            self.net[0].bias.zero_()

    def forward(self, batch_dict):
        batch_dict = self.later(self.vfe(batch_dict))
        for _ in range(0 if self.skip else self.repeat):
            batch_dict["z"] = self.net(batch_dict["x"])
        return batch_dict


def batch():
    """One row."""
    return {"x": torch.tensor([[1.0, -3.0]])}


def hooks_left(model):
    """How many hooks a model has."""
    return sum(len(module._forward_hooks) for module in model.modules())


def test_module_output_and_batch_dict_key():
    model = Toy()
    paths = ["net.0", "net", "vfe@y", "vfe@scales.fine", "vfe@scales.list.0"]
    with capture(model, paths) as features:
        model(batch())
    assert features["net.0"].tolist() == [[-1.0, 3.0]]
    assert features["net"].tolist() == [[0.0, 3.0]]
    # As it left vfe, though a later slot replaced it.
    assert features["vfe@y"].tolist() == [[2.0, -6.0]]
    assert features["vfe@scales.fine"].tolist() == [[3.0, -5.0]]
    assert features["vfe@scales.list.0"].tolist() == [[4.0, -4.0]]


def test_gradients_flow_through_a_tap():
    model = Toy()
    with capture(model, ["net.0"]) as features:
        model(batch())
    features["net.0"].sum().backward()
    assert model.net[0].bias.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "path, words",
    [
        ("vfee@y", ["vfee", "'vfe'", "later"]),
        ("net.7", ["net.7", "'net' has: 0, 1"]),
        ("", ["expected"]),
        ("@y", ["expected"]),
        ("vfe@", ["expected"]),
        ("vfe@a..b", ["expected"]),
        ("vfe@a@b", ["expected"]),
        ("net..0", ["expected"]),
    ],
)
def test_unknown_or_malformed_path(path, words):
    model = Toy()
    with pytest.raises(ConfigError) as error, capture(model, [path]):
        raise AssertionError("the block must not be entered")
    for word in words:
        assert word in str(error.value)
    assert hooks_left(model) == 0


@pytest.mark.parametrize(
    "path, word",
    [
        ("vfe@yy", "did you mean 'y'"),
        ("vfe@scales.coarse", "vfe@scales"),
        ("net@y", "Tensor"),
        ("vfe@scales.list.4", "list"),
    ],
)
def test_key_that_is_not_there(path, word):
    model = Toy()
    with pytest.raises(ConfigError, match=word), capture(model, [path]):
        model(batch())
    assert hooks_left(model) == 0


def test_module_that_did_not_run():
    model = Toy(skip=True)
    with pytest.raises(ConfigError, match="'net.0' did not run"), capture(model, ["net.0"]):
        model(batch())
    assert hooks_left(model) == 0


def test_module_that_ran_twice():
    model = Toy(repeat=2)
    with pytest.raises(ConfigError, match="ran 2 times"), capture(model, ["net"]):
        model(batch())


@pytest.mark.parametrize("grad", [True, False])
def test_tensor_changed_in_place_afterwards(grad):
    model = Toy(inplace=True)
    with (
        torch.set_grad_enabled(grad),
        pytest.raises(ConfigError, match="changed in place"),
        capture(model, ["net.0"]),
    ):
        model(batch())
    # After the in-place module all is well.
    with capture(model, ["net.1"]) as features:
        model(batch())
    assert features["net.1"].tolist() == [[0.0, 3.0]]


def test_nested_tensor_changed_in_place():
    model = Toy()
    with pytest.raises(ConfigError, match="changed in place"), capture(model, ["vfe@scales"]):
        model(batch())["scales"]["list"][0].add_(1)


def test_hooks_are_removed_after_success_and_after_an_exception():
    model = Toy()
    with capture(model, ["net", "vfe@y"]):
        assert hooks_left(model) == 2
        model(batch())
    assert hooks_left(model) == 0
    # The exception is not masked by ours.
    with pytest.raises(KeyError, match="own"), capture(model, ["net"]):
        raise KeyError("own")
    assert hooks_left(model) == 0


def test_the_model_is_left_as_soon_as_everything_is_recorded():
    model = Toy()
    went_on = []
    watch = model.net[1].register_forward_hook(lambda *_: went_on.append(True))
    with capture(model, ["net.0", "vfe@y"], stop_when_complete=True) as features:
        model(batch())
        raise AssertionError("the block must have been left")
    watch.remove()
    assert set(features) == {"net.0", "vfe@y"}
    assert not went_on
    assert hooks_left(model) == 0


def test_a_module_that_did_not_run_is_named_where_the_model_would_be_left_early():
    model = Toy(skip=True)
    with (
        pytest.raises(ConfigError, match="did not run"),
        capture(model, ["net.0"], stop_when_complete=True),
    ):
        model(batch())


def test_capture_does_not_change_the_outcome():
    plain = Toy()(batch())
    model = Toy()
    with capture(model, ["net", "vfe@y"]):
        watched = model(batch())
    assert torch.equal(plain["z"], watched["z"])
    assert torch.equal(plain["y"], watched["y"])


def test_a_path_is_a_module_and_keys():
    assert parse_tap("backbone_3d.a.b@c.d") == ("backbone_3d.a.b", ("c", "d"))


def test_collect_taps_prefixes_the_slot():
    vfe = Double()
    plain = nn.Linear(1, 1)
    vfe.taps = lambda: [TapInfo("@y", 2, 1, "voxel"), TapInfo("inner.0", 3, 2, "bev")]
    assert collect_taps([("vfe", vfe), ("other", plain)]) == {
        "vfe@y": TapInfo("vfe@y", 2, 1, "voxel"),
        "vfe.inner.0": TapInfo("vfe.inner.0", 3, 2, "bev"),
    }
