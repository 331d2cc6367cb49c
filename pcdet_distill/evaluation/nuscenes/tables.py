"""The official tables of nuScenes, read from their json files, and checked while they are read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...structures import shown

Row = Mapping[str, Any]
# The fields that are read of each table, beside "token".
FIELDS = {
    "attribute": ("name",),
    "calibrated_sensor": ("sensor_token", "translation", "rotation", "camera_intrinsic"),
    "category": ("name",),
    "ego_pose": ("translation", "rotation"),
    "instance": ("category_token",),
    "sample": ("timestamp", "scene_token"),
    "sample_annotation": (
        *("sample_token", "instance_token", "attribute_tokens", "prev", "next"),
        *("translation", "size", "rotation", "num_lidar_pts", "num_radar_pts"),
    ),
    "sample_data": (
        *("sample_token", "ego_pose_token", "calibrated_sensor_token", "timestamp"),
        *("is_key_frame", "filename", "prev"),
    ),
    "scene": ("name", "first_sample_token"),
    "sensor": ("channel",),
}

# The fields that are texts: names, and tokens of rows of other tables.
TEXTS = frozenset(
    {
        *("sensor_token", "category_token", "scene_token", "sample_token", "instance_token"),
        *("ego_pose_token", "calibrated_sensor_token", "first_sample_token"),
        *("name", "channel", "filename", "prev", "next"),
    }
)


class Tables:
    """The tables of one version, each read when it is first asked for.

    Args:
        root: the folder that holds ``samples/`` and the folder of tables.
        version: name of the folder of tables, such as ``v1.0-mini``.
    """

    def __init__(self, root: Path, version: str) -> None:
        self.folder = Path(root) / version
        if not self.folder.is_dir():
            raise DataError(
                f"{self.folder}: this folder of nuScenes' tables does not exist; expected it to "
                f"hold sample.json, sample_annotation.json and the others of {version}"
            )
        self._tables: dict[str, dict[str, Row]] = {}
        self._is_kept: dict[str, Callable[[Row], bool]] = {}

    def keep(self, name: str, is_kept: Callable[[Row], bool]) -> None:
        """Read some rows of a table only: the full data set has millions that nobody asks for.

        Call it before the table is first asked for.
        """
        self._is_kept[name] = is_kept

    def path(self, name: str) -> Path:
        """The file of a table."""
        return self.folder / f"{name}.json"

    def by_token(self, name: str) -> Mapping[str, Row]:
        """The rows of a table by their token, in the order of the file."""
        if name not in self._tables:
            self._tables[name] = self._read(name)
        return self._tables[name]

    def row(self, name: str, token: str) -> Row:
        """One row of a table."""
        rows = self.by_token(name)
        if token not in rows:
            raise DataError(f"{self.path(name)}: no row has the token '{token}'")
        return rows[token]

    def forget(self, names: Iterable[str]) -> None:
        """Free the memory of large tables that are not needed again."""
        for name in names:
            self._tables.pop(name, None)

    def _read(self, name: str) -> dict[str, Row]:
        path = self.path(name)
        fields = frozenset({"token", *FIELDS.get(name, ())})
        texts = [field for field in FIELDS.get(name, ()) if field in TEXTS]
        is_kept = self._is_kept.get(name)

        def checked(row: dict[str, Any]) -> Row | None:
            # Called for each row while the file is read, so that dropped rows cost no memory.
            if "token" not in row:
                return row  # a block within a row; a row is refused below
            if not row.keys() >= fields:
                raise DataError(
                    f"{path}: the row {row['token']} lacks "
                    f"{', '.join(sorted(fields - row.keys()))}; expected nuScenes' official table"
                )
            for field in texts:
                if not isinstance(row[field], str):
                    raise DataError(
                        f"{path}: the {field} of the row {row['token']} is "
                        f"{shown(row[field])}, expected a text"
                    )
            return row if is_kept is None or is_kept(row) else None

        try:
            with path.open(encoding="utf-8") as file:
                rows = json.load(file, object_hook=checked)
        except OSError as error:
            raise DataError(f"{path}: nuScenes' table cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}: this is no complete json file ({error}); was its download interrupted?"
            ) from None
        if not isinstance(rows, list) or not all(map(_is_row_or_dropped, rows)):
            raise DataError(f"{path}: expected a list of rows that each have a 'token'")
        kept = [row for row in rows if row is not None]
        by_token = {row["token"]: row for row in kept}
        if len(by_token) < len(kept):
            tokens = Counter(row["token"] for row in kept)
            token, count = tokens.most_common(1)[0]
            raise DataError(f"{path}: {count} rows have the token '{token}', expected one")
        return by_token


def _is_row_or_dropped(row: object) -> bool:
    return row is None or (isinstance(row, dict) and isinstance(row.get("token"), str))
