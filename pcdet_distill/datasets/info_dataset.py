"""Datasets whose frames are listed in info files: pickled lists with one dict a frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ..config import inside, nearest, required
from ..errors import ConfigError, DataError
from ..structures import Structure, misfit_of
from .cloud_sizes import is_changed, read_sizes, sizes_file
from .dataset import DatasetTemplate
from .info_structures import checks_of_file
from .item import Item
from .safe_pickle import load_plain_pickle

Label = TypeVar("Label")


class InfoDataset(DatasetTemplate):
    """Reads the files of INFO_PATH, checks every info, and pairs detections with labels.

    A subclass defines ``labelled_names`` and, where its infos are not of one structure,
    ``structure_of``.

    Attributes:
        info_structure: what an info holds.
        infos_are: what the files list, for messages.
        an_info_is: what one entry is, for messages.
        trains_without_labels: whether a split without any label can be trained on, by what a
            teacher says of it.
    """

    info_structure: ClassVar[Structure]
    infos_are: ClassVar[str] = "infos"
    an_info_is: ClassVar[str] = "info"
    trains_without_labels: ClassVar[bool] = False

    def structure_of(self, info: object) -> Structure:
        """What this info must hold."""
        return self.info_structure

    def problem_of_info(self, info: Item) -> str:
        """What else is wrong with an info that has its structure; empty when nothing is."""
        return ""

    def labelled_names(self, info: Item) -> Iterable[str]:
        """The classes of the objects of a frame, each as often as it is labelled."""
        raise NotImplementedError(f"{type(self).__name__} does not define labelled_names")

    def check_trained_classes(self, infos: Sequence[Item], paths: object) -> None:
        """Refuse infos that hold no object of the trained classes; warn of a class they lack."""
        found: set[str] = set()
        for info in infos:
            found.update(str(name) for name in self.labelled_names(info))
        if not found and self.trains_without_labels:
            return
        if not found & set(self.class_names):
            raise DataError(
                f"{self.root_path}: no frame of {paths} holds a {' / '.join(self.class_names)}; "
                f"they hold {', '.join(sorted(found)) or 'no labels'}"
            )
        for name in self.class_names:
            if name not in found:
                self.logger.warning(
                    "CLASS_NAMES: no frame of %s holds a '%s'%s", paths, name, nearest(name, found)
                )

    def found_instead(self, content: object) -> str:
        """End of the message about a file that holds no list: what it seems to be."""
        return ""

    def of_mode(self, key: str) -> Any:
        """The train or the test value of a ``{train: ..., test: ...}`` pair of the config."""
        pair = required(self.dataset_cfg, key, "DATA_CONFIG")
        return required(pair, self.mode, f"DATA_CONFIG.{key}")

    def info_paths(self) -> list[str]:
        """The info files of the split, relative to the folder of the dataset."""
        paths = self.of_mode("INFO_PATH")
        listed = [paths] if isinstance(paths, str) else paths
        is_list = isinstance(listed, (list, tuple))
        if not is_list or not all(isinstance(path, str) for path in listed):
            raise ConfigError(
                f"DATA_CONFIG.INFO_PATH.{self.mode}: expected a list of files, found {paths!r}"
            )
        return list(listed)

    def load_infos(self) -> list[Item]:
        """The infos of INFO_PATH, checked for the entries that are read later."""
        infos: list[Item] = []
        for path in self.info_paths():
            infos.extend(self.read_info_file(self.root_path / path))
        paths = self.of_mode("INFO_PATH")
        if not infos:
            raise DataError(f"{self.root_path}: the info files {paths} hold no frames")
        if self.training:
            self.check_trained_classes(infos, paths)
        return infos

    def read_info_file(self, path: Path) -> list[Item]:
        """The infos of one file."""
        infos = load_plain_pickle(path, self.how_to_make_files)
        if is_changed(path):
            self.logger.warning(
                "%s: its content is not what was written. If you did not change it, it is damaged: "
                "make it again. If you did, delete %s, and this is not said again",
                path,
                sizes_file(path).name,
            )
        if not isinstance(infos, list):
            raise DataError(
                f"{path}: expected a list of {self.infos_are}{self.found_instead(infos)}; "
                f"{self.how_to_make_files}"
            )
        checked = checks_of_file(path)
        for number, info in enumerate(infos):
            misfit = misfit_of(info, self.structure_of(info), checked)
            problem = self.problem_of_info(info) if misfit is None else str(misfit)
            if problem:
                raise DataError(
                    f"{path}: entry {number} is no {self.an_info_is}, {problem}; "
                    f"{self.how_to_make_files}"
                )
            if info.get("annos", ()) is None:  # another way to say that there are no labels
                del info["annos"]
        return infos

    def recorded_bytes(self, folder: Path, files: Iterable[str]) -> dict[Path, int]:
        """The bytes of point files when their infos were made; those that are recorded.

        Args:
            folder: of the point files.
            files: their paths in it, as the infos give them.
        """
        records = [read_sizes(self.root_path / path) for path in self.info_paths()]
        found: dict[Path, int] = {}
        for file in files:
            for record in records:
                if file in record:
                    found[inside(folder, file, "path of an info")] = record[file]
        return found

    def pair_with_labels(
        self, labels: Mapping[str, Label], det_annos: Sequence[Item]
    ) -> tuple[list[Label], list[Item]]:
        """The labels and the detections of every frame that has both, in the order of ``labels``.

        Frames are paired by their id. Of a frame that comes twice, as where a sampler pads the last
        batch, the first one counts.
        """
        detections = {str(anno["frame_id"]): anno for anno in reversed(det_annos)}
        chosen = [frame_id for frame_id in labels if frame_id in detections]
        if len(chosen) < len(labels):
            self.logger.warning(
                "evaluated on %d of %d frames: the rest has no detections", len(chosen), len(labels)
            )
        return (
            [labels[frame_id] for frame_id in chosen],
            [detections[frame_id] for frame_id in chosen],
        )
