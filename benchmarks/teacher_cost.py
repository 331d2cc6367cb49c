"""Claim: a cached teacher costs a few percent of a training step; a teacher that runs half of one.

Run ``python benchmarks/teacher_cost.py [--teacher_ckpt FILE] [--recipe YAML] [--set KEY VALUE]``.
FILE is a trained teacher of the yaml file (default: cfgs/synthetic/recipes/logitbox.yaml). Without
one the teacher is untrained: it takes the same time, but there are hardly any boxes to move.

Each row is a way to run the teacher. In every round each row loads the same two frames, augmented,
and trains on them, in an order that rotates. "Ratio" is the median over the rounds of the row's
time over that of the plain row in the same round; "spread" is half the range that holds the middle
half of the rounds. "The loss alone" gets what the teacher predicts for nothing: no way to run the
teacher can cost less. On a CPU the processor seconds of this process are counted, on one thread, so
other work on the machine matters little. On CUDA (``--device cuda``) it is the time until the GPU
has finished.
"""

from __future__ import annotations

import argparse
import copy
import logging
import statistics
import tempfile
import time
from pathlib import Path

import torch
from easydict import EasyDict
from training_frames import BATCH_SIZE, training_frames

from pcdet_distill.checkpoint import save_checkpoint
from pcdet_distill.config import find_file, load_config
from pcdet_distill.datasets.spec import DataSpec
from pcdet_distill.engine.build import build_trained_model
from pcdet_distill.models import build_network, load_data_to_device
from pcdet_distill.models.trainable import OneProcess

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 2  # rounds that are not counted


class Row:
    """One way to run the teacher: its distiller, and its own dataset.

    Args:
        name: of the row.
        cfg: the whole config.
        teacher_ckpt: weights of the teacher.
        device: where to train.
        progress: shares of the training at which steps are measured; their mean counts.
        shows: how often each batch is shown; the mean of the shows counts.
        is_free: the teacher runs before the time is taken.
    """

    def __init__(
        self,
        name: str,
        cfg: EasyDict,
        teacher_ckpt: Path,
        device: torch.device,
        *,
        progress: tuple[float, ...] = (0.0,),
        shows: int = 1,
        is_free: bool = False,
    ) -> None:
        self.name = name
        self.device = device
        self.progress = progress
        self.shows = shows
        self.is_free = is_free
        self.dataset, _ = training_frames(cfg, seed=0)
        torch.manual_seed(0)
        checkpoint = str(teacher_ckpt) if cfg.get("DISTILL") else None
        logger = logging.getLogger("silent")
        self.model = build_trained_model(
            cfg, self.dataset, teacher_ckpt=checkpoint, logger=logger
        ).to(device)
        self.model.prepare_data(OneProcess(), logger)
        self.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def measure(self, number: int) -> tuple[float, float]:
        """Seconds to load and to train on batch ``number``, means over progress and shows."""
        loading = []
        training = []
        for progress in self.progress:
            self.model.set_progress(progress)
            for _ in range(self.shows):
                start = self._now()
                first = number * BATCH_SIZE
                items = [
                    self.dataset[index % len(self.dataset)]
                    for index in range(first, first + BATCH_SIZE)
                ]
                batch = self.dataset.collate_batch(items)
                loading.append(self._now() - start)
                load_data_to_device(batch, self.device)
                if self.is_free:
                    self._foresee(batch)
                start = self._now()
                self._step(batch)
                training.append(self._now() - start)
        return statistics.mean(loading), statistics.mean(training)

    def _foresee(self, batch: dict) -> None:
        """Let the teacher answer at once what it computes now."""
        teacher = self.model.teacher
        output = type(teacher).run(teacher, batch, self.model.head.teacher_paths)
        teacher.run = lambda *arguments, **options: output

    def _step(self, batch: dict) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.model(batch)[0]["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 10)
        self.optimizer.step()

    def _now(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()


def with_teacher(cfg: EasyDict, **options: object) -> EasyDict:
    """The config with other keys of DISTILL.TEACHER."""
    changed = copy.deepcopy(cfg)
    changed.DISTILL.TEACHER.update(options)
    return changed


def make_rows(
    cfg: EasyDict, teacher_ckpt: Path, device: torch.device, cache: Path, names: list[str] | None
) -> list[Row]:
    """The rows of ``names``, or all; the plain one first."""
    plain = copy.deepcopy(cfg)
    plain.pop("DISTILL")
    ends = copy.deepcopy(cfg)
    for term in ends.DISTILL.TERMS.values():
        term.WEIGHT = {"START": 1.0, "END": 0.0, "UNTIL": 0.5}
    cached = with_teacher(cfg, CACHE="predictions", CACHE_DIR=str(cache))
    settings: dict[str, tuple[EasyDict, dict]] = {
        "plain": (plain, {}),
        "teacher runs": (cfg, {}),
        "PRECISION: bfloat16": (with_teacher(cfg, PRECISION="bfloat16"), {}),
        "PRECISION: float16": (with_teacher(cfg, PRECISION="float16"), {}),
        "REUSE: 2": (with_teacher(cfg, REUSE=2), {"shows": 2}),
        "WEIGHT ends UNTIL: 0.5": (ends, {"progress": (0.0, 1.0)}),
        "CACHE: predictions": (cached, {}),
        "the loss alone": (cfg, {"is_free": True}),
    }
    chosen = settings if names is None else ["plain", *names]
    return [
        Row(name, settings[name][0], teacher_ckpt, device, **settings[name][1]) for name in chosen
    ]


def untrained_teacher(cfg: EasyDict, folder: Path) -> Path:
    """A checkpoint of the recipe's teacher as it is built."""
    teacher_cfg = load_config(find_file(cfg.DISTILL.TEACHER.CFG_FILE, near=ROOT))
    spec = DataSpec.from_config(teacher_cfg.DATA_CONFIG, teacher_cfg.CLASS_NAMES)
    model = build_network(teacher_cfg.MODEL, len(teacher_cfg.CLASS_NAMES), spec)
    save_checkpoint({"model_state": model.state_dict()}, folder / "teacher.pth")
    return folder / "teacher.pth"


def print_table(rows: list[Row], times: dict[str, list[tuple[float, float]]]) -> None:
    """Medians, and ratios to the plain row of the same round."""
    print("| teacher | load | step | both, ratio | spread |\n|---|---:|---:|---:|---:|")
    plain = [sum(pair) for pair in times["plain"]]
    for row in rows:
        loading = statistics.median(pair[0] for pair in times[row.name])
        training = statistics.median(pair[1] for pair in times[row.name])
        ratios = sorted(sum(pair) / base for pair, base in zip(times[row.name], plain))
        quarter = len(ratios) // 4
        spread = (ratios[-1 - quarter] - ratios[quarter]) / 2
        print(
            f"| {row.name} | {1e3 * loading:.0f} ms | {1e3 * training:.0f} ms "
            f"| {statistics.median(ratios):.3f} | {spread:.3f} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teacher_ckpt", type=Path)
    parser.add_argument(
        "--recipe", type=Path, default=ROOT / "cfgs/synthetic/recipes/logitbox.yaml"
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", nargs="+", help="of the table; plain is always among them")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cache_dir", type=Path, help="keep the cache there")
    parser.add_argument("--set", nargs="+", default=[], dest="settings", help="KEY VALUE pairs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cfg = load_config(args.recipe, args.settings)
    with tempfile.TemporaryDirectory() as folder:
        cache = args.cache_dir or Path(folder) / "cache"
        checkpoint = args.teacher_ckpt or untrained_teacher(cfg, Path(folder))
        rows = make_rows(cfg, checkpoint, torch.device(args.device), cache, args.rows)
        times: dict[str, list[tuple[float, float]]] = {row.name: [] for row in rows}
        for number in range(WARM_UP + args.rounds):
            turn = number % len(rows)
            for row in rows[turn:] + rows[:turn]:
                measured = row.measure(number)
                if number >= WARM_UP:
                    times[row.name].append(measured)
    print_table(rows, times)


if __name__ == "__main__":
    main()
