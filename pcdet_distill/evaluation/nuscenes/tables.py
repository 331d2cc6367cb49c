"""The official tables of nuScenes that an evaluation needs, read from their json files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError

Row = Mapping[str, Any]


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
        try:
            rows = json.loads(path.read_text())
        except OSError as error:
            raise DataError(f"{path}: nuScenes' table cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise DataError(f"{path}: this is no complete json file ({error})") from None
        if not isinstance(rows, list) or not all(_has_token(row) for row in rows):
            raise DataError(f"{path}: expected a list of rows that each have a 'token'")
        return {row["token"]: row for row in rows}


def _has_token(row: object) -> bool:
    return isinstance(row, dict) and "token" in row
