"""A cloud of any origin to the item that a network reads."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from ..datasets.common_cloud import without_common_cloud
from ..datasets.dataset import DatasetTemplate, Item, item_random_state
from ..datasets.readers import CloudSource, ModelInput, PointCloud
from ..errors import DataError
from ..types import ConfigDict
from .checks import SceneChecks, expected_ground_m
from .clouds import CloudArray, names_of_columns


class InputWarning(UserWarning):
    """The points do not look like those that the detector was trained with."""


def warn_of_input(message: str) -> None:
    """Warn in Python's way."""
    warnings.warn(message, InputWarning, stacklevel=2)


class CloudProcessing(DatasetTemplate):
    """Clouds without labels, processed as in the evaluation: to items, and to batches.

    Args:
        dataset_cfg: the DATA_CONFIG block.
        class_names: label 1 is the first.
        model_cfg: the MODEL block, whose anchors may show where the ground was in training.
        columns: names of the columns of arrays and files that name none. By default those that
            the model reads.
        divide_intensity: what intensities are divided by.
        fill_missing: the value of columns that a cloud lacks; None refuses such a cloud.
        data_path: folder of the training data. One of its frames shows what the network learnt.
        clouds: the clouds that are counted as frames.
        tell: called with each warning, once for its kind and the origin of the clouds: a folder, a
            recording, or all arrays together.
        flag: how messages write the names of options: ``--`` for those of a command.
    """

    def __init__(
        self,
        dataset_cfg: ConfigDict,
        class_names: Sequence[str],
        *,
        model_cfg: ConfigDict | None = None,
        columns: Sequence[str] | None = None,
        divide_intensity: float = 1.0,
        fill_missing: float | None = 0.0,
        data_path: Path | None = None,
        clouds: CloudSource | None = None,
        tell: Callable[[str], None] = warn_of_input,
        flag: str = "",
    ) -> None:
        dataset_cfg = without_common_cloud(dataset_cfg)
        super().__init__(dataset_cfg, class_names, training=False, root_path=Path())
        self.clouds = clouds
        self.told_columns = columns
        features = self.point_feature_encoder.src_feature_list
        name = dataset_cfg.get("DATASET", "")
        self.model_input = ModelInput(
            features, name, divide_intensity, data_path, fill_missing, flag
        )
        self.scene_checks = SceneChecks(
            self.point_cloud_range, expected_ground_m(name, data_path, features, model_cfg)
        )
        self._tell = tell
        self._told: set[tuple[str, str]] = set()

    @property
    def num_frames(self) -> int:
        """The number of clouds."""
        return 0 if self.clouds is None else len(self.clouds)

    def frame_name(self, index: int) -> str:
        """The name of a file without its suffix, or of a recording with the message's number."""
        return str(index) if self.clouds is None else self.clouds.name(index)

    def frame_place(self, index: int) -> str:
        """Where a frame is from: a path, or a message of a recording."""
        return str(index) if self.clouds is None else self.clouds.place(index)

    def load_frame(self, index: int) -> Item:
        """The points of one of ``clouds``."""
        if self.clouds is None:
            return super().load_frame(index)
        return self.raw_item(self.clouds, index)

    def raw_item(self, clouds: CloudSource, index: int) -> Item:
        """The checked points of a cloud."""
        place = clouds.place(index)
        origin = clouds.origin(index)
        cloud, doubts = self._read(clouds, index)
        points, further = self.model_input.points(cloud, place)
        # The frame and the unit come first: they are the cause of some of the others.
        for doubt in (*self.scene_checks.doubts(points), *doubts, *further):
            self._tell_once(origin, place, doubt)
        return {"points": points, "frame_id": clouds.name(index)}

    def _tell_once(self, origin: str, place: str, doubt: str) -> None:
        """Tell what is odd about a cloud, but not again for the next clouds of the same sensor.

        Messages that differ in their numbers alone are of one kind. Otherwise a sensor with ten
        clouds a second would give ten warnings a second.
        """
        kind = re.sub(r"[\d.,]+", "#", doubt)
        if (origin, kind) not in self._told:
            self._told.add((origin, kind))
            self._tell(f"{place}: {doubt}")

    def item(self, clouds: CloudSource, index: int) -> Item:
        """The finished item of a cloud. The same cloud always gives the same item."""
        item = self.prepare_data(self.raw_item(clouds, index), item_random_state(self.seed, 0, 0))
        assert item is not None  # only training items are refused
        return item

    def _read(self, clouds: CloudSource, index: int) -> tuple[PointCloud, list[str]]:
        """The cloud, and what is odd about its columns.

        A file that names no columns must have those of the model, or told ones: its numbers do not
        say how many there are. An array does, so it may have others.
        """
        if self.told_columns is not None or clouds.names_columns(index):
            return clouds.read(index, self.told_columns), []
        features = self.model_input.features
        if isinstance(clouds, CloudArray):
            names, doubts = names_of_columns(clouds.num_columns, features)
            return clouds.read(index, names), doubts
        try:
            return clouds.read(index, features), []
        except DataError as error:
            raise DataError(
                f"{error}; the model reads {', '.join(features)}, and "
                f"{self.model_input.flag}columns names the columns of the file"
            ) from None


def is_empty(item: Item) -> bool:
    """Whether a network would see nothing: no point, or no voxel in its range.

    ``sample_points`` gives an empty cloud a point at the origin, where no object is.
    """
    points = item["points"]
    voxels = item.get("voxels")  # not there with ON_DEVICE
    has_voxels = len(points if voxels is None else voxels) > 0
    return not has_voxels or not points[:, :3].any()
