"""The shards of a study: what each has done, and whether together they are the whole study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from ...errors import DataError
from ...parallel.shards import Shard, all_shards
from .locks import fingerprint
from .plan import StudyPlan
from .records import read_json, write_json
from .runner import own_runs
from .survey import Outcome


class ShardRecord(TypedDict):
    """What a shard writes when all its runs have ended."""

    study: str  # the version of the study
    count: int  # number of shards
    runs: dict[str, str]  # its runs, and how they ended


def _folder(plan: StudyPlan) -> Path:
    return plan.folder / "shards"


def _file(plan: StudyPlan, shard: Shard) -> Path:
    return _folder(plan) / f"{shard.file_name}.json"


def begin_shard(plan: StudyPlan, shard: Shard) -> None:
    """Forget what this shard did before, and the shards of another division."""
    for path in _folder(plan).glob("*.json"):
        if path == _file(plan, shard) or not path.stem.endswith(f"-of-{shard.count}"):
            path.unlink(missing_ok=True)


def end_shard(plan: StudyPlan, shard: Shard, outcomes: Sequence[Outcome]) -> None:
    """Record how the runs of a shard ended."""
    runs = {outcome.run.name: outcome.status for outcome in outcomes}
    record: ShardRecord = {"study": fingerprint(plan), "count": shard.count, "runs": runs}
    write_json(_file(plan, shard), record)


def check_shards(plan: StudyPlan, only: Sequence[str] = ()) -> str:
    """A sentence about the shards, when all have ended and each run was in exactly one.

    Raises:
        DataError: a shard or a run is missing, or there twice.
    """
    records = _read(plan)
    count = next(iter(records.values()))["count"]
    missing = [each for each in all_shards(count) if each.file_name not in records]
    if missing:
        raise DataError(
            f"{_folder(plan)}: {len(records)} of {count} shards have ended; --shard "
            f"{', '.join(str(each) for each in missing)} has not"
        )
    owners: dict[str, list[str]] = {}
    for name, record in records.items():
        for run in record["runs"]:
            owners.setdefault(run, []).append(name)
    for run, names in owners.items():
        if len(names) > 1:
            raise DataError(f"{_folder(plan)}: {run} is in the shards {' and '.join(names)}")
    absent = [run.name for run in own_runs(plan, only) if run.name not in owners]
    if absent:
        raise DataError(f"{_folder(plan)}: no shard had {', '.join(absent)}")
    return f"{count} shards with {len(owners)} runs, each of them once"


def _read(plan: StudyPlan) -> dict[str, ShardRecord]:
    """The records by file name, all of this version of the study and of one division."""
    folder = _folder(plan)
    records: dict[str, ShardRecord] = {}
    for path in sorted(folder.glob("*.json")):
        records[path.stem] = read_json(path)
    if not records:
        raise DataError(f"{folder}: no shard has ended; expected runs of --shard 1/N to N/N")
    if len({record["count"] for record in records.values()}) > 1:
        raise DataError(f"{folder}: holds shards of several divisions; delete those of the older")
    for name, record in records.items():
        if record["study"] != fingerprint(plan):
            raise DataError(
                f"{folder / name}.json: of another version of this study; run that shard again"
            )
    return records
