"""The locks of a study: one process for each run, one version of the study."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import study_toys

from pcdet_distill.apps.study.locks import Locks, fingerprint
from pcdet_distill.apps.study.records import Records
from pcdet_distill.apps.study.survey import survey

HOLD = """
import sys
from pathlib import Path
from pcdet_distill.apps.study.locks import Locks
assert Locks(Path(sys.argv[1])).take("plain-seed0")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_run_of_another_process_is_running_until_that_is_killed(tmp_path: Path) -> None:
    plan = study_toys.make_plan(tmp_path, study_toys.study(TEACHER=None, ROWS=PLAIN))
    records = Records(plan)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(records.locks.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert survey(plan, records)["plain-seed0"].status == "running"
    assert not records.take(plan.run("plain", 0))
    assert survey(plan, records)["plain-seed1"].status == "ready"
    holder.kill()
    holder.wait()
    assert survey(plan, records)["plain-seed0"].status == "ready"
    assert records.take(plan.run("plain", 0))
    assert survey(plan, records)["plain-seed0"].status == "running"
    records.release_all()


PLAIN = {"plain": {"CONFIG": "cfgs/toys/plain.yaml"}}


def test_two_objects_of_one_process_share_no_lock(tmp_path: Path) -> None:
    one, two = Locks(tmp_path / "locks"), Locks(tmp_path / "locks")
    assert one.take("a")
    assert not two.take("a")
    assert not two.is_taken("b")
    one.release("a")
    assert two.take("a")
    assert one.is_taken("a")
    two.release_all()
    assert not one.is_taken("a")
    assert list((tmp_path / "locks").iterdir()) == []


def test_runs_that_studies_share_have_one_lock(tmp_path: Path) -> None:
    first = Records(study_toys.make_plan(tmp_path, study_toys.study(), "first.yaml"))
    second = Records(study_toys.make_plan(tmp_path, study_toys.study(), "second.yaml"))
    assert first.take(first.plan.run("teacher"))
    assert not second.take(second.plan.run("teacher"))
    assert first.take(first.plan.run("plain", 0))
    assert second.take(second.plan.run("plain", 0))
    first.release_all()
    second.release_all()


def test_a_version_is_all_that_the_yaml_decides(tmp_path: Path) -> None:
    first = fingerprint(study_toys.make_plan(tmp_path))
    assert fingerprint(study_toys.make_plan(tmp_path, None, "again.yaml")) == first
    content = study_toys.study()
    content["ROWS"]["plain"]["SET"] = {"OPTIMIZATION.LR": 0.5}
    assert fingerprint(study_toys.make_plan(tmp_path, content)) != first
