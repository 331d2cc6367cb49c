"""A study in parts: each run once, and a merge that notices what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import study_toys

from pcdet_distill.apps.study import runner
from pcdet_distill.apps.study.runner import Runner, own_runs, wanted_runs
from pcdet_distill.apps.study.shards import begin_shard, check_shards, end_shard
from pcdet_distill.errors import DataError
from pcdet_distill.parallel.shards import Shard

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import study_toys
from pcdet_distill.apps.study import runner
from pcdet_distill.parallel.shards import Shard
runner.POLL_SECONDS, runner.OTHERS_POLL_SECONDS = 0.01, 0.1
plan = study_toys.ToyPlan(study_toys.read_study(Path({root!r}) / "cfgs/toys.yaml"), Path({root!r}))
runner.Runner(plan, shard=Shard({number}, 2)).run()
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(runner, "OTHERS_POLL_SECONDS", 0.05)


def work_on(plan: study_toys.ToyPlan, shard: Shard) -> None:
    """What ``study --shard`` does."""
    begin_shard(plan, shard)
    outcomes = Runner(plan, shard=shard, say=lambda _: None).run()
    end_shard(plan, shard, [outcomes[run.name] for run in own_runs(plan, shard=shard)])


def test_each_run_has_one_owner_and_its_teacher_comes_along(tmp_path: Path) -> None:
    plan = study_toys.make_plan(tmp_path)
    owned = [[run.name for run in own_runs(plan, shard=Shard(k, 2))] for k in (1, 2)]
    assert owned == [["teacher", "recipe-seed0", "recipe-seed1"], ["plain-seed0", "plain-seed1"]]
    assert wanted_runs(plan, shard=Shard(2, 5)) == {"plain-seed0"}
    assert wanted_runs(plan, shard=Shard(3, 5)) == {"teacher", "recipe-seed0"}
    assert [run.name for run in own_runs(plan, ["recipe"], Shard(2, 2))] == ["recipe-seed1"]


def test_shards_at_the_same_time_train_a_common_teacher_once(tmp_path: Path) -> None:
    content = study_toys.study()
    del content["ROWS"]["plain"]
    content["BASELINE"] = "recipe"
    study_toys.make_root(tmp_path, content, seconds=0.3)
    processes = []
    for number in (1, 2):
        script = SCRIPT.format(tests=str(Path(__file__).parent), root=str(tmp_path), number=number)
        processes.append(subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path))
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    runs = study_toys.order(tmp_path)
    assert runs[0] == "teacher"
    assert sorted(runs) == ["recipe-seed0", "recipe-seed1", "teacher"]


def test_the_merge_wants_every_shard(tmp_path: Path) -> None:
    plan = study_toys.make_plan(tmp_path)
    with pytest.raises(DataError, match="no shard has ended"):
        check_shards(plan)
    work_on(plan, Shard(1, 3))
    with pytest.raises(DataError, match="1 of 3 shards have ended; --shard 2/3, 3/3 has not"):
        check_shards(plan)
    work_on(plan, Shard(2, 3))
    work_on(plan, Shard(3, 3))
    assert check_shards(plan) == "3 shards with 5 runs, each of them once"
    assert sorted(study_toys.order(tmp_path)) == sorted(run.name for run in plan.runs())


def test_a_shard_that_begins_again_has_not_ended(tmp_path: Path) -> None:
    plan = study_toys.make_plan(tmp_path)
    for number in (1, 2):
        work_on(plan, Shard(number, 2))
    begin_shard(plan, Shard(2, 2))
    with pytest.raises(DataError, match="--shard 2/2 has not"):
        check_shards(plan)
    work_on(plan, Shard(1, 1))  # another division replaces the old one
    assert check_shards(plan) == "1 shards with 5 runs, each of them once"


def spoil(plan: study_toys.ToyPlan, name: str, **changes: object) -> None:
    path = plan.folder / "shards" / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"runs": {"teacher": "finished"}}, "teacher is in the shards 1-of-2 and 2-of-2"),
        ({"runs": {}}, "no shard had plain-seed0, plain-seed1"),
        ({"study": "0123"}, "2-of-2.json: of another version of this study; run that shard again"),
        ({"count": 3}, "holds shards of several divisions"),
    ],
)
def test_the_merge_wants_every_run_once(tmp_path: Path, changes: dict, words: str) -> None:
    plan = study_toys.make_plan(tmp_path)
    for number in (1, 2):
        work_on(plan, Shard(number, 2))
    spoil(plan, "2-of-2", **changes)
    with pytest.raises(DataError, match=words):
        check_shards(plan)
