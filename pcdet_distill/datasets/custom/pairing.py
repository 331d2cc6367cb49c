"""Find the labels of a folder of clouds, and pair every cloud with its labels by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...commands import command_text
from ...errors import DataError
from ..readers.folders import LABEL_TABLES, OTHER_TABLES, is_in_other_folder
from .labels import FrameLabels, LabelFile
from .labels.files import frame_of_file

LAST_NUMBER = re.compile(r"(\d+)(?:\.0+)?$")
LABEL_SUFFIXES = (".json", ".csv", ".tsv", ".txt", ".xml")
# Files that describe a data set.
OTHER_FILES = frozenset(
    {
        *("meta.json", "key_id_map.json", "frame_pointcloud_map.json", "frame_list.txt"),
        *("dataset_meta.json", "desc.json", "classes.txt", "readme.txt", "license.txt"),
        *("requirements.txt", "poses.txt", "times.txt", "timestamps.txt", "calib.txt"),
        *("train.txt", "val.txt", "test.txt", "_classes.txt", "_classes.json"),
    }
)
# Folders beside the given one that usually hold its labels.
BESIDE = ("label_2", "labels", "label", "annotations", "ann", "boxes")
CONVERTED = "custom_infos_train.pkl"
LABEL_WORDS = ("label", "annot", "box", "cuboid", "gt", "tracklet", "ground_truth", "object")


@dataclass(frozen=True)
class Pairs:
    """Clouds and labels by the frame's name.

    Attributes:
        labels: labels of each frame that has some.
        unlabelled: frames without labels.
        notes: what was assumed, a sentence each.
    """

    labels: Mapping[str, FrameLabels]
    unlabelled: tuple[str, ...]
    notes: tuple[str, ...] = ()


def name_clouds(clouds: Sequence[Path], root: Path) -> dict[str, Path]:
    """Each cloud by the name of its frame; see ``frame_of_file``.

    Clouds of folders such as gt_database/, which hold no frames, are left out. So are data sets
    that an earlier conversion wrote into a folder below.
    """
    named: dict[str, Path] = {}
    converted = _converted_folders(root)
    for cloud in clouds:
        if is_in_other_folder(cloud, root) or cloud.name.lower() in OTHER_TABLES:
            continue
        if converted & set(cloud.parents):
            continue
        frame = frame_of_file(cloud, root)
        if frame in named:
            raise DataError(
                f"{cloud}: is the same frame '{frame}' as {named[frame]}; expected one cloud a "
                "frame"
            )
        named[frame] = cloud
    return named


def _converted_folders(root: Path) -> set[Path]:
    """The folders below ``root`` that hold a converted data set."""
    return {path.parent for path in root.rglob(CONVERTED) if path.parent != root}


def find_label_files(labels: Path | None, root: Path, frames: Iterable[str]) -> list[LabelFile]:
    """The label files of a folder of clouds.

    Args:
        labels: a file, or a folder of files; None to look in the folder of the clouds, and in
            folders such as ``label_2`` beside it.
        root: the folder of the clouds.
        frames: the names of the clouds' frames.
    """
    if labels is not None:
        return _given_files(labels, frames)
    folders = [root] if root.is_dir() else []
    folders += [root.parent / name for name in BESIDE if (root.parent / name).is_dir()]
    for folder in folders:
        found = _choose(_candidates(folder), frames)
        if found:
            return found
    demo = command_text("demo", "--cfg_file", "CFG", "--ckpt", "CKPT", "--data_path", root)
    raise DataError(
        f"{root}: holds no labels beside the clouds; --labels names the file or folder of the "
        f"boxes ({', '.join(LABEL_SUFFIXES)}), while clouds alone are shown to a trained detector "
        f"by '{demo}'"
    )


def _given_files(labels: Path, frames: Iterable[str]) -> list[LabelFile]:
    if labels.is_file():
        _refuse_other_suffix(labels)
        return [LabelFile(labels, frame_of_file(labels, labels.parent))]
    if not labels.is_dir():
        raise DataError(f"--labels {labels}: no such file or folder")
    found = _choose(_candidates(labels), frames)
    if not found:
        raise DataError(
            f"--labels {labels}: holds no label files; expected {', '.join(LABEL_SUFFIXES)}"
        )
    return found


def _refuse_other_suffix(labels: Path) -> None:
    """Refuse a file that is no label file by its name, such as a pickle of infos."""
    suffix = labels.suffix.lower()
    if suffix in (".pkl", ".pickle"):
        raise DataError(
            f"--labels {labels}: is a pickle, which may run code; expected "
            f"{', '.join(LABEL_SUFFIXES)}, or the info files of a data set of OpenPCDet as "
            "INFO_PATH of a yaml"
        )


def _candidates(folder: Path) -> list[LabelFile]:
    """The files of a folder and its subfolders that may hold labels."""
    files = []
    converted = _converted_folders(folder)
    for path in sorted(folder.rglob("*")):
        name = path.name.lower()
        is_other = is_in_other_folder(path, folder) or name in OTHER_FILES
        is_label = path.suffix.lower() in LABEL_SUFFIXES or name in LABEL_TABLES
        is_other = is_other or bool(converted & set(path.parents))
        if is_label and not is_other and path.is_file():
            files.append(LabelFile(path, frame_of_file(path, folder)))
    return files


def _choose(candidates: Sequence[LabelFile], frames: Iterable[str]) -> list[LabelFile]:
    """The label files among the candidates: those named like clouds, else one of all frames."""
    for key in (_end_of, _number_of):
        names = {key(frame) for frame in frames} - {""}
        matched = [file for file in candidates if key(file.frame) in names]
        if matched and len(candidates) > 1:
            return _of_one_kind(matched, candidates)
    if len(candidates) <= 1:
        return list(candidates)
    likely = [file for file in candidates if _sounds_like_labels(file.path)] or list(candidates)
    file_names = {file.path.name for file in likely}
    suffixes = {file.path.suffix.lower() for file in likely}
    # Several files of one name are those of several recordings. Many files of one kind are one a
    # frame, none of which has a cloud: pairing says so.
    if len(file_names) == 1 or (len(suffixes) == 1 and len(likely) > 3):
        return likely
    shown = ", ".join(str(file.path) for file in likely[:3])
    raise DataError(f"{len(likely)} files may hold the labels ({shown} ...); --labels names them")


def _sounds_like_labels(path: Path) -> bool:
    words = f"{path.parent.name}/{path.name}".lower()
    return any(word in words for word in LABEL_WORDS)


def _of_one_kind(matched: Sequence[LabelFile], candidates: Sequence[LabelFile]) -> list[LabelFile]:
    """The kind of files of which most are named like clouds, with those beside them."""
    count_of: dict[str, int] = {}
    for file in matched:
        suffix = file.path.suffix.lower()
        count_of[suffix] = count_of.get(suffix, 0) + 1
    most = max(count_of.values())
    kinds = [suffix for suffix, count in count_of.items() if count == most]
    if len(kinds) > 1:
        raise DataError(
            f"{matched[0].path.parent}: holds labels as {' and as '.join(kinds)}; --labels names "
            "the folder or file of one kind"
        )
    of_kind = [file for file in matched if file.path.suffix.lower() == kinds[0]]
    folders = {file.path.parent for file in of_kind}
    # Others of the folder are labels without a cloud, if their names end with a number as well.
    have_numbers = all(_number_of(file.frame) for file in of_kind)
    chosen = []
    for file in candidates:
        is_named_alike = not have_numbers or bool(_number_of(file.frame))
        is_beside = file.path.parent in folders and file.path.suffix.lower() == kinds[0]
        if is_beside and is_named_alike:
            chosen.append(file)
    return chosen


def pair(
    frames: Sequence[str],
    labels: Mapping[str, FrameLabels],
    *,
    skip_missing: bool = False,
    unlabelled_is_empty: bool = False,
) -> Pairs:
    """Pair frames and labels by name, by the last part of it, or by the number that ends it.

    Args:
        frames: names of the frames that have a cloud.
        labels: labels by the name that the label files give.
        skip_missing: leave out labels whose cloud is missing.
        unlabelled_is_empty: a cloud without labels is a frame without objects.
    """
    frame_of, notes = _match(frames, labels)
    missing = [name for name in labels if name not in frame_of]
    if missing and len(missing) == len(labels):
        raise DataError(
            f"{_place(labels[missing[0]], missing[0])}: none of the {len(labels)} labelled frames "
            f"has a cloud; the labels name '{missing[0]}', the clouds '{frames[0]}'"
        )
    if missing and not skip_missing:
        raise DataError(
            f"{_place(labels[missing[0]], missing[0])}: {len(missing)} labelled frames, '"
            f"{missing[0]}' first, have no cloud; --skip_missing leaves them out"
        )
    if missing:
        notes.append(f"{len(missing)} labelled frames without cloud left out ({missing[0]} ...)")
    paired = {frame_of[name]: entry for name, entry in labels.items() if name in frame_of}
    unlabelled = [frame for frame in frames if frame not in paired]
    if unlabelled and unlabelled_is_empty:
        notes.append(f"{len(unlabelled)} clouds without labels are frames without objects")
        paired.update({frame: FrameLabels.from_rows([]) for frame in unlabelled})
        unlabelled = []
    in_order = {frame: paired[frame] for frame in frames if frame in paired}
    return Pairs(in_order, tuple(unlabelled), tuple(notes))


def _place(entry: FrameLabels, name: str) -> str:
    return entry.where[0] if entry.where else f"labels of '{name}'"


def _match(
    frames: Sequence[str], labels: Mapping[str, FrameLabels]
) -> tuple[dict[str, str], list[str]]:
    """The frame of each name in the labels that has one, and what was assumed."""
    by_end = _unique(frames, _end_of)
    by_number = _unique(frames, _number_of)
    known = set(frames)
    frame_of: dict[str, str] = {}
    notes: list[str] = []
    for name in labels:
        found = name if name in known else by_end.get(_end_of(name))
        if found is None and _number_of(name) in by_number:
            found = by_number[_number_of(name)]
            if not notes:
                notes = [f"labels and clouds were paired by number, as '{name}' and '{found}'"]
        if found is not None:
            frame_of[name] = found
    _refuse_two_for_one(frame_of, labels)
    in_turn = [str(number) for number in range(len(labels))]
    if (
        not frame_of
        and sorted(labels, key=_place_in_order) == in_turn
        and len(labels) <= len(frames)
    ):
        note = "labels name frames by their number in turn: taken as the clouds in order of name"
        return dict(zip(in_turn, sorted(frames))), [note]
    return frame_of, notes


def _end_of(name: str) -> str:
    """The last part of a frame's name."""
    return name.rsplit("/", 1)[-1]


def _place_in_order(name: str) -> tuple[int, str]:
    return (int(name), name) if name.isdigit() else (-1, name)


def _unique(frames: Sequence[str], key: Callable[[str], str]) -> dict[str, str]:
    """The frame of each key that only one frame has."""
    found: dict[str, str] = {}
    twice = set()
    for frame in frames:
        name = key(frame)
        if name in found:
            twice.add(name)
        found[name] = frame
    return {name: frame for name, frame in found.items() if name and name not in twice}


def _number_of(name: str) -> str:
    """The number that ends a name, without leading zeros; empty where there is none.

    Tables write the frame 7 as 7.0 where some of their cells are empty.
    """
    found = LAST_NUMBER.search(_end_of(name))
    return str(int(found.group(1))) if found else ""


def _refuse_two_for_one(frame_of: Mapping[str, str], labels: Mapping[str, FrameLabels]) -> None:
    first_name: dict[str, str] = {}
    for name, frame in frame_of.items():
        if frame in first_name:
            raise DataError(
                f"{_place(labels[name], name)}: frame '{frame}' has labels under two names, "
                f"'{first_name[frame]}' and '{name}'"
            )
        first_name[frame] = name
