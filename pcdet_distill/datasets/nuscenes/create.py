"""Make the info files and the ground-truth database of a nuScenes version, in OpenPCDet's layout.

Everything is written to a staging folder first and moved into place at the end. So an interrupted
run leaves the old files as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ...errors import DataError
from ...evaluation.nuscenes.tables import Tables
from ...parallel import Workers, as_engine
from ...texts import listed
from ..cloud_sizes import write_sizes
from ..info_files import publish, staging_folder
from ..object_files import write_object_list
from ..safe_pickle import plain_pickle
from .database import Entry, database_file, database_name, write_objects
from .folder import NuScenesFolder
from .infos import Info, InfoMaker
from .splits import Splits, scenes_of_splits
from .sweeps import read_frame

TRAIN = "train"
TEST = "test"
SHOWN_SCENES = 3  # in messages


@dataclass
class Created:
    """What was made.

    Attributes:
        frames: number of frames of each split.
        objects: number of objects in the database.
        without_files: scenes whose point files are not there, as in a partial download.
        in_no_split: scenes that are in none of the splits.
    """

    frames: dict[str, int] = field(default_factory=dict)
    objects: int = 0
    without_files: list[str] = field(default_factory=list)
    in_no_split: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """One line for people, and one more for each kind of scene that was left out."""
        counts = ", ".join(f"{count} {split}" for split, count in self.frames.items())
        lines = [f"infos of {counts} frames, {self.objects} objects in the database"]
        for scenes, reason in (
            (self.without_files, "have no point files, as after a partial download"),
            (self.in_no_split, "are in none of the splits"),
        ):
            if scenes:
                lines.append(f"left out: {len(scenes)} scenes {reason} ({_first_scenes(scenes)})")
        return "\n".join(lines)


def info_file(max_sweeps: int, split: str) -> str:
    """Name of the info file of a split."""
    return f"nuscenes_infos_{max_sweeps}sweeps_{split}.pkl"


def create_nuscenes_infos(
    folder: NuScenesFolder,
    max_sweeps: int,
    *,
    with_cam: bool = False,
    workers: Workers = 1,
    show_progress: bool = True,
) -> Created:
    """Write ``nuscenes_infos_{n}sweeps_{split}.pkl``, the database of objects and its list.

    OpenPCDet counts every sample that is not for training as validation. Here a scene that is in no
    split, or whose points are missing, is left out: it could not be evaluated.

    Args:
        folder: of the version.
        max_sweeps: sweeps of a frame, the key frame included.
        with_cam: describe all cameras in the infos too.
        workers: processes, or the engine, that make the database.
        show_progress: show bars on a terminal.
    """
    folder.check_tables()
    hidden = None if show_progress else True  # None: shown on a terminal only
    splits = scenes_of_splits(folder.tables, folder.version)
    tables = Tables(folder.clouds, folder.version)
    maker = InfoMaker(tables, max_sweeps, with_cam=with_cam, labelled=TEST not in splits)
    samples, created = _samples_of_splits(folder, tables, maker, splits)
    with staging_folder(folder.root, workers) as staging:
        for split, tokens in samples.items():
            bar = tqdm(tokens, desc=f"infos of {split}", unit="frame", disable=hidden)
            infos = [maker.info(token) for token in bar]
            _check_files(folder, infos)
            file = staging / info_file(max_sweeps, split)
            file.write_bytes(plain_pickle(infos))
            write_sizes(file, folder.clouds, files_of(infos))
            created.frames[split] = len(infos)
            if split == TRAIN:
                created.objects = _write_database(
                    folder, infos, max_sweeps, staging, workers, hidden
                )
        publish(staging, folder.root, workers)
    return created


def _samples_of_splits(
    folder: NuScenesFolder, tables: Tables, maker: InfoMaker, splits: Splits
) -> tuple[dict[str, list[str]], Created]:
    """The samples of each split, in the order of the table, and which scenes are left out."""
    created = Created()
    split_of_scene: dict[str, str] = {}
    for token, scene in tables.by_token("scene").items():
        name = scene["name"]
        split = _split_of(name, splits)
        if split is None:
            created.in_no_split.append(name)
        elif not (folder.clouds / maker.lidar_path(scene["first_sample_token"])).is_file():
            created.without_files.append(name)
        else:
            split_of_scene[token] = split
    samples: dict[str, list[str]] = {split: [] for split in splits}
    for token, row in tables.by_token("sample").items():
        split = split_of_scene.get(row["scene_token"])
        if split is not None:
            samples[split].append(token)
    if not any(samples.values()):
        raise DataError(f"{folder.root}: no frame is left; {_why_none(created, folder)}")
    return samples, created


def _split_of(scene: str, splits: Splits) -> str | None:
    for split, names in splits.items():
        if scene in names:
            return split
    return None


def _why_none(created: Created, folder: NuScenesFolder) -> str:
    """Why no scene can be used, for the error message."""
    if created.without_files:
        return (
            f"the point files of all scenes ({_first_scenes(created.without_files)}) are missing; "
            f"expected them in {folder.clouds / 'samples' / 'LIDAR_TOP'}"
        )
    found = _first_scenes(created.in_no_split) or "there are none"
    return (
        f"the scenes of the tables ({found}) are in none of the splits of {folder.version}; a data "
        f"set of your own says by {folder.tables / 'splits.json'} which scenes are for what"
    )


def _check_files(folder: NuScenesFolder, infos: Sequence[Info]) -> None:
    """Refuse a data set with missing point files now, and not in the middle of a training."""
    for path in sorted(files_of(infos)):
        if not (folder.clouds / path).is_file():
            raise DataError(
                f"{folder.clouds / path}: this point file, which the tables list, does not exist"
            )


def files_of(infos: Iterable[Info]) -> set[str]:
    """The point files of frames and their sweeps."""
    paths = set()
    for info in infos:
        paths.add(info["lidar_path"])
        paths.update(sweep["lidar_path"] for sweep in info["sweeps"])
    return paths


def _write_database(
    folder: NuScenesFolder,
    infos: Sequence[Info],
    max_sweeps: int,
    staging: Path,
    workers: Workers,
    hidden: bool | None,
) -> int:
    """Write all objects of the training split; returns their number."""
    database = staging / database_name(max_sweeps)
    database.mkdir()
    task = partial(_objects_of_frame, folder.clouds, max_sweeps, database)
    objects: dict[str, list[Entry]] = {}
    frames = list(enumerate(infos))
    with as_engine(workers).results(task, frames) as results:
        bar = tqdm(results, total=len(infos), desc="objects", unit="frame", disable=hidden)
        for entries in bar:
            for entry in entries:
                objects.setdefault(entry["name"], []).append(entry)
    write_object_list(staging / database_file(max_sweeps), objects)
    return sum(len(entries) for entries in objects.values())


def _objects_of_frame(
    clouds: Path, max_sweeps: int, database: Path, frame: tuple[int, Info]
) -> list[Entry]:
    """The objects of one frame, by its number and info."""
    number, info = frame
    try:
        points = read_frame(clouds, info, max_sweeps)
    except DataError as error:
        raise DataError(f"frame {info['lidar_path']}: {error}") from None
    return write_objects(database, number, points, info)


def _first_scenes(names: Iterable[str]) -> str:
    """Some names of scenes, for messages."""
    return listed(sorted(names), SHOWN_SCENES)
