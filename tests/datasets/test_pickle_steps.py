"""Pickles that ask for more than they have, and honest ones of every protocol."""

from __future__ import annotations

import io
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from pcdet_distill.datasets.pickle_steps import check_steps
from pcdet_distill.datasets.safe_pickle import load_plain_pickle
from pcdet_distill.errors import DataError

CONTENT = [
    {"name": np.array(["Car", "Van"]), "boxes": np.arange(14.0).reshape(2, 7), "id": 10**30},
    ["é" * 300, b"x" * 300, b"", 1.5, -(2**40), None, True, (1, 2, 3), {1: {2}}],
    *[f"value {number}" for number in range(400)],
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_honest_pickles_pass(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(CONTENT, protocol))
    with path.open("rb") as file:
        check_steps(file)
        assert file.tell() == 0
        assert pickle.load(file)[2:] == CONTENT[2:]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"]r" + struct.pack("<I", 2**31) + b".", "stores more values than it has bytes"),
        (b"]p2000000000\n.", "stores more values than it has bytes"),
        (b"]p" + b"9" * 5000 + b"\n.", "stores more values than it has bytes"),
        (b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.", "ends within a step"),
        (b"B" + struct.pack("<I", 2**31) + b"x.", "ends within a step"),
        (b"I12", "ends within a step"),
        (b"]\xff.", "no step 0xff"),
        (b"]", "ends within a step"),
        (b"]px\n.", "damaged, or no info file"),
        (b"", "damaged, or no info file"),
    ],
)
def test_a_pickle_that_claims_too_much_is_refused_at_once(tmp_path, content, words):
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    begin = time.process_time()
    with pytest.raises(DataError, match=words):
        load_plain_pickle(path, "make it again")
    assert time.process_time() - begin < 0.5


def test_what_follows_the_end_is_not_looked_at(tmp_path: Path):
    path = tmp_path / "a.pkl"
    stream = io.BytesIO()
    pickle.dump([1], stream)
    path.write_bytes(stream.getvalue() + b"\xff" * 10)
    assert load_plain_pickle(path, "") == [1]
