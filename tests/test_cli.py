"""The command ``pcdet-distill``: its subcommands, its help, and what a wrong word gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pcdet_distill
from pcdet_distill.cli import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: pcdet-distill {name}")


def test_help_lists_every_subcommand_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name} " in text
        assert str(command.__doc__) in text


def test_without_arguments_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert "commands:" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"pcdet-distill {pcdet_distill.__version__}\n"


def test_a_misspelt_subcommand_gets_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["trian"])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "did you mean 'train'" in message


def test_a_wrong_flag_exits_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--no_such_flag"])
    assert stop.value.code == 2
    assert "--no_such_flag" in capsys.readouterr().err


def test_a_user_error_is_one_line_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "--cfg_file", "no_such_file.yaml"])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1


def test_the_module_is_the_same_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pcdet_distill", "train", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--teacher_ckpt" in done.stdout


def test_help_does_not_load_torch() -> None:
    script = (
        "import sys; from pcdet_distill.cli import main; main(['--help']); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("tool", "command"),
    [
        ("train.py", "train"),
        ("test.py", "test"),
        ("create_data.py", "data"),
        ("demo.py", "demo"),
        ("study.py", "study"),
        ("quickstart.py", "quickstart"),
    ],
)
def test_tools_have_the_flags_of_the_subcommand(tool: str, command: str, repo: Path) -> None:
    def help_of(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words, "--help"], capture_output=True, text=True, check=True
        )
        usage, _, flags = done.stdout.partition("\n\n")
        return flags

    assert help_of(str(repo / "tools" / tool)) == help_of("-m", "pcdet_distill", command)


def test_nproc_runs_a_command_in_several_processes() -> None:
    command = [sys.executable, "-m", "pcdet_distill", "train", "--nproc", "2"]
    done = subprocess.run(
        [*command, "--cfg_file", "no_such_file.yaml"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines
    assert all("no_such_file.yaml: no such file" in line for line in lines)


@pytest.mark.parametrize("number", ["0", "two", "-1"])
def test_a_wrong_number_of_processes(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["test", f"--nproc={number}"])
    assert stop.value.code == 2
    assert f"--nproc {number}: expected a number of processes" in capsys.readouterr().err
