"""tools/study.py with toys as trainings."""

from __future__ import annotations

import csv
import json
import os

import pytest
import study_toys
from fake_ray import FakeRay

from pcdet_distill.apps import study
from pcdet_distill.apps.study import command
from pcdet_distill.apps.study.results import write
from pcdet_distill.errors import ConfigError, UserError
from pcdet_distill.parallel import on_ray


@pytest.fixture
def toy_tool(tmp_path, monkeypatch):
    """Calls the tool with the given arguments; the second run of the recipe fails."""
    monkeypatch.setattr(command, "StudyPlan", study_toys.ToyPlan)
    monkeypatch.setattr(write, "StudyPlan", study_toys.ToyPlan)
    monkeypatch.setattr(command, "check_runs", lambda plan, runs, log: log(f"checked {len(runs)}"))
    monkeypatch.setattr(write, "measure_rows", lambda *_, **__: {})
    path = study_toys.make_root(tmp_path, **{"recipe-seed1": {"says": "error: nan"}})

    def call(*arguments: str) -> None:
        study.main(tmp_path, [os.path.relpath(path), "--device", "cpu", *arguments])

    return call


def test_the_tool(toy_tool, tmp_path, capsys):
    toy_tool("--list")
    output = capsys.readouterr().out
    assert "plain-seed1     2 epochs  ready" in output
    assert "3 ready, 2 waiting" in output
    toy_tool("--dry_run", "--only", "plain")
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert study_toys.order(tmp_path) == []
    with pytest.raises(UserError, match="failed: recipe-seed1; their reasons"):
        toy_tool("--jobs", "2")
    output = capsys.readouterr().out
    assert "checked 5" in output
    assert "FAILED recipe, seed 1: nan" in output
    assert "study toys, split val" in output
    assert (tmp_path / "output/study/toys/table_val.md").exists()
    (tmp_path / "toy.json").write_text("{}")
    toy_tool("--table")
    assert "FAILED recipe" in capsys.readouterr().out
    toy_tool("--retry_failed")
    assert "5 finished" in capsys.readouterr().out
    toy_tool("--publish", "docs/study")
    assert (tmp_path / "docs/study/toys/README.md").exists()


def test_a_toy_study_of_two_seeds_from_the_command_to_the_verdict(toy_tool, tmp_path, capsys):
    """The recipe gains 4 points with both seeds; the rule still asks for more."""
    toys = {"teacher": {"ap": 30.0}, "recipe-seed0": {"ap": 14.0}, "recipe-seed1": {"ap": 14.0}}
    (tmp_path / "toy.json").write_text(json.dumps(toys))
    toy_tool("--jobs", "2")
    output = capsys.readouterr().out
    lines = [line for line in output.splitlines() if line.split()[:2] == ["recipe", "plain"]]
    line = lines[0]
    assert line.split()[2:5] == ["2", "+4.0+-0.0", "1.00x"]
    assert "not shown: 2 seeds, 5 needed; holdout not evaluated; no row trains plain 3" in line
    assert "warning: no row trains plain 3 times as long" in output
    with (tmp_path / "output/study/toys/results.csv").open() as file:
        scores = {line["run"]: line["3d_mAP"] for line in csv.DictReader(file)}
    assert scores == {
        "teacher": "40.00",
        "plain-seed0": "12.00",
        "plain-seed1": "12.00",
        "recipe-seed0": "16.00",
        "recipe-seed1": "16.00",
    }


def test_shards_of_a_slurm_array_and_their_table(toy_tool, tmp_path, capsys):
    (tmp_path / "toy.json").write_text("{}")
    toy_tool("--shard", "2/2")
    output = capsys.readouterr().out
    assert "2 finished" in output
    assert "shard 2/2 has ended; when all have, --merge_shards writes the table" in output
    assert not (tmp_path / "output/study/toys/table_val.md").exists()
    toy_tool("--shard", "1/2")
    toy_tool("--merge_shards")
    output = capsys.readouterr().out
    assert "2 shards with 5 runs, each of them once" in output
    assert (tmp_path / "output/study/toys/table_val.md").exists()
    assert sorted(study_toys.order(tmp_path)) == [
        *("plain-seed0", "plain-seed1", "recipe-seed0", "recipe-seed1", "teacher")
    ]


def test_a_study_on_a_cluster(toy_tool, tmp_path, monkeypatch, capsys):
    """A stand-in for Ray; each training is a task, and one that was killed is repeated."""
    ray = FakeRay()
    monkeypatch.setattr(on_ray, "connect", lambda address: ray)
    (tmp_path / "toy.json").write_text(json.dumps({"plain-seed0": {"killed_once": True}}))
    toy_tool("--engine", "ray", "--address", "auto", "--gpus_per_run", "0.25", "--retries", "2")
    assert "5 finished" in capsys.readouterr().out
    trainings = [task for task in ray.tasks if task.function is on_ray.run_job]
    assert len(trainings) == 5
    assert {task.options["num_gpus"] for task in trainings} == {0.25}
    assert sorted(task.attempts for task in trainings) == [1, 1, 1, 1, 2]
    assert study_toys.order(tmp_path).count("plain-seed0") == 2


def test_a_quick_run_overrides_epochs_and_seeds_and_leaves_the_study_alone(
    toy_tool, tmp_path, capsys
):
    toy_tool("--epochs", "1", "--seeds", "3")
    output = capsys.readouterr().out
    assert study_toys.order(tmp_path) == ["teacher", "plain-seed3", "recipe-seed3"]
    assert "study toys-epochs1-seeds3, split val" in output
    assert "$ python toy.py teacher 1 " in output
    assert "$ python toy.py plain-seed3 1 " in output
    assert not (tmp_path / "output/study/toys").exists()
    toy_tool("--list")
    assert "3 ready, 2 waiting" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--table"], ["--publish", "docs"], ["--list"], ["--dry_run"], []]
)
def test_results_of_another_configuration_are_refused(toy_tool, tmp_path, arguments):
    """Neither the runs of a row that was changed since, nor another study's, are shown."""
    with pytest.raises(UserError, match="failed: recipe-seed1"):
        toy_tool()
    files = [path for path in (tmp_path / "output").rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    content = study_toys.study()
    content["ROWS"]["plain"]["SET"] = {"OPTIMIZATION.LR": 0.5}
    study_toys.make_root(tmp_path, content)
    with pytest.raises(ConfigError, match="plain-seed0 was trained with another configuration"):
        toy_tool(*arguments)
    study_toys.make_root(tmp_path, study_toys.study(NAME="toys"), "other.yaml")
    with pytest.raises(ConfigError, match="toys: belongs to another study"):
        study.main(tmp_path, [str(tmp_path / "cfgs/other.yaml"), "--device", "cpu", *arguments])
    assert before == {path: path.read_bytes() for path in before}
    assert not (tmp_path / "docs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "plane"], "--only plane: the study has no such row; did you mean 'plain'"),
        (["--jobs", "0"], "--jobs 0: expected 1 or more"),
        (["--jobs", "2", "--engine", "ray"], "--jobs: only for --engine local"),
        (["--gpus_per_run", "0.5"], "--gpus_per_run: only for --engine ray"),
        (["--merge_shards"], "no shard has ended; expected runs of --shard 1/N to N/N"),
        (["--epochs", "0"], "--epochs: 0 is not a whole number of 1 or more"),
        (["--seeds", "1", "1"], "--seeds: expected different whole numbers"),
        (["--seeds", "-1"], "--seeds: -1 is not a whole number of 0 or more"),
    ],
)
def test_mistakes_on_the_command_line(toy_tool, arguments, message):
    with pytest.raises(UserError, match=message):
        toy_tool(*arguments)
