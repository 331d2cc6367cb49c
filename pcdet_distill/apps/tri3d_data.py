"""``pcdet-distill data tri3d``: ONCE and Waymo through the package tri3d, without TensorFlow.

tri3d reads ONCE's folders and the parquet files of Waymo's version 2. Each labelled frame is
exported to a folder of clouds and labels, which then takes the road of ``data custom``: survey,
yaml files, info files, database. So these data sets train and are evaluated like own data.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..datasets.custom.folder import LABELS, POINTS, SPLITS
from ..datasets.custom.labels.openpcdet_text import openpcdet_text
from ..datasets.parts import Merge, Part, within
from ..errors import ConfigError, DataError
from ..extras import import_extra
from ..parallel import as_engine
from .custom_data import (
    add_class_arguments,
    add_custom_arguments,
    add_out_argument,
    folder_of_parts,
    making_part,
    run_conversion,
)


@dataclass(frozen=True)
class Source:
    """How tri3d reads one data set.

    Attributes:
        reader: name of tri3d's class.
        splits: our split to the folder of the data set.
        sensors: LiDARs whose points are joined; all are in the frame of the first.
        features: columns of the points that tri3d gives.
        empty_is_labelled: whether a frame without boxes is a labelled frame without objects; ONCE
            leaves most frames unlabelled.
    """

    reader: str
    splits: dict[str, str]
    sensors: tuple[str, ...]
    features: tuple[str, ...]
    empty_is_labelled: bool


WAYMO_LIDARS = (
    "LIDAR_TOP",
    "LIDAR_FRONT",
    "LIDAR_SIDE_LEFT",
    "LIDAR_SIDE_RIGHT",
    "LIDAR_REAR",
)
SOURCES = {
    "once": Source(
        reader="Once",
        splits={"train": "train", "val": "val"},
        sensors=("lidar_roof",),
        features=("x", "y", "z", "intensity"),
        empty_is_labelled=False,
    ),
    "waymo": Source(
        reader="Waymo",
        splits={"train": "training", "val": "validation"},
        sensors=WAYMO_LIDARS,
        features=("x", "y", "z"),  # tri3d leaves out intensity and elongation
        empty_is_labelled=True,
    ),
}


def add_tri3d_arguments(parser: argparse.ArgumentParser) -> None:
    """Which data set is read, where it is, and how much of it."""
    parser.add_argument("source", choices=sorted(SOURCES), help="the data set")
    parser.add_argument(
        "folder",
        type=Path,
        help="ONCE: the folder of train/ and val/, each with data/SEQUENCE/; Waymo 2: the folder "
        "of training/ and validation/, each with the folders of parquet files",
    )
    add_out_argument(parser)
    parser.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="take every N-th frame of a sequence: neighbours are nearly equal (default: 1)",
    )
    add_class_arguments(parser)


def prepare_tri3d(args: argparse.Namespace) -> None:
    """Export the frames, then convert them like own data."""
    if args.every < 1:
        raise ConfigError(f"--every: expected a whole number from 1 up, found {args.every}")
    source = SOURCES[args.source]
    _tri3d()
    splits = _splits_of(args.folder, source)
    if args.out.exists():
        raise DataError(f"--out {args.out}: exists already; remove it or name another folder")
    if isinstance(args.workers, Part):
        _export_part(source, splits, args, args.workers)
    with _exported(args.out) as folder:
        if isinstance(args.workers, Merge):
            args.workers.open(folder_of_parts(args.out.absolute()), folder)
        _export_splits(source, splits, folder, args)
        if len(splits) < len(source.splits):
            shutil.rmtree(folder / SPLITS)  # then the conversion draws a split
        _convert(folder, source, args)


def _export_part(
    source: Source, splits: dict[str, str], args: argparse.Namespace, part: Part
) -> None:
    """Export the sequences of one part; the merge converts those of all parts.

    Raises:
        PartIsReady: always, at the end.
    """
    with making_part(args.out.absolute(), part) as folder:
        for name in (POINTS, LABELS):
            (folder / name).mkdir()
        _export_splits(source, splits, folder, args)


def _export_splits(
    source: Source, splits: dict[str, str], folder: Path, args: argparse.Namespace
) -> None:
    """Export every split that the data set has."""
    for split, name in splits.items():
        export_split(source, args.folder, (split, name), folder, args)


def _convert(folder: Path, source: Source, args: argparse.Namespace) -> None:
    """``data custom`` on the exported folder."""
    parser = argparse.ArgumentParser()
    add_custom_arguments(parser)
    words = [str(folder / POINTS), "--labels", str(folder / LABELS), "--out", str(args.out)]
    words += ["--columns", *source.features]
    for flag, values in (("--classes", args.classes), ("--rename", args.rename)):
        if values:
            words += [flag, *values]
    custom = parser.parse_args(words)
    custom.workers = within(args.workers)
    run_conversion(custom)


def _splits_of(folder: Path, source: Source) -> dict[str, str]:
    """The splits whose folders exist; one is enough."""
    found = {split: name for split, name in source.splits.items() if (folder / name).is_dir()}
    if not found:
        listed = " or ".join(f"{name}/" for name in source.splits.values())
        raise DataError(f"{folder}: expected a folder with {listed} of {source.reader}")
    return found


def _tri3d() -> Any:
    return import_extra("tri3d.datasets", needed_by="data tri3d", raises=DataError)


@lru_cache(maxsize=1)
def _open(reader: str, folder: Path, name: str) -> Any:
    """tri3d's reader of one split. It reads tables of all sequences, so it is kept."""
    try:
        return getattr(_tri3d(), reader)(str(folder), name)
    except (OSError, KeyError, ValueError, IndexError, TypeError) as error:
        raise DataError(
            f"{folder / name}: tri3d cannot read it as {reader} ({type(error).__name__}: {error})"
        ) from None


@contextmanager
def _exported(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` for the exported frames, which is removed afterwards."""
    folder = out.absolute().with_name(f".{out.name}_exported")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        for name in (POINTS, LABELS, SPLITS):
            (folder / name).mkdir(parents=True)
        yield folder
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def export_split(
    source: Source,
    root: Path,
    split: tuple[str, str],
    folder: Path,
    args: argparse.Namespace,
) -> None:
    """Write points, labels and the list of frames of one split; of a part without the list.

    Args:
        split: our name of the split, and that of its folder.
    """
    ours, name = split
    reader = _open(source.reader, root, name)
    sequences = [str(number) for number in reader.sequences()]
    task = partial(_export_sequence, source, root, (ours, name), folder, args.every)
    frames: list[str] = []
    num_skipped = 0
    with as_engine(args.workers).results(task, sequences) as results:
        bar = tqdm(results, total=len(sequences), desc=ours, unit="sequence", disable=None)
        for exported, skipped in bar:
            frames += exported
            num_skipped += skipped
    if isinstance(args.workers, Part):
        return  # the merge lists the frames of all parts
    if not frames:
        raise DataError(f"{root / name}: no labelled frame")
    text = "".join(f"{frame}\n" for frame in frames)
    (folder / SPLITS / f"{ours}.txt").write_text(text)
    skipped_words = f"; {num_skipped} without labels are left out" if num_skipped else ""
    print(f"  {ours}: {len(frames)} frames of {len(sequences)} sequences{skipped_words}")


def _export_sequence(
    source: Source,
    root: Path,
    split: tuple[str, str],
    folder: Path,
    every: int,
    sequence: str,
) -> tuple[list[str], int]:
    """The names of the exported frames of one sequence, and the number of those left out."""
    ours, name = split
    reader = _open(source.reader, root, name)
    number = int(sequence)
    exported = []
    num_skipped = 0
    for frame in map(int, reader.frames(number, source.sensors[0])[::every]):
        frame_id = f"{ours}_{number:04d}_{frame:04d}"
        try:
            boxes = reader.boxes(number, frame, coords=source.sensors[0])
            if not boxes and not source.empty_is_labelled:
                num_skipped += 1
                continue
            points = _points(source, reader, number, frame)
        except (OSError, KeyError, ValueError, IndexError, TypeError) as error:
            raise DataError(
                f"{root / name}: frame {frame} of sequence {number} cannot be read "
                f"({type(error).__name__}: {error})"
            ) from None
        np.save(folder / POINTS / f"{frame_id}.npy", points)
        names, values = box_rows(boxes)
        (folder / LABELS / f"{frame_id}.txt").write_text(openpcdet_text(names, values))
        exported.append(frame_id)
    return exported, num_skipped


def _points(source: Source, reader: Any, sequence: int, frame: int) -> np.ndarray:
    """(N, features) float32 points of all LiDARs of a frame."""
    parts = []
    for sensor in source.sensors:
        points = np.asarray(reader.points(sequence, frame, sensor), dtype=np.float32)
        parts.append(points[:, : len(source.features)])
    return np.concatenate(parts)


def box_rows(boxes: Sequence[Any]) -> tuple[list[str], np.ndarray]:
    """Names, and boxes (M, 7), of tri3d's boxes.

    The heading comes from the transform: it says where the front of the object points.
    """
    names = [str(box.label).capitalize() for box in boxes]
    rows = np.zeros((len(boxes), 7))
    for row, box in zip(rows, boxes):
        middle = np.asarray(box.transform.apply(np.zeros(3)), dtype=np.float64).reshape(3)
        front = np.asarray(box.transform.apply(np.array([1.0, 0, 0])), dtype=np.float64)
        ahead = front.reshape(3) - middle
        row[:3] = middle
        row[3:6] = np.asarray(box.size)
        row[6] = np.arctan2(ahead[1], ahead[0])
    return names, rows
