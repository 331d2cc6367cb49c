"""The official splits, and own ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pcdet_distill.datasets.nuscenes.splits import scene_names, scenes_of_splits
from pcdet_distill.errors import DataError


@pytest.mark.parametrize(
    ("version", "split", "count"),
    [
        ("v1.0-trainval", "train", 700),
        ("v1.0-trainval", "val", 150),
        ("v1.0-test", "test", 150),
        ("v1.0-mini", "train", 8),
        ("v1.0-mini", "val", 2),
    ],
)
def test_number_of_scenes(tmp_path: Path, version: str, split: str, count: int) -> None:
    assert len(scenes_of_splits(tmp_path, version)[split]) == count


def test_the_splits_are_those_of_the_devkit(tmp_path: Path) -> None:
    official = pytest.importorskip("nuscenes.utils.splits")
    full = scenes_of_splits(tmp_path, "v1.0-trainval")
    mini = scenes_of_splits(tmp_path, "v1.0-mini")
    assert full == {"train": set(official.train), "val": set(official.val)}
    assert mini == {"train": set(official.mini_train), "val": set(official.mini_val)}
    assert scenes_of_splits(tmp_path, "v1.0-test") == {"test": set(official.test)}


def test_ranges_of_numbers() -> None:
    expected = {"scene-0003", "scene-0017", "scene-0018", "scene-0019", "scene-1110"}
    assert scene_names("3 17-19\n 1110") == expected


def test_own_splits_replace_the_official_ones(tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text('{"train": ["a"], "val": ["b", "c"], "fun": ["d"]}')
    splits = scenes_of_splits(tmp_path, "v1.0-mini")
    assert splits == {"train": {"a"}, "val": {"b", "c"}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "expected lists of scene names"),
        ('{"train": "a"}', "expected lists of scene names"),
        ('{"train": [1]}', "expected lists of scene names"),
        ('{"training": ["a"]}', "expected one of train, val, test, found training"),
        ('{"train": ["a", "b"], "val": ["b"]}', "b is in train and in val"),
        ('{"train": [', "cannot be read as json"),
    ],
)
def test_bad_own_splits(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(DataError, match=words):
        scenes_of_splits(tmp_path, "v1.0-yard")


def test_the_example_in_the_message_is_json(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        scenes_of_splits(tmp_path, "v1.0-yard")
    example = str(error.value).partition("for what: ")[2].replace("...", '"..."')
    assert set(json.loads(example)) == {"train", "val"}
