"""Checkpoints: atomic writing, safe reading, strict and partial loading, older formats."""

from __future__ import annotations

import errno
import io
import os
import pickle
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pcdet_distill.checkpoint import (
    files,
    load_checkpoint,
    load_model_state,
    optimizer_state,
    save_checkpoint,
)
from pcdet_distill.errors import CheckpointError


class SparseConvolution(nn.Module):
    """Stands for a sparse convolution; the axes of torch's own convolutions are never turned."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))


class Model(nn.Module):
    """One sparse and one dense convolution, a BatchNorm, and OpenPCDet's step counter."""

    def __init__(self) -> None:
        super().__init__()
        self.sparse = SparseConvolution(16, 3, 3, 3, 4)
        self.dense = nn.Conv2d(4, 8, 3)
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("global_step", torch.zeros(1, dtype=torch.long))


class Malicious:
    """Unpickling it would run a shell command that creates a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model()


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """A state dict that fits the model and differs from it."""
    torch.manual_seed(1)
    other = Model()
    nn.init.normal_(other.sparse.weight)
    return other.state_dict()


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )


# --- saving ---------------------------------------------------------------------------------------


def test_round_trip_keeps_openpcdets_keys(tmp_path, state):
    path = tmp_path / "ckpt" / "checkpoint_epoch_3.pth"
    save_checkpoint(
        {"epoch": 3, "it": 30, "model_state": OrderedDict(state), "optimizer_state": None}, path
    )
    loaded = load_checkpoint(path)
    assert set(loaded) == {"epoch", "it", "model_state", "optimizer_state", "version"}
    assert (loaded["epoch"], loaded["it"], loaded["optimizer_state"]) == (3, 30, None)
    assert isinstance(loaded["model_state"], OrderedDict)
    assert same(loaded["model_state"], state)


def test_a_strict_reader_loads_what_a_one_cycle_optimizer_saves(tmp_path, model):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    optimizer.param_groups[0]["lr"] = np.float64(0.25)
    path = tmp_path / "a.pth"
    save_checkpoint(
        {"model_state": model.state_dict(), "optimizer_state": optimizer.state_dict()}, path
    )
    content = torch.load(path, weights_only=True)
    rate = content["optimizer_state"]["param_groups"][0]["lr"]
    assert rate == 0.25
    assert type(rate) is float


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, state):
    path = tmp_path / "a.pth"
    save_checkpoint({"epoch": 1, "model_state": state}, path)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint({"epoch": 2, "model_state": state, "hook": lambda: None}, path)
    assert load_checkpoint(path)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_an_unwritable_folder_is_one_sentence(tmp_path, state):
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(
        CheckpointError, match=r"taken/a\.pth: the checkpoint cannot be written \(.+\)$"
    ):
        save_checkpoint({"model_state": state}, tmp_path / "taken" / "a.pth")
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_one_sentence(tmp_path, state):
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint({"model_state": state}, tmp_path / "a.pth")


def test_a_full_disk_leaves_no_file_behind(tmp_path, state, monkeypatch):
    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_checkpoint({"model_state": state}, tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


class FullDisk(io.FileIO):
    """A file that takes its first 2000 bytes."""

    def write(self, data) -> int:
        if self.tell() > 2000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_disk_that_becomes_full_is_named(tmp_path, state, monkeypatch):
    """torch's writer alone would say that a position in the file was unexpected."""
    monkeypatch.setattr(files, "open", FullDisk, raising=False)
    content = {"model_state": {**state, "large": torch.zeros(10000)}}
    with pytest.raises(CheckpointError, match=r"cannot be written \(No space left on device\)"):
        save_checkpoint(content, tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


# --- reading --------------------------------------------------------------------------------------


def test_a_bare_state_dict_is_wrapped(tmp_path, state):
    torch.save(state, tmp_path / "a.pth")
    assert same(load_checkpoint(tmp_path / "a.pth")["model_state"], state)


def test_openpcdets_serialization_and_numpy_numbers_load(tmp_path, state):
    path = tmp_path / "a.pth"
    groups = [{"lr": np.float64(0.5), "steps": np.int64(7), "betas": np.array([0.9, 0.99])}]
    content = {
        "epoch": 1,
        "it": 2,
        "model_state": state,
        "optimizer_state": {"param_groups": groups},
    }
    torch.save(content, path, _use_new_zipfile_serialization=False)
    group = load_checkpoint(path)["optimizer_state"]["param_groups"][0]
    assert group["lr"] == 0.5
    assert group["steps"] == 7
    assert group["betas"].tolist() == [0.9, 0.99]


def test_numpy_numbers_of_the_other_numpy_generation_load(tmp_path, state):
    path = tmp_path / "a.pth"
    torch.save(
        {"model_state": state, "lr": np.float64(0.5)}, path, _use_new_zipfile_serialization=False
    )
    written, other = (b"numpy._core.multiarray", b"numpy.core.multiarray")
    if written not in path.read_bytes():
        written, other = other, written
    raw = path.read_bytes()
    assert written in raw
    path.write_bytes(raw.replace(b"c" + written, b"c" + other))
    assert load_checkpoint(path)["lr"] == 0.5


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_code_is_refused_and_not_run(tmp_path, state, form):
    path, witness = tmp_path / "evil.pth", tmp_path / "witness"
    content = {"model_state": state, "epoch": Malicious(witness)}
    if form == "pickle":
        path.write_bytes(pickle.dumps({"model_state": {}, "epoch": Malicious(witness)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError, match=r"evil\.pth: (holds code|not a checkpoint)"):
        load_checkpoint(path)
    assert not witness.exists()


def test_code_is_named(tmp_path, state):
    torch.save(
        {"model_state": state, "epoch": Malicious(tmp_path / "witness")}, tmp_path / "evil.pth"
    )
    with pytest.raises(CheckpointError, match=r"holds code \(posix\.system\)"):
        load_checkpoint(tmp_path / "evil.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_truncated_file_is_one_sentence(tmp_path, state, share, zipped):
    path = tmp_path / "cut.pth"
    torch.save({"model_state": state}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(
        CheckpointError, match=r"cut\.pth: .*(cut off|instead of tensors)"
    ) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"CLASS_NAMES: [Car]\n", b"\x00" * 100, b"PK\x03\x04 no zip"]
)
def test_another_kind_of_file_is_one_sentence(tmp_path, content):
    (tmp_path / "note.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"note\.pth: ") as caught:
        load_checkpoint(tmp_path / "note.pth")
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_nearest(tmp_path, state):
    torch.save(state, tmp_path / "checkpoint_epoch_80.pth")
    torch.save(state, tmp_path / "latest_model.pth")
    with pytest.raises(
        CheckpointError, match=r"epoch_81\.pth: no such .*did you mean 'checkpoint_epoch_80\.pth'"
    ):
        load_checkpoint(tmp_path / "checkpoint_epoch_81.pth")
    with pytest.raises(CheckpointError, match="the folder .*nowhere does not exist"):
        load_checkpoint(tmp_path / "nowhere" / "a.pth")
    with pytest.raises(CheckpointError, match="is a folder, expected a .pth file"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "found"),
    [({"state_dict": {}, "meta": 1}, "keys state_dict, meta"), ([1, 2], "list"), ({}, "keys $")],
)
def test_the_message_about_another_kind_of_checkpoint_names_what_was_found(
    tmp_path, content, found
):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=f"expected the key model_state, found {found}"):
        load_checkpoint(tmp_path / "a.pth")


def test_optimizer_state_may_stand_beside(tmp_path, state):
    path = tmp_path / "checkpoint_epoch_1.pth"
    torch.save({"model_state": state}, path)
    assert optimizer_state(load_checkpoint(path), path) is None
    torch.save({"optimizer_state": {"state": {}}}, tmp_path / "checkpoint_epoch_1_optim.pth")
    assert optimizer_state(load_checkpoint(path), path) == {"state": {}}
    assert optimizer_state({"optimizer_state": {"a": 1}}, path) == {"a": 1}


# --- loading into a model -------------------------------------------------------------------------


def test_strict_loading_copies_everything(model, state):
    report = load_model_state(model, state, strict=True, where="a.pth")
    assert same(model.state_dict(), state)
    assert sorted(report.loaded) == sorted(state)
    assert str(report) == f"loaded {len(state)} of {len(state)} tensors"


def test_prefixes_of_data_parallel_training_are_dropped(model, state):
    load_model_state(
        model, {f"module.{key}": value for key, value in state.items()}, strict=True, where="a.pth"
    )
    assert same(model.state_dict(), state)


def test_a_missing_step_counter_is_tolerated(model, state):
    state.pop("global_step")
    assert load_model_state(model, state, strict=True, where="a.pth").missing == []


def test_strict_loading_lists_misfits_and_leaves_the_model_unchanged(model, state):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state["dense.weight"] = torch.zeros(8, 5, 3, 3)
    state["roi_head.weight"] = torch.zeros(1)
    del state["norm.bias"]
    with pytest.raises(CheckpointError) as caught:
        load_model_state(model, state, strict=True, where="a.pth")
    assert str(caught.value) == (
        "a.pth: does not fit the model: 1 missing: norm.bias; 1 not in the model: roi_head.weight; "
        "1 of another shape: dense.weight (8, 5, 3, 3), model (8, 4, 3, 3)"
    )
    assert same(model.state_dict(), before)


def test_long_lists_are_cut_at_ten(model):
    state = {f"other.{index}": torch.zeros(1) for index in range(25)}
    with pytest.raises(
        CheckpointError, match=r"25 not in the model: other\.0, .*other\.9, and 15 more"
    ):
        load_model_state(model, state, strict=True, where="a.pth")


def test_partial_loading_takes_what_fits(model, state):
    state["dense.weight"] = torch.zeros(8, 5, 3, 3)
    report = load_model_state(model, state, strict=False, where="a.pth")
    assert "dense.weight" not in report.loaded
    assert "dense.bias" in report.loaded
    assert torch.equal(model.dense.bias, state["dense.bias"])
    assert str(report) == (
        "loaded 8 of 9 tensors; 1 of another shape: dense.weight (8, 5, 3, 3), model (8, 4, 3, 3)"
    )


def test_partial_loading_without_a_fitting_tensor_is_an_error(model):
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_model_state(model, {"backbone.weight": torch.zeros(1)}, strict=False, where="a.pth")
    with pytest.raises(CheckpointError, match="it holds no tensors|missing"):
        load_model_state(model, {}, strict=False, where="a.pth")


def test_spconv_1_weights_are_turned(model, state):
    """The entry (z, y, x, in, out) of a 1.x weight belongs at (out, z, y, x, in)."""
    old = torch.arange(3 * 3 * 3 * 4 * 16, dtype=torch.float32).reshape(3, 3, 3, 4, 16)
    load_model_state(model, {**state, "sparse.weight": old}, strict=True, where="a.pth")
    assert model.sparse.weight[5, 0, 1, 2, 3] == old[0, 1, 2, 3, 5]
    assert model.sparse.weight[15, 2, 0, 1, 0] == old[2, 0, 1, 0, 15]


def test_spconv_weights_with_swapped_channels_are_turned(state):
    model = Model()
    model.sparse = SparseConvolution(3, 3, 3, 16, 4)
    old = torch.randn(3, 3, 3, 4, 16)
    load_model_state(model, {**state, "sparse.weight": old}, strict=True, where="a.pth")
    assert torch.equal(model.sparse.weight, old.transpose(3, 4))


def test_dense_weights_are_never_turned(model, state):
    model.dense = nn.Conv2d(3, 5, 3)
    state["dense.weight"], state["dense.bias"] = torch.zeros(3, 3, 3, 5), torch.zeros(5)
    with pytest.raises(
        CheckpointError, match=r"dense\.weight \(3, 3, 3, 5\), model \(5, 3, 3, 3\)"
    ):
        load_model_state(model, state, strict=True, where="a.pth")


def test_safetensors_hold_a_state_dict(tmp_path, model, state):
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file(
        {f"module.{name}": value for name, value in state.items()}, tmp_path / "weights.safetensors"
    )
    content = load_checkpoint(tmp_path / "weights.safetensors")
    assert list(content) == ["model_state"]
    report = load_model_state(
        model, content["model_state"], strict=True, where="weights.safetensors"
    )
    assert len(report.loaded) == len(state)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_damaged_safetensors(tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "weights.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(
        CheckpointError,
        match="weights.safetensors: not a .safetensors file, or one that was cut off",
    ):
        load_checkpoint(tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="did you mean 'weights.safetensors'"):
        load_checkpoint(tmp_path / "weight.safetensors")


def test_safetensors_without_their_package(tmp_path, monkeypatch):
    (tmp_path / "weights.safetensors").touch()
    for name in ("safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    words = (
        r"weights\.safetensors: reading it needs the package safetensors .*"
        r'pip install "pcdet_distill\[safetensors\]"'
    )
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path / "weights.safetensors")
