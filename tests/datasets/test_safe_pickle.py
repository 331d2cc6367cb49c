"""Info files as bytes: equal for equal content, and read back as they were."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from pcdet_distill.datasets.safe_pickle import load_plain_pickle, plain_pickle


def infos() -> list[dict]:
    """Frames that share strings, arrays and dtypes with each other."""
    name = "Car"
    boxes = np.arange(14, dtype=np.float32).reshape(2, 7)
    info = {
        "name": np.array([name, "Pedestrian"]),
        "boxes": boxes,
        "turned": boxes.T,
        "score": np.float64(0.5),
        "ids": ("000001", 2, None, True),
        "class": name,
    }
    return [info, {**info, "class": "".join(["C", "ar"])}]


def test_bytes_do_not_depend_on_what_is_shared() -> None:
    shared = infos()
    from_a_worker = [pickle.loads(pickle.dumps(info)) for info in shared]
    assert pickle.dumps(from_a_worker) != pickle.dumps(shared)
    assert plain_pickle(from_a_worker) == plain_pickle(shared)
    shared[1]["score"] = np.float64(0.25)
    assert plain_pickle(from_a_worker) != plain_pickle(shared)


def test_content_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "infos.pkl"
    file.write_bytes(plain_pickle(infos()))
    read = load_plain_pickle(file, "")
    assert repr(read) == repr(infos())
    assert read[0]["boxes"].dtype == np.float32
    assert read[0]["boxes"].flags.writeable
