"""The packed file of a database: the same batches as one file an object, or it is not read."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from easydict import EasyDict

from pcdet_distill.datasets import build_dataset, make_loader
from pcdet_distill.datasets.augmentor import DataBaseSampler
from pcdet_distill.datasets.packed_objects import (
    PAGE_BYTES,
    PackedObjects,
    open_packed,
    read_header,
)
from pcdet_distill.errors import DataError

CLASSES = ["Car", "Pedestrian"]
LIST = "kitti_dbinfos_train.pkl"
PACKED = "kitti_dbinfos_train.points"


def sampler_of(root: Path, data_config, **changes) -> DataBaseSampler:
    entry = EasyDict({**data_config.DATA_AUGMENTOR.AUG_CONFIG_LIST[0], **changes})
    return DataBaseSampler(root, entry, CLASSES, logging.getLogger("test.packed"))


def read_list(root: Path) -> dict:
    return pickle.loads((root / LIST).read_bytes())


def batches_of(root: Path, data_config, workers: int = 0, context: str | None = None) -> list[dict]:
    """The batches of an epoch."""
    data_config.DATA_PATH = str(root)
    dataset = build_dataset(data_config, CLASSES, training=True, seed=3)
    loader, _ = make_loader(dataset, 2, workers=workers, seed=3, shuffle=True, dist=False)
    if context is not None:
        loader.multiprocessing_context = context
    return list(loader)


def assert_equal_batches(batches: list[dict], others: list[dict]) -> None:
    assert len(batches) == len(others) > 0
    for batch, other in zip(batches, others):
        assert batch.keys() == other.keys()
        for key in ("points", "voxels", "voxel_coords", "gt_boxes"):
            np.testing.assert_array_equal(batch[key], other[key])


def files_read(sampler: DataBaseSampler) -> bool:
    """Whether the sampler reads one file an object."""
    return not sampler.object_points.packed


@pytest.fixture
def root(filled) -> Path:
    """A KITTI folder of the test's own."""
    return filled.root


@pytest.fixture
def from_files(root: Path, data_config, tmp_path: Path) -> list[dict]:
    """The batches without a packed file."""
    copy = tmp_path / "without"
    shutil.copytree(root, copy)
    (copy / PACKED).unlink()
    return batches_of(copy, data_config)


def test_create_data_writes_the_points_in_the_order_of_the_list(root: Path) -> None:
    parts = []
    for infos in read_list(root).values():
        parts += [(root / info["path"]).read_bytes() for info in infos]
    points = b"".join(parts)
    pages = [points[start : start + PAGE_BYTES] for start in range(0, len(points), PAGE_BYTES)]
    checksums = b"".join(struct.pack("<I", zlib.crc32(page)) for page in pages)
    assert len(pages) > 2
    assert (root / PACKED).read_bytes()[PAGE_BYTES:] == points + checksums


def without_checksums(root: Path) -> bytearray:
    """The packed file as older versions wrote it."""
    header = read_header(root / PACKED)
    content = (root / PACKED).read_bytes()[PAGE_BYTES : PAGE_BYTES + header.point_bytes]
    page = replace(header, pages=0).to_bytes().replace(b', "pages": 0', b"").rstrip()
    return bytearray(page.ljust(PAGE_BYTES - 1) + b"\n" + content)


def test_a_file_of_an_older_version_is_read(root: Path) -> None:
    before = opened(root).rows(0, 40).copy()
    (root / PACKED).write_bytes(without_checksums(root))
    np.testing.assert_array_equal(opened(root).rows(0, 40), before)


@pytest.mark.parametrize("place", [PAGE_BYTES, 2 * PAGE_BYTES + 17, -1])
def test_a_flipped_bit_is_seen_where_it_is_read(root: Path, place: int) -> None:
    content = bytearray((root / PACKED).read_bytes())
    content[place] ^= 1
    (root / PACKED).write_bytes(content)
    packed = opened(root)
    num_rows = packed.header.rows
    with pytest.raises(DataError, match=f"{PACKED}: the points .* are not what was written"):
        packed.rows(0, num_rows)
    refused = []
    for row in range(num_rows):
        try:
            packed.rows(row, row + 1)
        except DataError:
            refused.append(row)
    # A page holds 256 points of four numbers. The last byte is a checksum of the last page.
    page = place // PAGE_BYTES - 1 if place > 0 else (num_rows - 1) // 256
    assert refused == [row for row in range(num_rows) if row // 256 == page]


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "fork"), (2, "spawn")])
def test_batches_are_those_of_the_files(
    root: Path, data_config, from_files, workers: int, context: str | None
) -> None:
    """The objects' own files are gone, so the points come from the packed file."""
    shutil.rmtree(root / "gt_database")
    packed = batches_of(root, data_config, workers, context)
    assert_equal_batches(packed, from_files)


def spoil_size(root: Path) -> None:
    os.truncate(root / PACKED, (root / PACKED).stat().st_size - 16)


def spoil_header(root: Path) -> None:
    content = bytearray((root / PACKED).read_bytes())
    content[3] ^= 1
    (root / PACKED).write_bytes(content)


def spoil_list(root: Path) -> None:
    objects = read_list(root)
    objects["Car"][0]["box3d_lidar"][0] += 0.5
    (root / LIST).write_bytes(pickle.dumps(objects))


def spoil_order(root: Path) -> None:
    objects = read_list(root)
    objects["Car"].reverse()
    (root / LIST).write_bytes(pickle.dumps(objects))


def spoil_files(root: Path) -> None:
    for file in (root / "gt_database").iterdir():
        points = np.fromfile(file, dtype=np.float32).reshape(-1, 4)
        points[:, 3] *= 0.5
        points.tofile(file)


def remove(root: Path) -> None:
    (root / PACKED).unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (remove, "does not exist"),
        (spoil_size, "is damaged or was cut off"),
        (spoil_header, "is damaged or was cut off"),
        (spoil_list, f"does not belong to {LIST}"),
        (spoil_order, f"does not belong to {LIST}"),
        (spoil_files, "holds other points of an object than gt_database"),
    ],
)
def test_a_packed_file_that_does_not_agree_is_not_read(
    root: Path, data_config, caplog, spoil, words: str
) -> None:
    """It is said once, and the objects' own files are read."""
    spoil(root)
    with caplog.at_level(logging.INFO):
        sampler = sampler_of(root, data_config)
    lines = [line for line in caplog.messages if "own file" in line]
    assert len(lines) == 1
    assert f"{root / PACKED} {words}" in lines[0]
    assert files_read(sampler)
    info = sampler.db_infos["Car"][0]
    own = np.fromfile(root / info["path"], dtype=np.float32).reshape(-1, 4)
    np.testing.assert_array_equal(sampler.object_points.of(info), own)


def test_a_packed_file_that_agrees_is_read_without_a_word(root: Path, data_config, caplog) -> None:
    with caplog.at_level(logging.INFO):
        sampler = sampler_of(root, data_config)
    assert not files_read(sampler)
    assert not [line for line in caplog.messages if "own file" in line]


def test_points_of_another_number_of_columns(root: Path, data_config) -> None:
    reason = open_packed(root / LIST, read_list(root), num_features=5)
    assert reason == "has points of 4 columns and not of 5"


def test_a_database_without_packed_file_needs_its_files(root: Path, data_config) -> None:
    remove(root)
    shutil.rmtree(root / "gt_database")
    with pytest.raises(DataError, match="this point file, which .* lists, does not exist"):
        sampler_of(root, data_config)


def test_two_lists_of_which_one_is_packed(root: Path, data_config) -> None:
    shutil.copy(root / LIST, root / "other.pkl")
    sampler = sampler_of(root, data_config, DB_INFO_PATH=[LIST, "other.pkl"])
    one, other = sampler.db_infos["Car"][0], sampler.db_infos["Car"][-1]
    assert ("packed_rows" in one, "packed_rows" in other) == (True, False)
    own = np.fromfile(root / other["path"], dtype=np.float32).reshape(-1, 4)
    np.testing.assert_array_equal(sampler.object_points.of(other), own)


def opened(root: Path) -> PackedObjects:
    packed = open_packed(root / LIST, read_list(root), 4)
    assert isinstance(packed, PackedObjects)
    return packed


def test_a_reader_keeps_its_points_when_the_file_is_made_again(root: Path) -> None:
    packed = opened(root)
    before = packed.rows(0, 40).copy()
    longer = (root / PACKED).read_bytes()[:PAGE_BYTES] + bytes(64)
    partial = root / "partial"
    partial.write_bytes(longer)
    os.replace(partial, root / PACKED)
    np.testing.assert_array_equal(packed.rows(0, 40), before)
    # Another process would map the new file, whose rows are other objects.
    with pytest.raises(DataError, match="was made again while it was in use"):
        pickle.loads(pickle.dumps(packed)).rows(0, 40)


def test_the_points_are_not_sent_to_another_process(root: Path) -> None:
    packed = opened(root)
    packed.rows(0, 40)
    assert len(pickle.dumps(packed)) < 1000


def test_not_finite_points_are_refused(root: Path) -> None:
    content = without_checksums(root)
    content[PAGE_BYTES : PAGE_BYTES + 4] = np.float32(np.nan).tobytes()
    (root / PACKED).write_bytes(content)
    packed = opened(root)
    assert packed.rows(1, 3).shape == (2, 4)
    with pytest.raises(DataError, match="rows 0 to 3 hold NaN or infinity"):
        packed.rows(0, 3)


def test_points_cannot_be_changed_in_place(root: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        opened(root).rows(0, 3)[0] = 1
