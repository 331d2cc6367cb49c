"""A study's yaml: which students and recipes are compared, on which data, with which teacher and seeds.

DATA: {CONFIG: cfgs/synthetic/dataset.yaml, PATH: data/study, SEED: 0, TRAIN_FRAMES: 400, VAL_FRAMES: 200,
       HOLDOUT_FRAMES: 500, UNLABELLED_FRAMES: 0}      # simulated when missing; PATH alone: data that is there
EVALUATE: [val, holdout]                               # choose by the first, report the last
TEACHER: {CONFIG: cfgs/..., EPOCHS: 10, SEED: 0}       # or CKPT: a checkpoint that is there
SEEDS: [0, 1, 2]
EPOCHS: 6
BASELINE: plain                                        # the share of the gap to the teacher starts here
SET: {OPTIMIZATION.LR: 0.002}                          # --set for the teacher and every row
ROWS:
    plain: {CONFIG: cfgs/...}
    recipe: {CONFIG: cfgs/..., SET: {DISTILL.TERMS.LOGIT.WEIGHT: 2.0}, EPOCHS: 4, SEEDS: [0]}
    plain_as_long: {LIKE: plain, EQUAL_COMPUTE_OF: recipe}
    two_stage: {CONFIG: cfgs/..., TEACHER: recipe}     # learns from the recipe's student of the same seed
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...config import find_file, nearest, read_yaml
from ...errors import ConfigError

TEACHER = "teacher"  # the name of the shared teacher's run, which no row may have
STUDY_KEYS = ("NAME", "DATA", "EVALUATE", "TEACHER", "SEEDS", "EPOCHS", "BASELINE", "SET", "ROWS")
DATA_KEYS = (
    "CONFIG",
    "PATH",
    "SEED",
    "TRAIN_FRAMES",
    "VAL_FRAMES",
    "HOLDOUT_FRAMES",
    "UNLABELLED_FRAMES",
)
TEACHER_KEYS = ("CONFIG", "CKPT", "EPOCHS", "SEED", "SET")
ROW_KEYS = (
    "CONFIG",
    "LIKE",
    "SET",
    "EPOCHS",
    "EQUAL_COMPUTE_OF",
    "SEEDS",
    "TEACHER",
    "BASELINE",
    "TITLE",
)
SPLITS = ("val", "holdout")


@dataclass(frozen=True)
class DataSpec:
    """The data of all runs; ``frames`` by split when it is simulated, None when it must be there."""

    path: str | None = None
    config: str = "cfgs/synthetic/dataset.yaml"
    seed: int = 0
    frames: Mapping[str, int] | None = None


@dataclass(frozen=True)
class RowSpec:
    """One line of the table: a configuration, trained once for each seed."""

    name: str
    config: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None  # None: chosen by equal_compute_of
    seeds: tuple[int, ...] = (0,)
    teacher: str = TEACHER  # the run that a DISTILL block learns from
    like: str | None = None
    equal_compute_of: tuple[str, ...] = ()  # rows, or the teacher, whose mean costs are added up
    baseline: str | None = None
    title: str = ""


@dataclass(frozen=True)
class StudySpec:
    """All of a study."""

    name: str
    file: Path
    data: DataSpec
    evaluate: tuple[str, ...]
    teacher: RowSpec | None
    teacher_ckpt: str | None
    rows: Mapping[str, RowSpec]

    def row(self, name: str) -> RowSpec:
        """The row, or the teacher, of that name."""
        if name == TEACHER and self.teacher is not None:
            return self.teacher
        return self.rows[name]


def read_study(path: str | Path) -> StudySpec:
    """Read and check a study's yaml."""
    file = find_file(path, near=Path.cwd())
    content = read_yaml(file)
    try:
        return _study(content, file)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def _study(content: Mapping[str, Any], file: Path) -> StudySpec:
    _check_keys(content, STUDY_KEYS, "")
    name = str(content.get("NAME") or file.stem)
    _check_name(name, "NAME")
    blocks = content.get("ROWS")
    if not isinstance(blocks, Mapping) or not blocks:
        raise ConfigError("ROWS: expected at least one row, as ROWS: {plain: {CONFIG: cfgs/...}}")
    common = _settings(content.get("SET"), "SET")
    defaults = {
        "SEEDS": content.get("SEEDS", [0]),
        "EPOCHS": content.get("EPOCHS"),
        "BASELINE": content.get("BASELINE"),
        "SET": common,
    }
    rows = {str(row): _row(str(row), blocks, defaults) for row in blocks}
    teacher, checkpoint = _teacher(content.get("TEACHER"), common)
    _check_references(rows, teacher)
    evaluate = tuple(_list(content.get("EVALUATE", ["val"]), "EVALUATE"))
    for split in evaluate:
        if split not in SPLITS:
            raise ConfigError(f"EVALUATE: unknown split '{split}'{nearest(str(split), SPLITS)}")
    return StudySpec(
        name, file, _data(content.get("DATA") or {}, evaluate), evaluate, teacher, checkpoint, rows
    )


def _data(block: Any, evaluate: Sequence[str]) -> DataSpec:
    _check_keys(block, DATA_KEYS, "DATA")
    path = None if block.get("PATH") is None else str(block["PATH"])
    if block.get("TRAIN_FRAMES") is None:
        return DataSpec(path)
    if path is None:
        raise ConfigError(
            "DATA.PATH: missing; expected a folder for the simulated frames, such as data/study"
        )
    names = {
        "train": "TRAIN_FRAMES",
        "val": "VAL_FRAMES",
        "holdout": "HOLDOUT_FRAMES",
        "unlabelled": "UNLABELLED_FRAMES",
    }
    frames = {split: _whole(block.get(key, 0), f"DATA.{key}", 0) for split, key in names.items()}
    for split in ("train", *evaluate):
        if frames[split] < 1:
            raise ConfigError(
                f"DATA.{names[split]}: {frames[split]}, and the study needs frames of {split}"
            )
    seed = _whole(block.get("SEED", 0), "DATA.SEED", 0)
    return DataSpec(path, str(block.get("CONFIG", DataSpec.config)), seed, frames)


def _teacher(block: Any, common: Mapping[str, Any]) -> tuple[RowSpec | None, str | None]:
    """How the teacher is trained, or the checkpoint that takes its place."""
    if block is None:
        return None, None
    _check_keys(block, TEACHER_KEYS, "TEACHER")
    if not block.get("CONFIG"):
        raise ConfigError(
            "TEACHER.CONFIG: missing; expected the yaml that the teacher is trained with"
        )
    checkpoint = block.get("CKPT")
    if checkpoint is None and block.get("EPOCHS") is None:
        raise ConfigError("TEACHER: expected EPOCHS to train it, or the CKPT of a trained one")
    epochs = None if checkpoint is not None else _whole(block["EPOCHS"], "TEACHER.EPOCHS", 1)
    seed = _whole(block.get("SEED", 0), "TEACHER.SEED", 0)
    settings = {**common, **_settings(block.get("SET"), "TEACHER.SET")}
    row = RowSpec(TEACHER, str(block["CONFIG"]), settings, epochs, (seed,), title=TEACHER)
    return row, None if checkpoint is None else str(checkpoint)


def _row(name: str, blocks: Mapping[str, Any], defaults: Mapping[str, Any]) -> RowSpec:
    """A row, with what it inherits by LIKE."""
    where = f"ROWS.{name}"
    _check_name(name, where)
    block = _inherited(name, blocks)
    equal = _list(block.get("EQUAL_COMPUTE_OF", []), f"{where}.EQUAL_COMPUTE_OF")
    if equal and "EPOCHS" in blocks[name]:
        raise ConfigError(
            f"{where}: EPOCHS and EQUAL_COMPUTE_OF exclude each other; give one of them"
        )
    if equal and not block.get("LIKE"):
        raise ConfigError(
            f"{where}.LIKE: missing; EQUAL_COMPUTE_OF takes the cost of an epoch from the row it names"
        )
    epochs = None if equal else block.get("EPOCHS", defaults["EPOCHS"])
    if not equal:
        epochs = _whole(epochs, f"{where}.EPOCHS", 1)
    seeds = tuple(
        _whole(seed, f"{where}.SEEDS", 0)
        for seed in _list(block.get("SEEDS", defaults["SEEDS"]), where)
    )
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"{where}.SEEDS: expected different whole numbers, at least one, found {list(seeds)}"
        )
    return RowSpec(
        name,
        str(block["CONFIG"]),
        {**defaults["SET"], **block["SET"]},
        epochs,
        seeds,
        str(block.get("TEACHER", TEACHER)),
        block.get("LIKE"),
        tuple(equal),
        block.get("BASELINE", defaults["BASELINE"]),
        str(block.get("TITLE", name)),
    )


def _inherited(name: str, blocks: Mapping[str, Any], seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys of a row over those of the row it is LIKE; SET is merged, titles and compute are its own."""
    where = f"ROWS.{name}"
    block = blocks[name] or {}
    _check_keys(block, ROW_KEYS, where)
    base: dict[str, Any] = {}
    like = block.get("LIKE")
    if like is not None:
        if like in (*seen, name):
            raise ConfigError(f"{where}.LIKE: '{like}' is like itself")
        if like not in blocks:
            raise ConfigError(f"{where}.LIKE: there is no row '{like}'{nearest(str(like), blocks)}")
        base = _inherited(str(like), blocks, (*seen, name))
        base = {
            key: value
            for key, value in base.items()
            if key not in ("TITLE", "EQUAL_COMPUTE_OF", "LIKE")
        }
    merged = {
        **base,
        **block,
        "SET": {**base.get("SET", {}), **_settings(block.get("SET"), f"{where}.SET")},
    }
    if not merged.get("CONFIG"):
        raise ConfigError(
            f"{where}.CONFIG: missing; expected a yaml such as cfgs/synthetic/pointpillar_student.yaml"
        )
    return merged


def _check_references(rows: Mapping[str, RowSpec], teacher: RowSpec | None) -> None:
    """Every row that is named exists, and no row waits for itself."""
    known = [*rows, *([TEACHER] if teacher is not None and teacher.epochs is not None else [])]
    for row in rows.values():
        named = {
            "EQUAL_COMPUTE_OF": row.equal_compute_of,
            "BASELINE": (row.baseline,) if row.baseline else (),
            "TEACHER": (row.teacher,) if row.teacher != TEACHER else (),
        }
        for key, names in named.items():
            for name in names:
                if name not in known:
                    raise ConfigError(
                        f"ROWS.{row.name}.{key}: there is no row '{name}'{nearest(str(name), known)}"
                    )
        _check_not_circular(row, rows, ())


def _check_not_circular(row: RowSpec, rows: Mapping[str, RowSpec], above: tuple[str, ...]) -> None:
    if row.name in above:
        raise ConfigError(f"ROWS.{row.name}: waits for itself ({' -> '.join([*above, row.name])})")
    for name in needed_rows(row):
        if name in rows:
            _check_not_circular(rows[name], rows, (*above, row.name))


def needed_rows(row: RowSpec) -> tuple[str, ...]:
    """The rows that must be finished before this one can begin, apart from the shared teacher."""
    teacher = () if row.teacher == TEACHER else (row.teacher,)
    measured = (row.like, *row.equal_compute_of) if row.equal_compute_of else ()
    return (*teacher, *(str(name) for name in measured))


def _check_keys(block: Any, known: Sequence[str], where: str) -> None:
    if not isinstance(block, Mapping):
        raise ConfigError(f"{where}: expected a block of keys, found {block!r}")
    for key in block:
        if key not in known:
            raise ConfigError(
                f"{where}{'.' if where else ''}{key}: unknown key{nearest(str(key), known)}"
            )


def _check_name(name: str, where: str) -> None:
    """Names are parts of folder names."""
    if name == TEACHER or not re.fullmatch(r"[A-Za-z0-9_.+-]+", name) or name.startswith("."):
        raise ConfigError(
            f"{where}: '{name}' cannot be a name; expected letters, digits, _ + . or -, and not "
            f"'{TEACHER}'"
        )


def _settings(block: Any, where: str) -> dict[str, Any]:
    """Key paths and values, for --set."""
    if block is None:
        return {}
    if not isinstance(block, Mapping) or any(
        isinstance(value, Mapping) for value in block.values()
    ):
        raise ConfigError(f"{where}: expected key paths and values, as {{OPTIMIZATION.LR: 0.001}}")
    return {str(key): value for key, value in block.items()}


def _list(value: Any, where: str) -> list[Any]:
    """One entry or several."""
    if isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a list, found {value!r}")
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _whole(value: Any, where: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{where}: {value!r} is not a whole number of {least} or more")
    return value
