"""Clouds of any format with the labels that lie beside them: a file, a folder, a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...datasets.custom.labels import FrameLabels, LabelFile, LabelOptions, read_labels
from ...datasets.custom.pairing import (
    BESIDE,
    LABEL_SUFFIXES,
    find_label_files,
    name_clouds,
    pair,
)
from ...datasets.readers import CLOUD_SUFFIXES, CloudSource, find_clouds, is_bag, open_clouds
from ...datasets.readers.sources import CloudFiles
from ...errors import DataError, UserError
from .loaded import FrameBoxes, LoadedFrame


class CloudFrames:
    """The clouds behind a path.

    Args:
        path: a file of one cloud, a folder of them, or a recording.
        labels: file or folder of the boxes; None to look beside the clouds.
        options: what the user says about the labels.
        columns: names of the columns of files that name none.
        topic: of a recording with several.
    """

    def __init__(
        self,
        path: Path,
        labels: Path | None = None,
        options: LabelOptions | None = None,
        *,
        columns: Sequence[str] | None = None,
        topic: str | None = None,
    ) -> None:
        self.path = path
        self.title = path.resolve().name
        self._given_labels = labels
        self._options = options or LabelOptions()
        self._columns = columns
        self._clouds, self.names = _clouds_of(path, topic)
        self._labels: Mapping[str, FrameLabels] = {}

    def choose(self, numbers: Sequence[int]) -> list[str]:
        """Read the labels of the chosen frames. Labels that were only found may be unreadable."""
        chosen = [self.names[number] for number in numbers]
        if self._given_labels is not None:
            files = find_label_files(self._given_labels, self.path, self.names)
            return self._read_labels(files, chosen)
        try:
            files = self._find_labels()
            return self._read_labels(files, chosen) if files else []
        except UserError as error:
            return [f"without labels: {error}"]

    def _find_labels(self) -> list[LabelFile]:
        """Label files in the folder of the clouds or beside it; those of one cloud may be none."""
        if is_bag(self.path):
            return []
        if self.path.is_file():
            return _labels_beside(self.path, self.names[0])
        return find_label_files(None, self.path, self.names)

    def _read_labels(self, files: Sequence[LabelFile], chosen: Sequence[str]) -> list[str]:
        """Read the label files of the chosen frames, or those of all where one holds many."""
        wanted = {name.rsplit("/", 1)[-1] for name in chosen}
        of_chosen = [file for file in files if file.frame.rsplit("/", 1)[-1] in wanted]
        format_name, labels = read_labels(of_chosen or files, self._options)
        pairs = pair(self.names, labels.frames, skip_missing=True)
        self._labels = pairs.labels
        notes = [f"labels read as {format_name} ({files[0].path.parent})"]
        without = [name for name in chosen if name not in pairs.labels]
        if len(without) == len(chosen):
            notes.append(f"none of the frames shown has labels; '{next(iter(pairs.labels))}' has")
        elif without:
            notes.append(f"{len(without)} of {len(chosen)} frames have no labels")
        return [*notes, *labels.notes, *pairs.notes]

    def load(self, number: int) -> LoadedFrame:
        """The cloud and, where there are some, its labels."""
        cloud = self._clouds.read(number, self._columns)
        entry = self._labels.get(self.names[number])
        labels = None if entry is None else FrameBoxes(entry.boxes, entry.names)
        file = self._clouds.files[number] if isinstance(self._clouds, CloudFiles) else None
        return LoadedFrame(cloud, labels, file)


def _clouds_of(path: Path, topic: str | None) -> tuple[CloudSource, list[str]]:
    """The clouds, and the names of their frames."""
    if not path.is_dir() or is_bag(path):
        clouds = open_clouds(path, topic=topic)
        return clouds, [clouds.name(index) for index in range(len(clouds))]
    named = _clouds_of_folder(path)
    return CloudFiles(list(named.values())), list(named)


def _clouds_of_folder(folder: Path) -> dict[str, Path]:
    """The clouds of a folder by the names of their frames, in order."""
    named = name_clouds(find_clouds(folder), folder)
    if not named:
        raise DataError(
            f"{folder}: holds no point clouds of frames; expected files {', '.join(CLOUD_SUFFIXES)}"
        )
    return named


def _labels_beside(cloud: Path, frame: str) -> list[LabelFile]:
    """The label file of a single cloud: of its name, in its folder or in one beside that."""
    folders = [cloud.parent, *(cloud.parent.parent / name for name in BESIDE)]
    for folder in folders:
        for suffix in LABEL_SUFFIXES:
            for name in (cloud.stem, cloud.name):
                file = folder / f"{name}{suffix}"
                if file.is_file():
                    return [LabelFile(file, frame)]
    table = cloud.parent / "annotations.feather"
    return [LabelFile(table, frame)] if table.is_file() else []
