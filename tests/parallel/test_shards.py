"""Parts of the work: each item is in exactly one."""

from __future__ import annotations

import argparse

import pytest

from pcdet_distill.parallel.shards import Shard, add_shard_argument, all_shards, read_shard


@pytest.mark.parametrize(("items", "count"), [(10, 3), (10, 1), (2, 5), (0, 2), (7, 7)])
def test_every_item_is_in_one_part(items: int, count: int) -> None:
    parts = [shard.of(range(items)) for shard in all_shards(count)]
    together: list[int] = []
    for part in parts:
        together += part
    assert sorted(together) == list(range(items))
    assert max(len(part) for part in parts) - min(len(part) for part in parts) <= 1


def test_the_flag() -> None:
    parser = argparse.ArgumentParser()
    add_shard_argument(parser, "frames")
    shard = parser.parse_args(["--shard", "2/4"]).shard
    assert shard == Shard(2, 4)
    assert (str(shard), shard.file_name) == ("2/4", "2-of-4")
    assert parser.parse_args([]).shard is None


@pytest.mark.parametrize("text", ["0/4", "5/4", "2", "a/b", "2/", "-1/4", "1/0", ""])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected I/N with I from 1 to N"):
        read_shard(text)
