"""Info files and databases with any one value replaced: they load, or one sentence names the key.

A dataset that loads also gives its items: no structure that passes the check fails later.
"""

from __future__ import annotations

import copy
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.info_structures import KITTI_INFO, checks_of_file
from pcdet_distill.datasets.kitti.calibration import Calibration
from pcdet_distill.datasets.safe_pickle import load_plain_pickle
from pcdet_distill.errors import DataError
from pcdet_distill.structures import misfit_of

CLASSES = ["Car", "Pedestrian", "Cyclist"]
WRONG = [None, "x", -1, 1e30, float("nan"), 10**400, [], [[0], [1, 2]], {}, np.zeros((2, 5)), b"\0"]


def places_of(value: Any, path: tuple = ()) -> list[tuple]:
    """The path of every value in nested dicts and lists."""
    entries: list[tuple] = []
    if isinstance(value, dict):
        entries = list(value.items())
    elif isinstance(value, list):
        entries = list(enumerate(value))
    found = [path] if path else []
    for key, inner in entries:
        found += places_of(inner, (*path, key))
    return found


def put(content: Any, path: tuple, value: Any) -> Any:
    """A copy of ``content`` with another value at ``path``."""
    changed = copy.deepcopy(content)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def use(file: Path, content: Any, data_config, training: bool) -> str:
    """What becomes of a dataset with this info file: ``read`` or the sentence of its refusal."""
    file.write_bytes(pickle.dumps(content))
    try:
        dataset = build_dataset(data_config, CLASSES, training=training)
        dataset[0]
        if not training:
            dataset.lidar_labels()
    except DataError as error:
        return str(error)
    return "read"


@pytest.mark.parametrize("name", ["kitti_infos_train.pkl", "kitti_dbinfos_train.pkl"])
def test_any_wrong_value_is_named(filled, data_config, name):
    """Of the first two entries, so that the rest of the file is good."""
    data_config.DATA_PATH = str(filled.root)
    file = filled.root / name
    content = load_plain_pickle(file, "")
    first = content[:1] if isinstance(content, list) else {"Car": content["Car"][:1]}
    results = []
    for path in places_of(first):
        for value in WRONG:
            results.append(use(file, put(content, path, value), data_config, training=True))
    assert "read" in results
    refused = [result for result in results if result != "read"]
    assert len(refused) > 50
    assert all("\n" not in result and len(result) < 700 for result in refused)


def test_the_check_of_infos_is_cheap(filled):
    """A small part of what the pickle takes, which is a small part of reading the frames."""
    file = filled.root / "kitti_infos_train.pkl"
    infos = load_plain_pickle(file, "")
    begin = time.process_time()
    for _ in range(50):
        checked = checks_of_file(file)
        for info in infos:
            assert misfit_of(info, KITTI_INFO, checked) is None
    seconds = (time.process_time() - begin) / 50 / len(infos)
    assert seconds < 1e-3  # a frame takes several milliseconds to read; this about 0.05


@pytest.mark.parametrize(
    ("name", "matrix", "words"),
    [
        ("P2", np.zeros((3, 4)), "focal length in P2 is 0"),
        ("R0", np.zeros((3, 3)), "cannot be inverted"),
        ("V2C", np.zeros((3, 4)), "cannot be inverted"),
    ],
)
def test_a_calibration_that_is_no_camera_is_named(name, matrix, words):
    good = {"P2": np.eye(4)[:3], "R0": np.eye(3), "V2C": np.eye(4)[:3]}
    with pytest.raises(DataError, match=words):
        Calibration(**{**good, name: matrix})
