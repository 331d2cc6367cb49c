"""The files of stored predictions: what is written is read, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_predicted_scene import predictions

from pcdet_distill.datasets.predicted import LabelledFrame, PredictionStore, write_part
from pcdet_distill.errors import DataError


def box_at(x: float, y: float) -> list[float]:
    return [x, y, -1.0, 4.0, 1.6, 1.5, 0.0]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two parts. Frame b has no rows; frame c has two labelled boxes, 1 cm apart along x."""
    first = LabelledFrame("a", predictions([box_at(1, 1)], [0]), np.array([[1, 1, -1.0]]))
    empty = LabelledFrame("b", predictions(np.zeros((0, 7))), np.zeros((0, 3)))
    rows = predictions([box_at(5, 1), box_at(5.01, 9), box_at(7, 7)], [0, 1, -1])
    third = LabelledFrame("c", rows, np.array([[5, 1, -1], [5.01, 9, -1.0]]))
    write_part(tmp_path / "part_0000.npz", [first, empty], {"sums": np.array([[1.0, 2.0]])})
    write_part(tmp_path / "part_0001.npz", [third], {"sums": np.array([[10.0, 20.0]])})
    return sorted(tmp_path.iterdir())


def test_frames_of_all_parts(files: list[Path]) -> None:
    assert [file.name for file in files] == ["part_0000.npz", "part_0001.npz"]
    store = PredictionStore(files)
    assert (store.frames, store.rows) == (3, 4)
    assert store.of_frame("a").boxes[:, 0].tolist() == [1]
    assert len(store.of_frame("b").places) == len(store.of_frame("b").detected_scores) == 0
    assert store.of_frame("c").kinds.tolist() == [2, 0, 1]  # without an owner first
    assert store.sum_of("sums").tolist() == [11, 22]
    with pytest.raises(DataError, match="frame d is not among the 3 frames"):
        store.of_frame("d")


def test_objects_are_found_by_their_labelled_box(files: list[Path]) -> None:
    store = PredictionStore(files)
    for box, x in ((box_at(1, 1), 1.0), (box_at(5.0, 1), 5.0), (box_at(5.015, 9), 5.01)):
        label = store.label_of(np.array(box))
        assert label is not None
        found = store.of_objects([label], np.zeros(1))
        assert found.boxes[:, 0].tolist() == pytest.approx([x])
        assert len(found.detected_scores) == 1
    for other in (box_at(5.0, 5), box_at(1.1, 1), box_at(50, 1)):
        assert store.label_of(np.array(other)) is None


def test_several_objects_each_on_its_own_ground(files: list[Path]) -> None:
    store = PredictionStore(files)
    labels = [store.label_of(np.array(box)) for box in (box_at(5.01, 9), box_at(1, 1))]
    found = store.of_objects(labels, np.array([0.5, 0.25]))
    assert found.boxes[:, 0].tolist() == pytest.approx([5.01, 1])
    assert found.boxes[:, 2].tolist() == pytest.approx([-1.5, -1.25])
    assert found.detected_boxes[:, 2].tolist() == pytest.approx([-1.49, -1.24])
    nothing = store.of_objects([], np.zeros(0))
    assert len(nothing.places) == len(nothing.detected_scores) == 0


def test_rows_in_any_order_belong_to_their_objects(tmp_path: Path) -> None:
    boxes = [box_at(number, number) for number in range(6)]
    frame = LabelledFrame(
        "a", predictions(boxes, [2, -1, 0, 2, -1, 0]), np.zeros((3, 3)) + np.arange(3)[:, None]
    )
    write_part(tmp_path / "part.npz", [frame], {})
    store = PredictionStore([tmp_path / "part.npz"])
    found = {}
    for label in range(3):
        found[label] = store.of_objects([label], np.zeros(1)).kinds.tolist()
    assert found == {0: [2, 5], 1: [], 2: [0, 3]}
    assert sorted(store.of_frame("a").kinds.tolist()) == list(range(6))


def test_a_damaged_part_is_named(files: list[Path]) -> None:
    files[0].write_bytes(files[0].read_bytes()[:100])
    with pytest.raises(DataError, match=r"part_0000.npz: this part .* delete it"):
        PredictionStore(files)


def test_a_part_that_could_not_be_finished_leaves_nothing(tmp_path, monkeypatch) -> None:
    def fails(stream, **arrays) -> None:
        stream.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", fails)
    frame = LabelledFrame("a", predictions([box_at(1, 1)]), np.zeros((0, 3)))
    with pytest.raises(OSError, match="No space"):
        write_part(tmp_path / "part.npz", [frame], {})
    assert list(tmp_path.iterdir()) == []
