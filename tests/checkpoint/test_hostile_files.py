"""Files that are no checkpoints, or no longer: refused in one sentence, soon, in little memory."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from pcdet_distill.checkpoint import (
    ReadingPolicy,
    load_checkpoint,
    optimizer_state,
    reading,
    save_checkpoint,
)
from pcdet_distill.errors import CheckpointError

MANY = 3 * 10**9
WEIGHTS = {"layer.weight": torch.arange(12.0).reshape(3, 4), "layer.bias": torch.ones(3)}


def pickle_of_a_call(name: str, arguments: tuple) -> bytes:
    """The pickle of ``{"model_state": {}, "x": name(*arguments)}``, which calls nothing yet."""
    stream = io.BytesIO()
    stream.write(b"\x80\x02}(X\x0b\x00\x00\x00model_state}X\x01\x00\x00\x00x")
    stream.write(b"c" + name.replace(" ", "\n").encode() + b"\n")
    stream.write(pickle.dumps(arguments, 2)[2:-1])
    stream.write(b"Ru.")
    return stream.getvalue()


def write_archive(
    path: Path, data: bytes, *, compression: int = zipfile.ZIP_STORED, **members: bytes
) -> Path:
    """A file as torch.save writes it, with ``data`` as its pickle."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/version", "3\n")
        archive.writestr("a/byteorder", "little")
        for name, content in members.items():
            archive.writestr(f"a/data/{name.removeprefix('storage')}", content)
    return path


def refused(path: Path, words: str) -> str:
    """The message of a file that is refused within two seconds and 100 MB of Python's memory."""
    tracemalloc.start()
    begin = time.process_time()
    with pytest.raises(CheckpointError, match=words) as caught:
        load_checkpoint(path)
    seconds = time.process_time() - begin
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert seconds < 2
    assert peak < 100 * 2**20
    return message


# --- larger than it seems -------------------------------------------------------------------------


def test_a_compressed_storage_is_not_unpacked(tmp_path):
    path = tmp_path / "a.pth"
    good = tmp_path / "good.pth"
    torch.save({"model_state": {"w": torch.zeros(40_000_000)}}, good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for member in source.infolist():
            bomb.writestr(member.filename, source.read(member))
    assert path.stat().st_size < 2**20
    refused(path, "compressed")


def test_a_padded_pickle_is_not_unpacked(tmp_path):
    data = pickle.dumps({"model_state": {}}, 2) + b"\0" * (70 * 2**20)
    refused(write_archive(tmp_path / "a.pth", data), "data.pkl has 73400")


def test_millions_of_entries_are_not_built(tmp_path):
    data = b"\x80\x02](" + b"]" * 4_000_000 + b"e."
    path = write_archive(tmp_path / "a.pth", data)
    begin = time.process_time()
    with pytest.raises(CheckpointError, match="has more than 3000000 entries"):
        load_checkpoint(path)
    assert time.process_time() - begin < 10


def test_lists_that_refer_to_each_other_are_counted(tmp_path):
    """Ten lists, each with ten times the one before: ten billion entries in 300 bytes."""
    nested: list = [0]
    for _ in range(10):
        nested = [nested] * 10
    path = tmp_path / "a.pth"
    torch.save({"model_state": WEIGHTS, "x": nested}, path)
    with pytest.raises(CheckpointError, match="more than 3000000 entries"):
        load_checkpoint(path)


def test_entries_that_lie_in_each_other_are_counted(tmp_path):
    nested: list = []
    for _ in range(200):
        nested = [nested]
    torch.save({"model_state": WEIGHTS, "x": nested}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "more than 60 within each other")


@pytest.mark.parametrize(
    "name",
    [
        "__builtin__ bytearray",
        "builtins bytearray",
        "torch Tensor",
        "torch.storage UntypedStorage",
        "posix system",
    ],
)
def test_a_call_is_named_and_not_made(tmp_path, name):
    path = write_archive(tmp_path / "a.pth", pickle_of_a_call(name, (MANY,)))
    refused(path, rf"holds code \({name.replace(' ', '.')}\)")


def test_an_array_is_not_made_before_its_values(tmp_path):
    call = pickle_of_a_call("numpy.core.multiarray _reconstruct", (np.ndarray, (MANY,), b"b"))
    refused(write_archive(tmp_path / "a.pth", call), "not a checkpoint")


def test_a_storage_is_as_large_as_its_member(tmp_path):
    path = tmp_path / "a.pth"
    good = tmp_path / "good.pth"
    torch.save({"model_state": {"w": torch.zeros(1000)}}, good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w") as short:
        for member in source.infolist():
            content = source.read(member)
            short.writestr(member.filename, content[:8] if "/data/" in member.filename else content)
    refused(path, "not a checkpoint")


def test_a_legacy_file_that_claims_too_much_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"model_state": WEIGHTS}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    claim = struct.pack("<BB", ord("K"), 12)  # BININT1 12: the elements of the weight's storage
    assert content.count(claim) >= 1
    path.write_bytes(content.replace(claim, b"J" + struct.pack("<i", 2**30)))
    refused(path, "cut off or damaged")


def test_a_tensor_that_repeats_one_number_is_refused(tmp_path):
    torch.save({"model_state": {"w": torch.zeros(1).expand(10**9)}}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "more than is stored")


def test_tensors_that_share_their_values_are_counted(tmp_path):
    values = torch.zeros(1000)
    state = {f"w{number}": values.view(1000) for number in range(100)}
    torch.save({"model_state": state}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "share their values")


def test_tied_weights_load(tmp_path):
    torch.save({"model_state": {"a": torch.ones(3), "b": torch.ones(3)}}, tmp_path / "a.pth")
    values = torch.ones(1000)
    torch.save({"model_state": {"a": values, "b": values}}, tmp_path / "a.pth")
    assert torch.equal(load_checkpoint(tmp_path / "a.pth")["model_state"]["b"], values)


# --- damaged --------------------------------------------------------------------------------------


def test_every_flipped_bit_of_a_weight_is_seen(tmp_path):
    path = tmp_path / "a.pth"
    save_checkpoint({"epoch": 1, "it": 10, "model_state": WEIGHTS}, path)
    content = path.read_bytes()
    weight = WEIGHTS["layer.weight"].numpy().tobytes()
    begin = content.index(weight)
    for bit in range(0, 8 * len(weight), 13):
        damaged = bytearray(content)
        damaged[begin + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        refused(path, "damaged")


def test_a_flipped_bit_anywhere_changes_nothing_unseen(tmp_path):
    """Padding between members may change; what is loaded then is what was written."""
    path = tmp_path / "a.pth"
    save_checkpoint({"epoch": 1, "it": 10, "model_state": WEIGHTS}, path)
    content = path.read_bytes()
    draw = random.Random(0)
    loaded = 0
    for _ in range(150):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            state = load_checkpoint(path)
        except CheckpointError:
            continue
        loaded += 1
        assert (state["epoch"], state["it"]) == (1, 10)
        assert torch.equal(state["model_state"]["layer.weight"], WEIGHTS["layer.weight"])
    assert loaded < 150


def test_a_checksum_survives_another_writer_and_sees_a_change(tmp_path):
    path = tmp_path / "a.pth"
    save_checkpoint({"epoch": 1, "model_state": OrderedDict(WEIGHTS), "x": [1.5, None, "y"]}, path)
    content = torch.load(path, weights_only=True)
    torch.save(content, path)
    assert load_checkpoint(path)["x"] == [1.5, None, "y"]
    content["model_state"]["layer.bias"][0] += 1e-6
    torch.save(content, path)
    refused(path, "damaged: its contents do not have the checksum")


def test_a_file_without_a_checksum_loads_with_a_note(tmp_path):
    notes: list[str] = []
    torch.save({"model_state": WEIGHTS}, tmp_path / "theirs.pth")
    save_checkpoint({"model_state": WEIGHTS}, tmp_path / "ours.pth")
    with reading(ReadingPolicy(note=notes.append)):
        load_checkpoint(tmp_path / "theirs.pth")
        load_checkpoint(tmp_path / "ours.pth")
    load_checkpoint(tmp_path / "theirs.pth")
    assert len(notes) == 1
    assert notes[0].startswith(f"{tmp_path / 'theirs.pth'}: has no checksum")


def test_every_cut_of_a_file_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    save_checkpoint({"epoch": 1, "model_state": WEIGHTS}, path)
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 97):
        path.write_bytes(content[:length])
        refused(path, "cut off or damaged")


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "no regular file")
    os.mkfifo(tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "no regular file")


# --- malformed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epoch", "a"),
        ("epoch", float("inf")),
        ("epoch", -5),
        ("epoch", 10**30),
        ("epoch", torch.tensor(3)),
        ("it", True),
        ("seed", 1.5),
        ("threads", 0),
        ("iterations_per_epoch", 0),
        ("optimizer_state", [1]),
        ("scaler_state", {1: 2}),
        ("random_states", "x"),
        ("version", 3),
        ("checksum", 3),
    ],
)
def test_a_key_of_ours_holds_what_it_must(tmp_path, key, value):
    torch.save({"model_state": WEIGHTS, key: value}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", f"its '{key}' is .+, expected ")


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(3, 3).to_sparse(), "is not dense"),
        (torch.zeros(3, device="meta"), "is not dense"),
        (torch.zeros(3, dtype=torch.complex64), "of type complex64"),
        (torch.zeros(3, dtype=torch.bool), "of type bool"),
        (torch.tensor([1.0, float("nan")]), "model_state w has values that are not finite"),
        (torch.tensor([float("inf")]), "not finite; --allow_nonfinite accepts it"),
    ],
)
def test_weights_are_dense_real_and_finite(tmp_path, tensor, words):
    torch.save({"model_state": {"w": tensor}}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", words)


def test_names_of_weights_are_text(tmp_path):
    torch.save({"model_state": {1: torch.zeros(3)}}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "names its tensors 1, expected text")


def test_weights_that_are_not_finite_load_when_allowed(tmp_path):
    torch.save({"model_state": {"w": torch.tensor([float("nan")])}}, tmp_path / "a.pth")
    with reading(ReadingPolicy(allow_nonfinite=True)):
        loaded = load_checkpoint(tmp_path / "a.pth")
    assert torch.isnan(loaded["model_state"]["w"]).all()


@pytest.mark.parametrize("part", ["model_state", "optimizer_state"])
def test_what_is_not_finite_is_never_written(tmp_path, part):
    path = tmp_path / "a.pth"
    good = {"model_state": {"w": torch.ones(2)}, "optimizer_state": {"state": {0: torch.ones(2)}}}
    save_checkpoint(good, path)
    before = path.read_bytes()
    bad = {**good, part: {"state": {0: torch.tensor([1.0, float("nan")])}}}
    with pytest.raises(CheckpointError, match=rf"not written: {part} state\.0 has values"):
        save_checkpoint(bad, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_the_optimizer_file_beside_it_is_checked_too(tmp_path):
    save_checkpoint({"model_state": WEIGHTS}, tmp_path / "a.pth")
    torch.save({"optimizer_state": {"x": torch.tensor([float("nan")])}}, tmp_path / "a_optim.pth")
    state = load_checkpoint(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="a_optim.pth: optimizer_state x has values"):
        optimizer_state(state, tmp_path / "a.pth")
