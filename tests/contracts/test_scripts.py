"""The shell scripts have OpenPCDet's names and argument order.

Programs that print their arguments stand in for those that the scripts call.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SLURM = {
    "slurm_train.sh": (["part", "job", "2"], "train.py"),
    "slurm_test_mgpu.sh": (["part", "job", "2"], "test.py"),
    "slurm_test_single.sh": (["part"], "test.py"),
}


def run(script: Path, arguments: list[str], folder: Path) -> subprocess.CompletedProcess:
    """Run a script from an unrelated folder, with ``srun`` replaced by ``echo``."""
    srun = folder / "srun"
    srun.write_text('#!/bin/sh\necho "$@"\n')
    srun.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    command = ["bash", str(script), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", SLURM)
def test_slurm_scripts_pass_the_rest_on(name: str, repo: Path, tmp_path: Path) -> None:
    positional, tool = SLURM[name]
    done = run(repo / "tools/scripts" / name, [*positional, "--cfg_file", "x.yaml"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "-p part" in done.stdout
    assert str(repo / "tools" / tool) in done.stdout
    assert done.stdout.rstrip().endswith("--cfg_file x.yaml")
    has_several_processes = len(positional) == 3
    assert ("--launcher slurm" in done.stdout) == has_several_processes


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (2, False), (75, True)])
def test_a_slurm_job_that_was_stopped_goes_back_into_the_queue(
    code: int, requeued: bool, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training ends with 75 when a signal has stopped it in good order."""
    for name, exit_code in (("srun", code), ("scontrol", 0)):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\nexit {exit_code}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "123456")
    script = repo / "tools/scripts/slurm_batch.sh"
    done = subprocess.run(
        ["bash", str(script), "--cfg_file", "x.yaml"], cwd=repo, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert lines[0].endswith(
        f"{repo}/tools/train.py --launcher slurm --tcp_port 15456 --cfg_file x.yaml"
    )
    assert ("scontrol requeue 123456" in lines) == requeued
    assert done.returncode == (0 if requeued else code)
    header = script.read_text()
    assert "#SBATCH --requeue" in header
    assert "#SBATCH --signal=USR1@120" in header


@pytest.mark.parametrize("name", [*SLURM, "dist_train.sh", "dist_test.sh"])
def test_scripts_without_arguments_print_their_usage(name: str, repo: Path, tmp_path: Path) -> None:
    done = run(repo / "tools/scripts" / name, [], tmp_path)
    assert done.returncode != 0
    assert f"usage: {name}" in done.stderr


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("dist_train.sh", "train.py"),
        ("torch_train.sh", "train.py"),
        ("dist_test.sh", "test.py"),
        ("torch_test.sh", "test.py"),
    ],
)
def test_dist_scripts_start_the_launcher(
    name: str, tool: str, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHON", "echo")
    done = run(repo / "tools/scripts" / name, ["2", "--cfg_file", "x.yaml"], tmp_path)
    assert done.returncode == 0, done.stderr
    launcher = "-m pcdet_distill.engine.distributed.launch 2"
    arguments = f"{repo / 'tools' / tool} --launcher pytorch --cfg_file x.yaml"
    assert done.stdout.strip() == f"{launcher} {arguments}"


@pytest.mark.parametrize("name", ["dist_train.sh", "dist_test.sh"])
def test_a_python_without_the_package_is_one_sentence(
    name: str, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "bare python"
    python.write_text('#!/bin/sh\nexec python3 -I -S "$@"\n')  # without installed packages
    python.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(python))
    done = run(repo / "tools/scripts" / name, ["2", "--cfg_file", "x.yaml"], tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: '{python}' has no pcdet_distill: ")


STAND_IN_PYTHON = """#!/bin/sh
case "$1 $2" in
    "-m venv") for folder; do :; done; mkdir -p "$folder/bin"; cp "$0" "$folder/bin/python" ;;
    "-m pip" | "-c "*) ;;
    *) echo "$@" ;;
esac
"""


@pytest.mark.parametrize(
    "options", [[], ["--detector", "second"], ["--detector", "pointrcnn", "--fast"]]
)
def test_the_quickstart_script_passes_its_options_on(
    options: list[str], repo: Path, tmp_path: Path
) -> None:
    """It works in any folder, and creates an environment in the first call only."""
    python = tmp_path / "some python"
    python.write_text(STAND_IN_PYTHON)
    python.chmod(0o755)
    environment = {
        **os.environ,
        "PCDET_DISTILL_PYTHON": str(python),
        "PCDET_DISTILL_VENV": str(tmp_path / "made here"),
    }
    command = ["bash", str(repo / "tools/scripts/quickstart.sh"), *options]
    for preparing in (True, False):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        last_line = done.stdout.splitlines()[-1]
        assert last_line == " ".join([str(repo / "tools/quickstart.py"), *options])
        assert ("preparing the environment" in done.stdout) == preparing
