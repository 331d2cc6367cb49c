"""LZF against a compressor of the test's own, and against streams written by hand."""

from __future__ import annotations

import pytest
from cloud_writers import lzf_compress
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdet_distill.datasets.readers.lzf import lzf_decompress


def test_commands_written_by_hand() -> None:
    # "abc", then 9 bytes from 3 back (overlapping), then the literal "!".
    stream = bytes([2]) + b"abc" + bytes([(7 << 5), 0, 2]) + bytes([0]) + b"!"
    assert bytes(lzf_decompress(stream, 13)) == b"abcabcabcabc!"


def test_a_long_and_far_copy() -> None:
    data = bytes(range(256)) * 20
    data += data[100:500] + b"\0" * 1000
    stream = lzf_compress(data)
    assert len(stream) < len(data) // 4
    assert bytes(lzf_decompress(stream, len(data))) == data


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([b"ab", b"\0\0\0\0", b"xyz", b"\x7f"])).map(b"".join))
def test_what_is_compressed_comes_back(data: bytes) -> None:
    assert bytes(lzf_decompress(lzf_compress(data), len(data))) == data


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 300))
def test_random_bytes_never_write_outside(stream: bytes, size: int) -> None:
    output = lzf_decompress(stream, size)
    assert output is None or len(output) == size


@pytest.mark.parametrize(
    "stream",
    [
        bytes([5]) + b"abc",  # six bytes are told
        bytes([0]) + b"a" + bytes([32, 200]),  # copies from before the begin
        bytes([0]) + b"a" + bytes([7 << 5]),  # ends within a command
        bytes([0]) + b"a" + bytes([32]),
        bytes([1]) + b"ab",  # too short for the size
        bytes([10]) + b"abcdefghijk",  # too long for the size
    ],
)
def test_a_damaged_stream_gives_nothing(stream: bytes) -> None:
    assert lzf_decompress(stream, 6) is None
