"""A study's yaml: the students and recipes, the data, the teacher and the seeds.

DATA: {CONFIG: cfgs/synthetic/dataset.yaml,    # or a list, if rows read the frames differently
       PATH: data/study, SEED: 0, TRAIN_FRAMES: 400,
       VAL_FRAMES: 200, HOLDOUT_FRAMES: 500, UNLABELLED_FRAMES: 0,
       SCENES: hard, SENSORS: [hdl64e, vlp16], SWEEPS: 3}      # options of the simulator
                                    # simulated when missing; PATH alone: data that exists
SHARE: hard                         # rows of the same name in studies with the same SHARE are
                                    # trained once; without it every study trains its own
EVALUATE: [val, holdout]            # choose by the first split, report the last; holdout_true:
                                    # the frames of holdout against labels without noise
TEACHER: {CONFIG: cfgs/..., EPOCHS: 10, SEED: 0}   # or CKPT: a trained one, only evaluated
SEEDS: [0, 1, 2]
EPOCHS: 6
COST: steps                         # counted from measured steps; or seconds, as measured
BASELINE: plain                     # gap closed: 0 % at this row, 100 % at the teacher; every row
                                    # is compared with it unless the row has an AGAINST
SET: {OPTIMIZATION.LR: 0.002}       # --set for the teacher and every row
ROWS:
    plain: {CONFIG: cfgs/...}
    recipe: {CONFIG: cfgs/..., SET: {DISTILL.TERMS.LOGIT.WEIGHT: 2.0}, EPOCHS: 4, SEEDS: [0]}
    plain_as_long: {LIKE: plain, EQUAL_COMPUTE_OF: recipe}
    two_stage: {CONFIG: cfgs/..., TEACHER: recipe}  # its teacher: the recipe's student, same seed
    other_teacher: {CONFIG: cfgs/..., CKPT: other.pth}    # trained elsewhere, only evaluated here
    recipe_2x: {LIKE: recipe, EPOCHS: 12, AGAINST: [plain_as_long]}    # compared with these rows
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...config import find_file, nearest, read_yaml, refuse_unknown_keys
from ...errors import ConfigError
from ...types import ConfigDict

TEACHER = "teacher"  # the name of the shared teacher's run; no row may have it
STEPS, SECONDS = "steps", "seconds"
COSTS = (STEPS, SECONDS)
STUDY_KEYS = (
    "NAME",
    "SHARE",
    "DATA",
    "EVALUATE",
    "TEACHER",
    "SEEDS",
    "EPOCHS",
    "COST",
    "BASELINE",
    "SET",
    "ROWS",
)
FRAMES_KEYS = {
    "train": "TRAIN_FRAMES",
    "val": "VAL_FRAMES",
    "holdout": "HOLDOUT_FRAMES",
    "unlabelled": "UNLABELLED_FRAMES",
}
DATA_KEYS = ("CONFIG", "PATH", "SEED", "SCENES", "SENSORS", "SWEEPS", *FRAMES_KEYS.values())
TEACHER_KEYS = ("CONFIG", "CKPT", "EPOCHS", "SEED", "SET")
ROW_KEYS = (
    "CONFIG",
    "CKPT",
    "LIKE",
    "SET",
    "EPOCHS",
    "EQUAL_COMPUTE_OF",
    "SEEDS",
    "TEACHER",
    "BASELINE",
    "AGAINST",
    "TITLE",
)
# What LIKE does not take over from the other row.
NOT_INHERITED = ("TITLE", "CKPT", "EQUAL_COMPUTE_OF", "LIKE", "AGAINST")
TRUE_LABELS = "_true"  # ends the name of a split that is evaluated against labels without noise
SPLITS = ("val", "holdout", f"val{TRUE_LABELS}", f"holdout{TRUE_LABELS}")


@dataclass(frozen=True)
class StudyData:
    """The data of all runs. ``frames``: simulated frames of each split, None when not simulated."""

    path: str | None = None
    configs: tuple[str, ...] = ("cfgs/synthetic/dataset.yaml",)  # data sets to prepare there
    seed: int = 0
    frames: Mapping[str, int] | None = None
    scenes: str | None = None  # None: the simulator's default
    sensors: tuple[str, ...] = ()
    sweeps: int | None = None


@dataclass(frozen=True)
class RowSpec:
    """One line of the table: a configuration, trained once for each seed."""

    name: str
    config: str
    settings: Mapping[str, object] = field(default_factory=dict)  # --set
    epochs: int | None = None  # None: chosen by equal_compute_of, or nothing is trained
    seeds: tuple[int, ...] = (0,)
    teacher: str = TEACHER  # the row that a DISTILL block learns from
    like: str | None = None
    equal_compute_of: tuple[str, ...] = ()  # rows, or the teacher; their mean costs are added up
    baseline: str | None = None
    against: tuple[str, ...] = ()  # the rows that this one must beat
    title: str = ""
    checkpoint: str | None = None  # a trained one: it is evaluated, nothing is trained


@dataclass(frozen=True)
class StudySpec:
    """The whole yaml."""

    name: str
    file: Path
    data: StudyData
    evaluate: tuple[str, ...]
    teacher: RowSpec | None
    rows: Mapping[str, RowSpec]
    cost: str = STEPS  # how costs are compared: see costs.py
    share: str | None = None  # studies of the same name here share the rows they have in common

    def row(self, name: str) -> RowSpec:
        """The row, or the teacher, of that name."""
        if name == TEACHER and self.teacher is not None:
            return self.teacher
        return self.rows[name]

    def all_rows(self) -> list[RowSpec]:
        """The teacher, if there is one, then the rows in the order of the yaml."""
        teacher = [] if self.teacher is None else [self.teacher]
        return [*teacher, *self.rows.values()]


def base_split(split: str) -> str:
    """The split whose frames are evaluated: ``holdout`` for ``holdout_true``."""
    return split.removesuffix(TRUE_LABELS)


def read_study(path: str | Path) -> StudySpec:
    """Read and check a study's yaml."""
    file = find_file(path, near=Path.cwd())
    content = read_yaml(file)
    try:
        return _read_study_block(content, file)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def override(
    spec: StudySpec, *, epochs: int | None = None, seeds: Sequence[int] | None = None
) -> StudySpec:
    """The study with other epochs and seeds, for a quick run.

    It gets a name of its own (``small_pair-epochs1-seeds0``), so that neither its trainings nor its
    table are mistaken for those of the yaml. ``epochs`` also applies to the teacher; rows of
    EQUAL_COMPUTE_OF go on choosing their own.
    """
    name = spec.name
    rows = dict(spec.rows)
    teacher = spec.teacher
    if epochs is not None:
        _whole(epochs, "--epochs", 1)
        name += f"-epochs{epochs}"
        rows = {row.name: _with_epochs(row, epochs) for row in rows.values()}
        teacher = None if teacher is None else _with_epochs(teacher, epochs)
    if seeds is not None:
        checked = _seeds(seeds, "--seeds")
        name += "-seeds" + "_".join(str(seed) for seed in checked)
        rows = {row.name: replace(row, seeds=checked) for row in rows.values()}
    share = None if name != spec.name else spec.share
    return replace(spec, name=name, rows=rows, teacher=teacher, share=share)


def _with_epochs(row: RowSpec, epochs: int) -> RowSpec:
    """The row with other epochs, where it is trained for a fixed number."""
    return row if row.epochs is None else replace(row, epochs=epochs)


def _read_study_block(content: ConfigDict, file: Path) -> StudySpec:
    refuse_unknown_keys(content, STUDY_KEYS, "")
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
    rows = {str(row): _read_row(str(row), blocks, defaults) for row in blocks}
    teacher = _read_teacher(content.get("TEACHER"), common)
    _check_references(rows, teacher)
    evaluate = _read_splits(content)
    data = _read_data(content.get("DATA") or {}, evaluate)
    cost = str(content.get("COST", STEPS))
    if cost not in COSTS:
        raise ConfigError(f"COST: unknown value '{cost}'{nearest(cost, COSTS)}")
    share = content.get("SHARE")
    if share is not None:
        _check_name(str(share), "SHARE")
        share = str(share)
    return StudySpec(name, file, data, evaluate, teacher, rows, cost, share)


def _read_splits(content: ConfigDict) -> tuple[str, ...]:
    evaluate = tuple(_list(content.get("EVALUATE", ["val"]), "EVALUATE"))
    if len(set(evaluate)) < len(evaluate):
        raise ConfigError(f"EVALUATE: a split stands twice in {list(evaluate)}")
    for split in evaluate:
        if split not in SPLITS:
            raise ConfigError(f"EVALUATE: unknown split '{split}'{nearest(str(split), SPLITS)}")
    return evaluate


def _read_data(block: ConfigDict, evaluate: Sequence[str]) -> StudyData:
    refuse_unknown_keys(block, DATA_KEYS, "DATA")
    path = None if block.get("PATH") is None else str(block["PATH"])
    if block.get("TRAIN_FRAMES") is None:
        for key in ("SCENES", "SENSORS", "SWEEPS"):
            if block.get(key) is not None:
                raise ConfigError(f"DATA.{key}: only for simulated data; expected TRAIN_FRAMES too")
        return StudyData(path)
    if path is None:
        raise ConfigError(
            "DATA.PATH: missing; expected a folder for the simulated frames, such as data/study"
        )
    frames = {}
    for split, key in FRAMES_KEYS.items():
        frames[split] = _whole(block.get(key, 0), f"DATA.{key}", 0)
    for split in ("train", *(base_split(each) for each in evaluate)):
        if frames[split] < 1:
            raise ConfigError(
                f"DATA.{FRAMES_KEYS[split]}: {frames[split]}, and the study needs frames of {split}"
            )
    seed = _whole(block.get("SEED", 0), "DATA.SEED", 0)
    return StudyData(
        path,
        _read_configs(block),
        seed,
        frames,
        scenes=None if block.get("SCENES") is None else str(block["SCENES"]),
        sensors=tuple(str(name) for name in _list(block.get("SENSORS") or [], "DATA.SENSORS")),
        sweeps=None if block.get("SWEEPS") is None else _whole(block["SWEEPS"], "DATA.SWEEPS", 1),
    )


def _read_configs(block: ConfigDict) -> tuple[str, ...]:
    """DATA.CONFIG: one yaml, or several that read the same frames in different ways."""
    configs = tuple(str(each) for each in _list(block.get("CONFIG", []), "DATA.CONFIG"))
    return configs or StudyData.configs


def _read_teacher(block: ConfigDict | None, common: Mapping[str, object]) -> RowSpec | None:
    """How the teacher is trained, or the trained checkpoint to evaluate."""
    if block is None:
        return None
    refuse_unknown_keys(block, TEACHER_KEYS, "TEACHER")
    if not block.get("CONFIG"):
        raise ConfigError("TEACHER.CONFIG: missing; expected the yaml that the teacher is built by")
    checkpoint = block.get("CKPT")
    if checkpoint is None and block.get("EPOCHS") is None:
        raise ConfigError("TEACHER: expected EPOCHS to train it, or the CKPT of a trained one")
    return RowSpec(
        TEACHER,
        str(block["CONFIG"]),
        {**common, **_settings(block.get("SET"), "TEACHER.SET")},
        epochs=None if checkpoint is not None else _whole(block["EPOCHS"], "TEACHER.EPOCHS", 1),
        seeds=(_whole(block.get("SEED", 0), "TEACHER.SEED", 0),),
        title=TEACHER,
        checkpoint=None if checkpoint is None else str(checkpoint),
    )


def _read_row(name: str, blocks: ConfigDict, defaults: ConfigDict) -> RowSpec:
    """A row, with what it inherits by LIKE."""
    where = f"ROWS.{name}"
    _check_name(name, where)
    block = _inherit(name, blocks)
    if block.get("CKPT") is not None:
        for key in ("EPOCHS", "SEEDS", "EQUAL_COMPUTE_OF", "TEACHER"):
            if key in blocks[name]:
                raise ConfigError(f"{where}: CKPT and {key} exclude each other; give one of them")
        return _read_trained_row(name, block, defaults["SET"])
    equal = tuple(_list(block.get("EQUAL_COMPUTE_OF", []), f"{where}.EQUAL_COMPUTE_OF"))
    if equal and "EPOCHS" in blocks[name]:
        raise ConfigError(
            f"{where}: EPOCHS and EQUAL_COMPUTE_OF exclude each other; give one of them"
        )
    if equal and not block.get("LIKE"):
        raise ConfigError(
            f"{where}.LIKE: missing; EQUAL_COMPUTE_OF takes the cost of an epoch from the row it "
            "names"
        )
    epochs = block.get("EPOCHS", defaults["EPOCHS"])
    baseline = block.get("BASELINE", defaults["BASELINE"])
    return RowSpec(
        name,
        str(block["CONFIG"]),
        {**defaults["SET"], **block["SET"]},
        epochs=None if equal else _whole(epochs, f"{where}.EPOCHS", 1),
        seeds=_seeds(_list(block.get("SEEDS", defaults["SEEDS"]), where), f"{where}.SEEDS"),
        teacher=str(block.get("TEACHER", TEACHER)),
        like=block.get("LIKE"),
        equal_compute_of=equal,
        baseline=baseline,
        against=_read_against(name, block, baseline),
        title=str(block.get("TITLE", name)),
    )


def _read_trained_row(name: str, block: ConfigDict, common: Mapping[str, object]) -> RowSpec:
    """A row that is not trained but evaluated from its CKPT: the teacher of other rows."""
    return RowSpec(
        name,
        str(block["CONFIG"]),
        {**common, **block["SET"]},
        against=_read_against(name, block, None),
        title=str(block.get("TITLE", name)),
        checkpoint=str(block["CKPT"]),
    )


def _read_against(name: str, block: ConfigDict, baseline: object) -> tuple[str, ...]:
    """AGAINST, or the baseline where the row has none; no row is compared with itself."""
    where = f"ROWS.{name}.AGAINST"
    if "AGAINST" in block:
        against = tuple(str(other) for other in _list(block["AGAINST"] or [], where))
        if name in against:
            raise ConfigError(f"{where}: '{name}' cannot be compared with itself")
        return against
    return () if baseline in (None, TEACHER, name) else (str(baseline),)


def _inherit(name: str, blocks: ConfigDict, seen: tuple[str, ...] = ()) -> ConfigDict:
    """The keys of a row over those of the row it is LIKE; the two SETs are merged."""
    where = f"ROWS.{name}"
    block = blocks[name] or {}
    refuse_unknown_keys(block, ROW_KEYS, where)
    base: dict[str, object] = {}
    like = block.get("LIKE")
    if like is not None:
        if like in (*seen, name):
            raise ConfigError(f"{where}.LIKE: '{like}' is like itself")
        if like not in blocks:
            raise ConfigError(f"{where}.LIKE: there is no row '{like}'{nearest(str(like), blocks)}")
        inherited = _inherit(str(like), blocks, (*seen, name))
        base = {key: value for key, value in inherited.items() if key not in NOT_INHERITED}
    settings = {
        **_settings(base.get("SET"), f"{where}.SET"),
        **_settings(block.get("SET"), f"{where}.SET"),
    }
    merged = {**base, **block, "SET": settings}
    if not merged.get("CONFIG"):
        raise ConfigError(
            f"{where}.CONFIG: missing; expected a yaml such as "
            "cfgs/synthetic/pointpillar_student.yaml"
        )
    return merged


def _check_references(rows: Mapping[str, RowSpec], teacher: RowSpec | None) -> None:
    """Every row that is named exists, and no row depends on itself."""
    known = list(rows)
    if teacher is not None and teacher.checkpoint is None:
        known.append(TEACHER)
    for row in rows.values():
        _check_names(f"ROWS.{row.name}.EQUAL_COMPUTE_OF", row.equal_compute_of, known)
        _check_costs(row, rows)
        if row.baseline:
            _check_names(f"ROWS.{row.name}.BASELINE", [row.baseline], known)
        _check_names(f"ROWS.{row.name}.AGAINST", row.against, list(rows))
        if row.teacher != TEACHER:
            _check_names(f"ROWS.{row.name}.TEACHER", [row.teacher], known)
        _check_not_circular(row, rows, ())


def _check_names(where: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{where}: there is no row '{name}'{nearest(str(name), known)}")


def _check_costs(row: RowSpec, rows: Mapping[str, RowSpec]) -> None:
    """The rows whose training time a row gets are trained here."""
    for name in row.equal_compute_of:
        if name in rows and rows[name].checkpoint is not None:
            raise ConfigError(
                f"ROWS.{row.name}.EQUAL_COMPUTE_OF: '{name}' is only evaluated from its CKPT, so "
                "its training has no cost; expected a row that the study trains"
            )


def _check_not_circular(row: RowSpec, rows: Mapping[str, RowSpec], above: tuple[str, ...]) -> None:
    if row.name in above:
        raise ConfigError(f"ROWS.{row.name}: waits for itself ({' -> '.join([*above, row.name])})")
    for name in needed_rows(row):
        if name in rows:
            _check_not_circular(rows[name], rows, (*above, row.name))


def needed_rows(row: RowSpec) -> tuple[str, ...]:
    """The rows that must be finished before this one can begin, apart from the shared teacher."""
    teacher = () if row.teacher == TEACHER else (row.teacher,)
    if not row.equal_compute_of:
        return teacher
    return (*teacher, str(row.like), *row.equal_compute_of)


def _check_name(name: str, where: str) -> None:
    """Names become parts of folder names."""
    if name == TEACHER or not re.fullmatch(r"[A-Za-z0-9_.+-]+", name) or name.startswith("."):
        raise ConfigError(
            f"{where}: '{name}' cannot be a name; expected letters, digits, _ + . or -, and not "
            f"'{TEACHER}'"
        )


def _settings(block: object, where: str) -> dict[str, object]:
    """Key paths and values, for --set."""
    if block is None:
        return {}
    flat = isinstance(block, Mapping) and not any(
        isinstance(value, Mapping) for value in block.values()
    )
    if not isinstance(block, Mapping) or not flat:
        raise ConfigError(f"{where}: expected key paths and values, as {{OPTIMIZATION.LR: 0.001}}")
    return {str(key): value for key, value in block.items()}


def _list(value: object, where: str) -> list:
    """One entry or several."""
    if isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected a list, found {value!r}")
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _seeds(values: Sequence[object], where: str) -> tuple[int, ...]:
    seeds = tuple(_whole(seed, where, 0) for seed in values)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"{where}: expected different whole numbers, at least one, found {list(seeds)}"
        )
    return seeds


def _whole(value: object, where: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{where}: {value!r} is not a whole number of {least} or more")
    return value
