"""The flags of tools/train.py and tools/test.py: OpenPCDet's, and a few of our own.

Ours are ``--teacher``, ``--teacher_ckpt``, ``--seed``, ``--device``, ``--skip_bad_frames``,
``--on_nan``, ``--allow_nonfinite``, ``--plugin``, ``--accumulate``, ``--rank_timeout`` and
``--compile``.
tests/contracts/test_flags.py freezes all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add_train_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flags of tools/train.py."""
    _add_starting_point(parser)
    _add_schedule(parser)
    _add_checkpoints(parser)
    _add_logging(parser)
    _add_evaluation_after_training(parser)
    _add_common(parser, "training")
    return parser


def add_test_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flags of tools/test.py."""
    _add_tested_weights(parser)
    _add_eval_all(parser)
    _add_results(parser)
    _add_common(parser, "testing")
    return parser


def at_least(minimum: int) -> Callable[[str], int]:
    """An argparse type: a whole number of ``minimum`` or more."""

    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{value} is too small; expected {minimum} or more")
        return value

    return whole_number


def minutes(text: str) -> float:
    """An argparse type: a time above 0, in minutes."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of minutes") from None
    if not 0 < value < 10**6:
        raise argparse.ArgumentTypeError(f"{text}: expected a number of minutes above 0")
    return value


def _add_common(parser: argparse.ArgumentParser, activity: str) -> None:
    """The flags of both tools."""
    _add_experiment(parser)
    _add_data(parser, activity)
    _add_processes(parser)
    # Last, because --set takes the rest of the line.
    parser.add_argument(
        "--set",
        dest="set_cfgs",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="change config values, e.g. --set OPTIMIZATION.LR 0.001; takes the rest of the line",
    )


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    """Config and output folder."""
    parser.add_argument(
        "--cfg_file",
        help="yaml of the experiment, e.g. cfgs/kitti_models/pointpillar.yaml",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder whose modules the yaml may name, as in NAME: my_losses.MyLoss; can be given "
        "several times. Installed packages need no flag",
    )
    parser.add_argument(
        "--extra_tag",
        default="default",
        help="last part of the output folder, another one for each run of a config "
        "(default: default)",
    )
    parser.add_argument(
        "--save_to_file",
        action="store_true",
        help="also write the detections as KITTI text files, final_result/data/<frame>.txt",
    )
    parser.add_argument(
        "--allow_nonfinite",
        action="store_true",
        help="accept checkpoints whose weights are NaN or infinite; without it they are an error",
    )


def _add_data(parser: argparse.ArgumentParser, activity: str) -> None:
    """Batches and how they are loaded."""
    parser.add_argument(
        "--batch_size",
        type=at_least(1),
        help="samples in a batch, all processes together "
        "(default: OPTIMIZATION.BATCH_SIZE_PER_GPU for each process)",
    )
    parser.add_argument(
        "--workers",
        type=at_least(0),
        default=4,
        help="data loading processes, at most one for each CPU core; 0: load in the main process "
        "(default: 4)",
    )
    parser.add_argument(
        "--skip_bad_frames",
        action="store_true",
        help=f"while {activity}, log and skip frames that cannot be read; without it the first "
        "one is an error",
    )


def _add_processes(parser: argparse.ArgumentParser) -> None:
    """Device, and several processes."""
    parser.add_argument(
        "--device",
        help="cpu, cuda or cuda:N (default: cuda if there is one)",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm"],
        default="none",
        help="what starts several processes: pytorch (torchrun, see scripts/dist_*.sh) "
        "or slurm (srun)",
    )
    parser.add_argument(
        "--tcp_port",
        type=at_least(1),
        default=18888,
        help="port where the processes connect, unless the launcher sets MASTER_PORT",
    )
    parser.add_argument(
        "--rank_timeout",
        type=minutes,
        default=5.0,
        metavar="MINUTES",
        help="several processes: how long a step waits for one that does not answer, before all "
        "end (default: 5)",
    )
    parser.add_argument(
        "--local_rank",
        type=at_least(0),
        default=0,
        help="rank of this process on its machine, unless the launcher sets LOCAL_RANK",
    )


def _add_starting_point(parser: argparse.ArgumentParser) -> None:
    """The weights and the seed that a training starts with."""
    parser.add_argument(
        "--ckpt",
        help="checkpoint to resume, with its optimizer (default: the newest in ckpt/)",
    )
    parser.add_argument(
        "--pretrained_model",
        help="checkpoint to start from: tensors that fit are loaded, the others are listed",
    )
    parser.add_argument(
        "--teacher_ckpt",
        help="checkpoint of the teacher, instead of DISTILL.TEACHER.CKPT; it must fit completely",
    )
    parser.add_argument(
        "--fix_random_seed",
        action="store_true",
        help="seed 666 (+ rank) instead of a random one, and deterministic cuDNN; "
        "a resumed training keeps a random seed",
    )
    parser.add_argument(
        "--seed",
        type=at_least(0),
        help="like --fix_random_seed, with this seed: the same command trains the same model",
    )


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    """How a training runs."""
    parser.add_argument(
        "--epochs",
        type=at_least(1),
        help="epochs to train (default: OPTIMIZATION.NUM_EPOCHS)",
    )
    parser.add_argument(
        "--accumulate",
        type=at_least(1),
        default=1,
        metavar="N",
        help="batches whose gradients are added up before the weights change: N times the batch "
        "size in the memory of one (default: 1)",
    )
    parser.add_argument(
        "--sync_bn",
        action="store_true",
        help="BatchNorm statistics over all processes",
    )
    parser.add_argument(
        "--use_amp",
        action="store_true",
        help="mixed precision (CUDA only): float16 with loss scaling, or bfloat16 by "
        "OPTIMIZATION.AMP_DTYPE",
    )
    parser.add_argument(
        "--on_nan",
        choices=["stop", "skip"],
        default="stop",
        help="what follows a loss that is not finite: stop with the state before it saved, or skip "
        "the step, for which CUDA waits in every step (default: stop)",
    )
    parser.add_argument(
        "--merge_all_iters_to_one_epoch",
        action="store_true",
        help="one pass of the loader over all epochs, so that its workers start once",
    )


def _add_checkpoints(parser: argparse.ArgumentParser) -> None:
    """Which checkpoints are written and kept."""
    parser.add_argument(
        "--ckpt_save_interval",
        type=at_least(1),
        default=1,
        help="epochs between checkpoints (default: 1); one is always written after the last epoch",
    )
    parser.add_argument(
        "--max_ckpt_save_num",
        type=at_least(1),
        default=30,
        help="number of epoch checkpoints to keep (default: 30); the earliest are deleted",
    )
    parser.add_argument(
        "--ckpt_save_time_interval",
        type=at_least(0),
        default=300,
        help="seconds between savings of latest_model.pth within an epoch (default: 300), the "
        "first after 60 s at the latest; 0: after every iteration",
    )


def _add_logging(parser: argparse.ArgumentParser) -> None:
    """Log lines and progress bar."""
    parser.add_argument(
        "--logger_iter_interval",
        type=at_least(1),
        default=50,
        help="iterations between log lines (default: 50); a line also appears after 30 s without "
        "any",
    )
    parser.add_argument(
        "--use_tqdm_to_record",
        action="store_true",
        help="show losses in a progress bar only, and write no lines to the log",
    )
    parser.add_argument(
        "--wo_gpu_stat",
        action="store_true",
        help="leave the GPU memory out of the log lines",
    )


def _add_evaluation_after_training(parser: argparse.ArgumentParser) -> None:
    """Which checkpoints are evaluated at the end of a training."""
    parser.add_argument(
        "--num_epochs_to_eval",
        type=at_least(0),
        default=0,
        help="also evaluate the checkpoints of that many epochs before the last one",
    )
    parser.add_argument(
        "--start_epoch",
        type=at_least(0),
        default=0,
        help="evaluate no checkpoint from before this epoch",
    )
    parser.add_argument(
        "--max_waiting_mins",
        type=at_least(0),
        default=0,
        help="minutes to wait for the last checkpoint to appear, on a slow shared disk",
    )


def _add_tested_weights(parser: argparse.ArgumentParser) -> None:
    """The weights that tools/test.py evaluates."""
    parser.add_argument(
        "--ckpt",
        help="checkpoint to evaluate; it must fit completely",
    )
    parser.add_argument(
        "--pretrained_model",
        help="checkpoint of tensors that are missing in --ckpt",
    )
    parser.add_argument(
        "--teacher",
        action="store_true",
        help="evaluate the teacher of the config's DISTILL block on the same frames, "
        "with its own processing of the points",
    )
    parser.add_argument(
        "--teacher_ckpt",
        help="--teacher: its checkpoint, instead of DISTILL.TEACHER.CKPT; it must fit completely",
    )


def _add_eval_all(parser: argparse.ArgumentParser) -> None:
    """The checkpoints of a whole run."""
    parser.add_argument(
        "--eval_all",
        action="store_true",
        help="evaluate every checkpoint_epoch_N.pth that has not been evaluated yet, "
        "and wait for more",
    )
    parser.add_argument(
        "--ckpt_dir",
        help="--eval_all: folder of the checkpoints (default: ckpt/ of the run)",
    )
    parser.add_argument(
        "--start_epoch",
        type=at_least(0),
        default=0,
        help="--eval_all: leave out checkpoints from before this epoch",
    )
    parser.add_argument(
        "--max_waiting_mins",
        type=at_least(0),
        default=30,
        help="--eval_all: stop after that many minutes without a new checkpoint; 0: do not wait",
    )


def _add_results(parser: argparse.ArgumentParser) -> None:
    """What an evaluation measures, and where it is stored."""
    parser.add_argument(
        "--eval_tag",
        default="default",
        help="last part of the result folder, another one for each evaluation (default: default)",
    )
    parser.add_argument(
        "--infer_time",
        action="store_true",
        help="also measure the time of the model alone, without loading data or writing results",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile what follows the map from above: a CUDA graph for each batch size, on a CPU "
        "PyTorch's compiler",
    )
