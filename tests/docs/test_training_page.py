"""docs/training.md names every flag of train and test that OpenPCDet lacks."""

from __future__ import annotations

import argparse
from pathlib import Path

from pcdet_distill.engine.evaluate import add_test_arguments
from pcdet_distill.engine.train import add_train_arguments

# The flags of both of OpenPCDet's programs, version 0.6.
OPENPCDET = {
    "--cfg_file",
    "--batch_size",
    "--epochs",
    "--workers",
    "--extra_tag",
    "--ckpt",
    "--pretrained_model",
    "--launcher",
    "--tcp_port",
    "--sync_bn",
    "--fix_random_seed",
    "--ckpt_save_interval",
    "--local_rank",
    "--max_ckpt_save_num",
    "--merge_all_iters_to_one_epoch",
    "--set",
    "--max_waiting_mins",
    "--start_epoch",
    "--num_epochs_to_eval",
    "--save_to_file",
    "--use_tqdm_to_record",
    "--logger_iter_interval",
    "--ckpt_save_time_interval",
    "--wo_gpu_stat",
    "--use_amp",
    "--eval_tag",
    "--eval_all",
    "--ckpt_dir",
    "--infer_time",
}


def flags_of_both() -> set[str]:
    flags: set[str] = {"--nproc"}  # taken off the line before the others are read
    for add_arguments in (add_train_arguments, add_test_arguments):
        for action in add_arguments(argparse.ArgumentParser())._actions:
            flags.update(action.option_strings)
    return flags - {"-h", "--help"}


def test_every_new_flag_is_named_as_new_and_no_other(repo: Path) -> None:
    text = (repo / "docs" / "training.md").read_text()
    sentence = text.split("These are new:")[1].split(".")[0]
    named = {word.strip("`, ") for word in sentence.split() if word.startswith("`")}
    assert named == flags_of_both() - OPENPCDET
