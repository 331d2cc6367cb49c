"""The clouds behind a path: a file, a folder of files, or a recording, read one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ...errors import DataError
from .bags import bag_topics, choose_topic, is_bag, read_bag
from .cloud import PointCloud
from .folders import clouds_below
from .table import names_its_columns, read_cloud_file

USUAL_SUFFIX = ".bin"  # OpenPCDet's demo reads these


class CloudSource(Protocol):
    """Clouds by number."""

    def __len__(self) -> int: ...

    def place(self, index: int) -> str:
        """Where the cloud is from, for messages."""

    def origin(self, index: int) -> str:
        """What it has in common with clouds of the same sensor, as far as can be told."""

    def name(self, index: int) -> str:
        """A name that can be a file's name."""

    def names_columns(self, index: int) -> bool:
        """Whether the format names the columns, so that they need not be told."""

    def read(self, index: int, columns: Sequence[str] | int | None = None) -> PointCloud:
        """The cloud; ``columns`` as for ``read_cloud_file``."""


class CloudFiles:
    """Files of one cloud each.

    Args:
        files: the clouds.
        folder: a folder above them. Two files of one name in its subfolders are told apart by the
            names of these.
    """

    def __init__(self, files: Sequence[Path], folder: Path | None = None) -> None:
        self.files = list(files)
        self.folder = folder
        self._times_of_stem = Counter(file.stem for file in self.files)

    def __len__(self) -> int:
        return len(self.files)

    def place(self, index: int) -> str:
        """The path."""
        return str(self.files[index])

    def origin(self, index: int) -> str:
        """The folder."""
        return str(self.folder or self.files[index].parent)

    def name(self, index: int) -> str:
        """The name of the file without its suffix; with its folders, if another has the same."""
        file = self.files[index]
        if self.folder is None or self._times_of_stem[file.stem] == 1:
            return file.stem
        return "_".join(file.relative_to(self.folder).with_suffix("").parts)

    def names_columns(self, index: int) -> bool:
        """Whether the format of the file does."""
        return names_its_columns(self.files[index])

    def read(self, index: int, columns: Sequence[str] | int | None = None) -> PointCloud:
        """The cloud of a file."""
        return read_cloud_file(self.files[index], columns)


class CloudRecording:
    """The messages of one topic of a recording. Their order is the fast way to read them."""

    def __init__(self, path: Path, topic: str | None = None) -> None:
        self.path = path
        self.topic = choose_topic(path, topic)
        self._count = bag_topics(path)[self.topic]
        self._clouds: Iterator[tuple[float, PointCloud]] = iter(())
        self._next = self._count  # index of the cloud that the iterator gives next

    def __len__(self) -> int:
        return self._count

    def place(self, index: int) -> str:
        """The recording, its topic and the number of the message."""
        return f"{self.path}, message {index} of {self.topic}"

    def origin(self, index: int) -> str:
        """The topic of the recording."""
        return f"{self.path}, {self.topic}"

    def name(self, index: int) -> str:
        """The name of the recording, and the number of the message."""
        return f"{self.path.stem}_{index:06d}"

    def names_columns(self, index: int) -> bool:
        """Messages do."""
        return True

    def read(self, index: int, columns: Sequence[str] | int | None = None) -> PointCloud:
        """The cloud of a message. ``columns`` are not needed: messages name theirs."""
        if index < self._next:
            self._clouds = read_bag(self.path, self.topic)
            self._next = 0
        for _, cloud in self._clouds:
            self._next += 1
            if self._next > index:
                return cloud
        raise DataError(f"{self.place(index)}: the recording ends at message {self._next}")


def open_clouds(path: Path, suffix: str | None = None, topic: str | None = None) -> CloudSource:
    """The clouds behind a path.

    Args:
        path: a file of one cloud, a folder of them, or a recording.
        suffix: which files of a folder (``clouds_below``); None takes ``.bin``, or else the only
            format there is.
        topic: which topic of a recording with several.

    Raises:
        DataError: there is nothing to read, or it is not clear what.
    """
    if is_bag(path) and path.exists():
        return CloudRecording(path, topic)
    if path.is_file():
        return CloudFiles([path])
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    return CloudFiles(_files_of(path, suffix), path)


def _files_of(folder: Path, suffix: str | None) -> list[Path]:
    found = clouds_below(folder)
    suffixes = {file.suffix.lower() for file in found}
    chosen = suffix or USUAL_SUFFIX
    if suffix is None and len(suffixes) == 1:
        chosen = next(iter(suffixes))
    files = [file for file in found if file.suffix.lower() == chosen]
    if files:
        return files
    others = f"; it holds {', '.join(sorted(suffixes))}" if suffixes else ""
    raise DataError(
        f"{folder}: holds no '*{chosen}' file{others}; --ext names another extension, in Python "
        "a list of files does"
    )
