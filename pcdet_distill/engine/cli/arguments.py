"""The command line of tools/train.py and tools/test.py: OpenPCDet's flags, and a few of our own.

Ours: ``--teacher``, ``--teacher_ckpt``, ``--seed``, ``--device``, ``--skip_bad_frames``. Every flag does something;
tests/contracts freezes them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable


def at_least(minimum: int) -> Callable[[str], int]:
    """An argparse type: a whole number not under ``minimum``."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{value} is too small; expected {minimum} or more")
        return value

    return number


def _add_common(parser: argparse.ArgumentParser, verb: str) -> None:
    """What both tools take."""
    add = parser.add_argument
    add(
        "--cfg_file",
        type=str,
        default=None,
        help="yaml of the experiment, e.g. cfgs/kitti_models/pointpillar.yaml",
    )
    add(
        "--batch_size",
        type=at_least(1),
        default=None,
        help="samples in a batch, all processes together (default: OPTIMIZATION.BATCH_SIZE_PER_GPU for each process)",
    )
    add(
        "--workers",
        type=at_least(0),
        default=4,
        help="data loading processes; no more are started than there are CPU cores; 0: load in the main process",
    )
    add(
        "--extra_tag",
        type=str,
        default="default",
        help="last part of the output folder, to tell runs apart",
    )
    add(
        "--launcher",
        choices=["none", "pytorch", "slurm"],
        default="none",
        help="how several processes are started: pytorch (torchrun, see scripts/dist_*.sh) or slurm (srun)",
    )
    add(
        "--tcp_port",
        type=at_least(1),
        default=18888,
        help="port where the processes meet; a MASTER_PORT set by the launcher comes first",
    )
    add(
        "--local_rank",
        type=at_least(0),
        default=0,
        help="number of this process on its machine, for launchers that do not set LOCAL_RANK",
    )
    add(
        "--save_to_file",
        action="store_true",
        default=False,
        help="also write the detections as KITTI text files, final_result/data/<frame>.txt",
    )
    add(
        "--device",
        type=str,
        default=None,
        help="cpu, cuda or cuda:N (default: cuda when there is one)",
    )
    add(
        "--skip_bad_frames",
        action="store_true",
        default=False,
        help=f"log and skip frames that cannot be read while {verb}, instead of stopping at the first",
    )
    add(
        "--set",
        dest="set_cfgs",
        default=None,
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="change config values, e.g. --set OPTIMIZATION.LR 0.001; takes the rest of the line",
    )


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    """How long and from where to train, and how."""
    add = parser.add_argument
    add(
        "--epochs",
        type=at_least(1),
        default=None,
        help="epochs to train (default: OPTIMIZATION.NUM_EPOCHS)",
    )
    add(
        "--ckpt",
        type=str,
        default=None,
        help="checkpoint to resume, with its optimizer (default: the one in ckpt/ that went furthest)",
    )
    add(
        "--pretrained_model",
        type=str,
        default=None,
        help="checkpoint to start from: tensors that fit are taken, the others are listed",
    )
    add(
        "--teacher_ckpt",
        type=str,
        default=None,
        help="checkpoint of the teacher, instead of DISTILL.TEACHER.CKPT; it must fit completely",
    )
    add(
        "--sync_bn",
        action="store_true",
        default=False,
        help="BatchNorm statistics over all processes (CUDA only)",
    )
    add(
        "--fix_random_seed",
        action="store_true",
        default=False,
        help="seed 666 (+ rank) instead of a drawn one, and deterministic cuDNN; a drawn seed is kept when resuming",
    )
    add(
        "--seed",
        type=at_least(0),
        default=None,
        help="like --fix_random_seed, with this seed: the same command trains the same model",
    )
    add(
        "--merge_all_iters_to_one_epoch",
        action="store_true",
        default=False,
        help="one pass of the loader over all epochs, so that its workers start once",
    )
    add(
        "--use_amp",
        action="store_true",
        help="float16 mixed precision with loss scaling (CUDA only)",
    )


def _add_saving_and_logging(parser: argparse.ArgumentParser) -> None:
    """What is kept and what is said."""
    add = parser.add_argument
    add(
        "--ckpt_save_interval",
        type=at_least(1),
        default=1,
        help="epochs between checkpoints; one is always written after the last epoch",
    )
    add(
        "--max_ckpt_save_num",
        type=at_least(1),
        default=30,
        help="epoch checkpoints kept; the earliest are deleted",
    )
    add(
        "--ckpt_save_time_interval",
        type=at_least(0),
        default=300,
        help="seconds between savings of latest_model.pth within an epoch; 0: after every iteration",
    )
    add("--logger_iter_interval", type=at_least(1), default=50, help="iterations between log lines")
    add(
        "--use_tqdm_to_record",
        action="store_true",
        default=False,
        help="show losses in a progress bar only, and write no lines to the log",
    )
    add("--wo_gpu_stat", action="store_true", help="leave the GPU memory out of the log lines")


def _add_evaluation_after_training(parser: argparse.ArgumentParser) -> None:
    """Which checkpoints are evaluated at the end."""
    add = parser.add_argument
    add(
        "--num_epochs_to_eval",
        type=at_least(0),
        default=0,
        help="evaluate the checkpoints of that many epochs before the last one, too",
    )
    add(
        "--start_epoch",
        type=at_least(0),
        default=0,
        help="evaluate no checkpoint from before this epoch",
    )
    add(
        "--max_waiting_mins",
        type=at_least(0),
        default=0,
        help="minutes to wait for the last checkpoint to appear, on a slow shared disk",
    )


def add_train_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flags of tools/train.py."""
    _add_schedule(parser)
    _add_saving_and_logging(parser)
    _add_evaluation_after_training(parser)
    _add_common(parser, "training")
    return parser


def add_test_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flags of tools/test.py."""
    add = parser.add_argument
    add("--ckpt", type=str, default=None, help="checkpoint to evaluate; it must fit completely")
    add(
        "--pretrained_model",
        type=str,
        default=None,
        help="checkpoint loaded before --ckpt, as far as it fits; --ckpt may then hold a part of the tensors",
    )
    add(
        "--eval_tag",
        type=str,
        default="default",
        help="last part of the result folder, to tell evaluations apart",
    )
    add(
        "--eval_all",
        action="store_true",
        default=False,
        help="evaluate every checkpoint_epoch_N.pth that has not been evaluated yet, and wait for more",
    )
    add(
        "--ckpt_dir",
        type=str,
        default=None,
        help="--eval_all: folder of the checkpoints (default: ckpt/ of the run)",
    )
    add(
        "--start_epoch",
        type=at_least(0),
        default=0,
        help="--eval_all: leave out checkpoints from before this epoch",
    )
    add(
        "--max_waiting_mins",
        type=at_least(0),
        default=30,
        help="--eval_all: stop when no new checkpoint has come for that many minutes; 0: do not wait",
    )
    add(
        "--teacher",
        action="store_true",
        default=False,
        help="evaluate the teacher of the config's DISTILL block, with its own processing of the same frames",
    )
    add(
        "--teacher_ckpt",
        type=str,
        default=None,
        help="--teacher: its checkpoint, instead of DISTILL.TEACHER.CKPT; it must fit completely",
    )
    add(
        "--infer_time",
        action="store_true",
        default=False,
        help="also measure the time of the model alone, without loading data or writing results",
    )
    _add_common(parser, "testing")
    return parser
