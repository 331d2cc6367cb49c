"""The command lines are a contract: OpenPCDet's flags with their defaults, and ours."""

from __future__ import annotations

import argparse

import pytest

from pcdet_distill.engine.evaluate import add_test_arguments
from pcdet_distill.engine.train import add_train_arguments

COMMON = {
    "cfg_file": None,
    "batch_size": None,
    "workers": 4,
    "extra_tag": "default",
    "ckpt": None,
    "pretrained_model": None,
    "launcher": "none",
    "tcp_port": 18888,
    "local_rank": 0,
    "set_cfgs": None,
    "start_epoch": 0,
    "save_to_file": False,
}
OURS = {
    "device": None,
    "skip_bad_frames": False,
    "allow_nonfinite": False,
    "plugin": [],
    "rank_timeout": 5.0,
}
TRAIN = {
    **COMMON,
    **OURS,
    "epochs": None,
    "sync_bn": False,
    "fix_random_seed": False,
    "ckpt_save_interval": 1,
    "max_ckpt_save_num": 30,
    "merge_all_iters_to_one_epoch": False,
    "max_waiting_mins": 0,
    "num_epochs_to_eval": 0,
    "use_tqdm_to_record": False,
    "logger_iter_interval": 50,
    "ckpt_save_time_interval": 300,
    "wo_gpu_stat": False,
    "use_amp": False,
    "teacher_ckpt": None,
    "seed": None,
    "on_nan": "stop",
    "accumulate": 1,
}
TEST = {
    **COMMON,
    **OURS,
    "max_waiting_mins": 30,
    "eval_tag": "default",
    "eval_all": False,
    "ckpt_dir": None,
    "infer_time": False,
    "compile": False,
    "teacher": False,
    "teacher_ckpt": None,
}
DEFAULTS = {"train": TRAIN, "test": TEST}
ADD_ARGUMENTS = {"train": add_train_arguments, "test": add_test_arguments}


def parser(tool: str) -> argparse.ArgumentParser:
    return ADD_ARGUMENTS[tool](argparse.ArgumentParser())


@pytest.mark.parametrize("tool", DEFAULTS)
def test_flags_and_defaults(tool: str) -> None:
    assert vars(parser(tool).parse_args([])) == DEFAULTS[tool]


@pytest.mark.parametrize("tool", DEFAULTS)
def test_flags_are_spelled_as_their_names(tool: str) -> None:
    flags: set[str] = set()
    for action in parser(tool)._actions:
        flags.update(action.option_strings)
    expected = {f"--{name}" for name in DEFAULTS[tool] if name != "set_cfgs"}
    assert flags == expected | {"--set", "-h", "--help"}


@pytest.mark.parametrize("tool", DEFAULTS)
def test_every_flag_has_a_help_text(tool: str) -> None:
    for action in parser(tool)._actions:
        assert action.help and len(action.help) > 15, action.option_strings


@pytest.mark.parametrize("tool", DEFAULTS)
def test_set_takes_the_rest_of_the_line(tool: str) -> None:
    args = parser(tool).parse_args(
        ["--workers", "0", "--set", "OPTIMIZATION.LR", "0.1", "--epochs"]
    )
    assert args.set_cfgs == ["OPTIMIZATION.LR", "0.1", "--epochs"]
    assert args.workers == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--workers", "-1"],
        ["--batch_size", "0"],
        ["--batch_size", "two"],
        ["--launcher", "mpi"],
        ["--no_such_flag"],
    ],
)
@pytest.mark.parametrize("tool", DEFAULTS)
def test_wrong_values_exit_with_two(
    tool: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parser(tool).parse_args(arguments)
    assert stop.value.code == 2
    assert arguments[0] in capsys.readouterr().err
