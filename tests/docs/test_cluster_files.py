"""docs/cluster: the yaml files have the structure that SkyPilot and Kubernetes expect.

Their own schema tools are used where they are installed; else the parts that we rely on are looked
at one by one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pcdet_distill.apps.study.command import parse_arguments
from pcdet_distill.engine.distributed.launch import split_options
from pcdet_distill.parallel.shards import Shard


@pytest.fixture
def skypilot(repo: Path) -> dict[str, Any]:
    return yaml.safe_load((repo / "docs/cluster/skypilot.yaml").read_text())


@pytest.fixture
def job(repo: Path) -> dict[str, Any]:
    return yaml.safe_load((repo / "docs/cluster/kubernetes.yaml").read_text())


def test_skypilot_starts_one_training_on_all_machines(skypilot: dict[str, Any], repo: Path) -> None:
    known = {"name", "resources", "num_nodes", "workdir", "envs", "file_mounts", "setup", "run"}
    assert set(skypilot) <= known
    assert set(skypilot["resources"]) <= {"accelerators", "use_spot", "job_recovery"}
    for mount in skypilot["file_mounts"].values():
        assert set(mount) == {"source", "mode"}
        assert mount["mode"] in ("MOUNT", "COPY", "MOUNT_CACHED")
    assert (repo / skypilot["envs"]["CFG"]).is_file()
    command = skypilot["run"].split("pcdet-distill ")[1].replace("\\\n", " ")
    words = command.replace('"', "").split()
    options, rest = split_options(words)
    assert (options.nnodes, options.node_rank) == ("$SKYPILOT_NUM_NODES", "$SKYPILOT_NODE_RANK")
    assert options.rdzv_endpoint == "$first:29400"
    assert rest[:3] == ["train", "--nproc", "$SKYPILOT_NUM_GPUS_PER_NODE"]
    paths = [*skypilot["file_mounts"], *re.findall(r"ln -sfn (\S+) output", skypilot["run"])]
    assert paths.count("/output") == 2  # checkpoints go where the bucket is


def test_skypilots_own_schema(repo: Path) -> None:
    sky = pytest.importorskip("sky", reason="needs skypilot")
    task = sky.Task.from_yaml(str(repo / "docs/cluster/skypilot.yaml"))
    assert task.num_nodes == 2


def test_kubernetes_gives_each_pod_its_shard(job: dict[str, Any], repo: Path) -> None:
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # backoffLimitPerIndex asks for it
    (container,) = pod["containers"]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert all(isinstance(value, str) for value in variables.values())
    assert int(variables["SHARDS"]) == spec["completions"]
    assert (repo / variables["STUDY"]).is_file()
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    (text,) = container["args"]
    text = text.replace("$((JOB_COMPLETION_INDEX + 1))", "3").replace("$SHARDS", "4")
    words = text.replace('"$STUDY"', variables["STUDY"]).replace('"', "").split()
    assert words[:3] == ["exec", "pcdet-distill", "study"]
    assert parse_arguments(words[3:]).shard == Shard(3, 4)


def test_kubernetes_own_schema(job: dict[str, Any]) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="needs kubernetes-validate")
    validator.validate(job, "1.31", strict=True)


def test_the_page_names_both_files(repo: Path) -> None:
    page = (repo / "docs/cluster/README.md").read_text()
    for name in ("skypilot.yaml", "kubernetes.yaml"):
        assert f"]({name})" in page
