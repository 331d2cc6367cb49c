"""Make a data set: read, check, survey, split, write. Nothing is left behind after an error."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ...commands import command_text
from ...config import load_config, required, resolve_data_path
from ...datasets.custom.custom_infos import create_custom_infos
from ...datasets.custom.folder import LABELS, POINTS, SPLITS
from ...datasets.custom.labels import FrameLabels, LabelOptions, LabelSet, read_labels
from ...datasets.custom.labels.openpcdet_text import openpcdet_text
from ...datasets.custom.pairing import Pairs, find_label_files, name_clouds, pair
from ...datasets.info_files import LOCK, preparing
from ...datasets.object_files import NOT_IN_FILE_NAMES
from ...datasets.parts import Merge, Part, within
from ...datasets.readers import CLOUD_SUFFIXES, find_clouds, is_bag
from ...errors import ConfigError, DataError
from ...parallel import Workers, as_engine
from ...visualize import BevPanel
from .arguments import names_of
from .classes import NamedLabels, name_classes
from .clouds import CloudPlan, plan_clouds, read_planned, usual_features
from .picture import draw_frames, frames_to_draw
from .recording import labels_by_frame, unpack_recording
from .settings import (
    choose_anchor,
    choose_grid,
    choose_sampling,
    choose_schedule,
    choose_voxel_limits,
    covered_share,
)
from .split import Split, natural_order, split_frames, split_of_folders
from .survey import FrameStats, Survey, survey_classes, survey_frame
from .text import doubts, survey_text
from .yaml_files import YamlValues, dataset_yaml, student_yaml, teacher_yaml

MOST_CLOUDS_COUNTED = 50  # frames whose pillars are counted
PICTURE = "frames.png"
REPORT = "survey.txt"


@dataclass(frozen=True)
class Source:
    """The clouds and labels of a data set, under the names that their frames get.

    Attributes:
        clouds: file of each frame.
        labels: labels of each labelled frame.
        original: the name by which the files tell a frame, by its new name.
        notes: what was found out or assumed, a sentence each.
    """

    clouds: Mapping[str, Path]
    labels: Mapping[str, FrameLabels]
    original: Mapping[str, str]
    notes: tuple[str, ...]


class FrameFiles(NamedTuple):
    """What a process needs to convert one frame; no labels for an unlabelled one."""

    name: str
    cloud: Path
    labels: FrameLabels | None

    def __str__(self) -> str:
        """What parts know a frame by: clouds of a recording lie elsewhere in each command."""
        return self.name


def run_conversion(args: argparse.Namespace) -> None:
    """``pcdet-distill data custom``: make the data set, and say what it holds."""
    out = Path(args.out).absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--out {args.out}: exists already; remove it or name another folder")
    with _scratch_folder(out) as scratch:
        source = find_source(args, scratch)
        if isinstance(args.workers, Part):
            _convert_part(args, args.workers, source, out)
        else:
            _convert(args, source, out)


@contextmanager
def _scratch_folder(out: Path) -> Iterator[Path]:
    """An empty folder on the disk of ``out``: the clouds of a recording may be many gigabytes."""
    existing = next(folder for folder in out.parents if folder.is_dir())
    try:
        folder = Path(tempfile.mkdtemp(prefix=".recording_", dir=existing))
    except OSError as error:
        raise DataError(f"{existing}: cannot be written: {error}") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _named_and_planned(
    args: argparse.Namespace, source: Source
) -> tuple[Source, NamedLabels, CloudPlan]:
    """The source with the classes of the data set, and how its clouds are read; says both."""
    named = name_classes(source.labels, args.classes, args.rename)
    source = replace(source, labels=named.labels, notes=(*source.notes, *named.notes))
    first = next(iter(source.clouds.values()))
    plan = plan_clouds(first, names_of(args.columns), names_of(args.features), args.intensity_scale)
    _say(plan.notes)
    _say(source.notes)
    return source, named, plan


def folder_of_parts(out: Path) -> Path:
    """Where ``--shard`` keeps the frames of its parts until all are there."""
    return out.with_name(f".{out.name}_shards")


@contextmanager
def making_part(out: Path, part: Part) -> Iterator[Path]:
    """The folder in which a part of the data set ``out`` is made.

    Raises:
        PartIsReady: at the end, where nothing went wrong.
    """
    root = folder_of_parts(out)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with part.staging_folder(root) as staging:
            yield staging
            part.finish(staging)
    except OSError as error:
        raise DataError(f"{root}: cannot be written: {error}") from None


def _convert_part(args: argparse.Namespace, part: Part, source: Source, out: Path) -> None:
    """Read and write the clouds of one part. The rest, which needs all frames, is the merge's.

    Raises:
        PartIsReady: always, at the end.
    """
    source, _, plan = _named_and_planned(args, source)
    with making_part(out, part) as staging:
        write_frames(source, plan, staging, part)


def _convert(args: argparse.Namespace, source: Source, out: Path) -> None:
    """Read the clouds of a source, and write the data set."""
    source, named, plan = _named_and_planned(args, source)
    with _unfinished(out) as folder:
        if isinstance(args.workers, Merge):
            args.workers.open(folder_of_parts(out), folder)
        stats = write_frames(source, plan, folder, args.workers)
        labelled = tuple(frame for frame in stats if frame.frame in source.labels)
        survey = Survey(labelled, plan.features, survey_classes(labelled, source.labels))
        report = survey_text(survey, named.trained)
        print(report)
        found = doubts(survey, named.trained)
        _say(f"warning: {doubt}" for doubt in found)
        (folder / REPORT).write_text("\n".join([report, "", *found, ""]), encoding="utf-8")
        split = _write_split(source, args, folder)
        seen = names_of(args.features) or usual_features(plan.features, survey.is_constant)
        values = choose_values(survey, named.trained, split, tuple(seen), (folder, out))
        files = write_yaml(values, args.name or out.name, folder)
        note = _draw(survey, source.labels, values, folder)
        _say([note] if note else [])
        counts = create_custom_infos(folder, within(args.workers))
    shutil.rmtree(folder_of_parts(out), ignore_errors=True)
    _say_end(args.out, counts, files)


def find_source(args: argparse.Namespace, scratch: Path) -> Source:
    """Find clouds and labels, read the labels, pair both.

    Args:
        scratch: an empty folder, for the clouds of a recording.
    """
    root = Path(args.folder)
    recording = unpack_recording(root, args.topic, scratch) if is_bag(root) else None
    if recording is None and args.topic is not None:
        raise ConfigError(f"--topic {args.topic}: {root} is no recording, so it has no topics")
    clouds = recording.clouds if recording else _clouds_of_folder(root, args.labels)
    frames = sorted(clouds, key=natural_order)
    beside = root.parent if root.is_file() else root
    files = find_label_files(args.labels, beside, frames)
    options = LabelOptions(
        columns=names_of(args.label_columns),
        calib=args.calib,
        lidar_frame=args.lidar_frame,
        box_z=args.box_z,
        angles=args.angles,
        ignore_ids=args.ignore_ids,
    )
    format_name, labels = read_labels(files, options, args.format)
    if recording:
        labels = replace(labels, frames=labels_by_frame(labels.frames, recording))
    pairs = pair(
        frames,
        labels.frames,
        skip_missing=args.skip_missing,
        unlabelled_is_empty=args.unlabelled_is_empty,
    )
    named = _file_names(frames)
    return Source(
        clouds={named[frame]: clouds[frame] for frame in frames},
        labels={named[frame]: entry for frame, entry in pairs.labels.items()},
        original={new: frame for frame, new in named.items()},
        notes=_source_notes(clouds, files[0].path, format_name, labels, pairs),
    )


def _clouds_of_folder(root: Path, labels: Path | None) -> dict[str, Path]:
    """The clouds of a folder by frame; a table of labels among them is none."""
    recordings = [path for path in sorted(root.glob("*")) if is_bag(path)]
    if recordings and not any(path.suffix.lower() in CLOUD_SUFFIXES for path in root.rglob("*")):
        raise DataError(
            f"{root}: holds recordings and no files of clouds; name one of them, such as "
            f"{recordings[0]}"
        )
    files = [file for file in find_clouds(root) if file != labels]
    clouds = name_clouds(files, root)
    if not clouds:
        raise DataError(f"{root}: holds no point clouds of frames")
    return clouds


def _file_names(frames: Sequence[str]) -> dict[str, str]:
    """A name for the files of each frame: without the characters that no file name can hold."""
    named = {frame: NOT_IN_FILE_NAMES.sub("_", frame) for frame in frames}
    by_name: dict[str, str] = {}
    for frame, name in named.items():
        if name in by_name:
            raise DataError(
                f"the frames '{by_name[name]}' and '{frame}' would both be written as '{name}'; "
                "rename one of them"
            )
        by_name[name] = frame
    return named


def _source_notes(
    clouds: Mapping[str, Path], first: Path, format_name: str, labels: LabelSet, pairs: Pairs
) -> tuple[str, ...]:
    """What was found, in sentences."""
    notes = [
        f"{len(clouds)} clouds; labels of {len(pairs.labels)} frames, read as {format_name} "
        f"({first} ...)",
        *labels.notes,
        *pairs.notes,
    ]
    if pairs.unlabelled:
        notes.append(
            f"warning: {len(pairs.unlabelled)} of {len(clouds)} clouds without labels "
            f"({clouds[pairs.unlabelled[0]]} first): they become the split 'unlabelled'; "
            "--unlabelled_is_empty makes them frames without objects"
        )
    return tuple(notes)


def write_frames(
    source: Source, plan: CloudPlan, folder: Path, workers: Workers
) -> tuple[FrameStats, ...]:
    """Write points/ and labels/; returns the statistics of every frame."""
    for name in (POINTS, LABELS, SPLITS):
        (folder / name).mkdir()
    frames = [
        FrameFiles(frame, cloud, source.labels.get(frame)) for frame, cloud in source.clouds.items()
    ]
    task = partial(_write_frame, plan, folder)
    with as_engine(workers).results(task, frames) as results:
        bar = tqdm(results, total=len(frames), desc="clouds", unit="frame", disable=None)
        return tuple(FrameStats(**fields) for fields in bar)


def _write_frame(plan: CloudPlan, folder: Path, frame: FrameFiles) -> dict[str, Any]:
    """Write the points and the boxes of one frame; returns the fields of its statistics.

    A part keeps them in a file, which holds plain values alone.
    """
    cloud = read_planned(frame.cloud, plan)
    np.save(folder / POINTS / f"{frame.name}.npy", cloud.points)
    boxes = np.zeros((0, 7)) if frame.labels is None else frame.labels.boxes.copy()
    boxes[:, :3] -= cloud.offset
    if frame.labels is not None:
        text = openpcdet_text(list(frame.labels.names), boxes)
        (folder / LABELS / f"{frame.name}.txt").write_text(text, encoding="utf-8")
    stats = survey_frame(frame.name, cloud.points, boxes, num_bad=cloud.num_bad, note=cloud.note)
    return vars(replace(stats, offset=cloud.offset))


def _write_split(source: Source, args: argparse.Namespace, folder: Path) -> Split:
    """Draw the split, or take that of ImageSets/ beside the clouds, and write it."""
    given = _given_split(source, Path(args.folder))
    if given is not None:
        split = given
    else:
        classes_of = {}
        for frame, entry in source.labels.items():
            classes_of[source.original[frame]] = [str(name) for name in entry.names]
        drawn = split_frames(classes_of, args.split, args.seed, args.split_by)
        new_of = {old: new for new, old in source.original.items()}
        split = replace(
            drawn,
            train=tuple(new_of[frame] for frame in drawn.train),
            val=tuple(new_of[frame] for frame in drawn.val),
        )
    print(f"split: {len(split.train)} train, {len(split.val)} val; {split.note}")
    unlabelled = tuple(frame for frame in source.clouds if frame not in source.labels)
    lists = {"train": split.train, "val": split.val}
    if unlabelled:
        lists["unlabelled"] = unlabelled
    for name, frames in lists.items():
        text = "".join(f"{frame}\n" for frame in frames)
        (folder / SPLITS / f"{name}.txt").write_text(text, encoding="utf-8")
    return split


def _given_split(source: Source, root: Path) -> Split | None:
    """The split of ImageSets/{train,val}.txt in or above the folder, or of folders train/ and val/.

    None where there is neither, or a listed frame has no labels.
    """
    new_of = {old.rsplit("/", 1)[-1]: new for new, old in source.original.items()}
    for folder in (root / SPLITS, root.parent / SPLITS):
        lists = [
            _listed_frames(folder / f"{name}.txt", new_of, source) for name in ("train", "val")
        ]
        if all(lists):
            return Split(lists[0], lists[1], f"as {folder} lists them")
    return split_of_folders({new: source.original[new] for new in source.labels})


def _listed_frames(file: Path, new_of: Mapping[str, str], source: Source) -> tuple[str, ...]:
    """The frames of a split file; none where there is no such file, or a frame has no labels."""
    if not file.is_file():
        return ()
    names = [new_of.get(name, "") for name in file.read_text(encoding="utf-8-sig").split()]
    return tuple(names) if all(name in source.labels for name in names) else ()


def choose_values(
    survey: Survey,
    trained: Sequence[str],
    split: Split,
    seen: tuple[str, ...],
    folders: tuple[Path, Path],
) -> YamlValues:
    """The values of the yaml files, and the comments that say where they come from.

    Args:
        folders: where the frames are now, and where they will be.
    """
    folder, out = folders
    classes = survey.of_classes(trained)
    grid = choose_grid(classes)
    step = max(1, len(survey.frames) // MOST_CLOUDS_COUNTED)
    counted = [frame.frame for frame in survey.frames[::step]]
    limits = choose_voxel_limits(
        (np.load(folder / POINTS / f"{frame}.npy") for frame in counted), grid
    )
    schedule = choose_schedule(len(split.train))
    narrowest = min(classes, key=lambda entry: float(entry.size[:2].min()))
    return YamlValues(
        data_path=out,
        classes=tuple(trained),
        stored=survey.features,
        seen=seen,
        grid=grid,
        limits=limits,
        anchors=tuple(choose_anchor(entry, grid.pillar_m) for entry in classes),
        sampling={entry.name: choose_sampling(entry) for entry in classes},
        schedule=schedule,
        comments={
            "range": "The range is made for the labelled boxes with 5 points or more; "
            f"{covered_share(classes, grid):.0%} of all boxes lie in it.",
            "split": f"{len(split.train)} and {len(split.val)} frames: {split.note}",
            "pillar": f"A pillar is about a quarter of the narrowest class, {narrowest.name}, or "
            "what keeps the grid below 512 x 512.",
            "voxels": f"{len(counted)} frames fill at most {limits.most} pillars; train allows for "
            "pasted objects, test for fuller scenes.",
            "epochs": f"about 4000 steps of {schedule.batch_size} frames, within 20 to 80 epochs",
        },
    )


def write_yaml(values: YamlValues, name: str, folder: Path) -> list[str]:
    """Write the yaml files; returns the names of teacher and student."""
    stem = NOT_IN_FILE_NAMES.sub("_", name)
    dataset, teacher, student = (
        f"{stem}_{part}.yaml" for part in ("dataset", "teacher", "student")
    )
    texts = {
        dataset: dataset_yaml(values),
        teacher: teacher_yaml(values, dataset, teacher),
        student: student_yaml(teacher, student),
    }
    for file_name, text in texts.items():
        (folder / file_name).write_text(text, encoding="utf-8")
    return [teacher, student]


def _draw(
    survey: Survey, labels: Mapping[str, FrameLabels], values: YamlValues, folder: Path
) -> str:
    """Draw some frames; returns a note where that cannot be done."""
    chosen = frames_to_draw([len(frame.boxes) for frame in survey.frames])
    panels = []
    for index in chosen:
        frame = survey.frames[index]
        points = np.load(folder / POINTS / f"{frame.frame}.npy")
        names = [str(name) for name in labels[frame.frame].names]
        title = f"{frame.frame}: {len(names)} boxes"
        panels.append(BevPanel(title, frame.boxes, names, points=points, labels=names))
    return draw_frames(panels, values.grid.limits, values.classes, folder / PICTURE)


@contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that is renamed to it at the end, and removed after an error."""
    folder = out.with_name(f".{out.name}_unfinished")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with preparing(out, out.with_name(f".{out.name}{LOCK}")):
            try:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                yield folder
                if out.is_dir():
                    out.rmdir()  # it is empty
                os.replace(folder, out)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error}") from None


def _say(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        print(f"  {sentence}")


def _say_end(out: Path, counts: Mapping[str, Mapping[str, int]], files: Sequence[str]) -> None:
    """What was written, and the commands that come next."""
    frames = ", ".join(f"{count} {split}" for split, count in counts["frames"].items())
    teacher, student = (out / name for name in files)
    print(
        f"{out}: infos of {frames} frames, {sum(counts['objects'].values())} objects in gt_database"
    )
    print(f"look at {out / PICTURE}, then train:")
    print(f"  {command_text('train', '--cfg_file', teacher)}")
    print(f"  {command_text('train', '--cfg_file', student, '--teacher_ckpt', 'TEACHER.pth')}")


def make_infos(args: argparse.Namespace) -> None:
    """``pcdet-distill data custom_infos``: info files and database of OpenPCDet's layout."""
    config = load_config(args.cfg, args.set_cfgs)
    data_config = config.get("DATA_CONFIG", config)
    root = resolve_data_path(required(data_config, "DATA_PATH", args.cfg), config.ROOT_DIR)
    counts = create_custom_infos(root, args.workers)
    frames = ", ".join(f"{count} {split}" for split, count in counts["frames"].items())
    objects = ", ".join(f"{count} {name}" for name, count in counts["objects"].items())
    print(f"{root}: infos of {frames} frames; gt_database: {objects or 'no'} objects")
