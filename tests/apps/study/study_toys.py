"""A study whose trainings are a few lines of Python, for the tests of pcdet_distill/apps/study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from pcdet_distill.apps.study.plan import Command, Options, Run, StudyPlan
from pcdet_distill.apps.study.spec import read_study
from pcdet_distill.apps.tools import SCRIPTS

MODEL = """
CLASS_NAMES: [Car, Cyclist]
DATA_CONFIG:
    DATASET: KittiDataset
    DATA_PATH: nowhere
    POINT_CLOUD_RANGE: [0, -12.8, -3, 44.8, 12.8, 1]
    DATA_SPLIT: {train: train, test: val}
    INFO_PATH: {train: [a.pkl], test: [b.pkl]}
    DATA_PROCESSOR: [{NAME: shuffle_points, SHUFFLE_ENABLED: {train: True, test: False}}]
MODEL: {NAME: PointPillar}
OPTIMIZATION: {OPTIMIZER: adam_onecycle, LR: 0.003, NUM_EPOCHS: 2, BATCH_SIZE_PER_GPU: 2}
"""
DISTILL = "DISTILL: {TEACHER: {CFG_FILE: cfgs/toys/plain.yaml}, TERMS: {}}\n"

# argv: name, epochs, metrics.json to write, metrics.jsonl to write. toy.json sets how it behaves:
# seconds: sleep; together: wait until so many runs have started; says, code: fail with a message;
# killed_once: kill itself when it runs for the first time; silent: end without a result; ap, cost:
# the numbers to write. A key with a run's name is its own.
TOY = """
import json, os, sys, time
from pathlib import Path
name, epochs, result, cost = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
epochs = 0 if epochs == "None" else int(epochs)
with open("order.txt", "a") as file:
    file.write(name + "\\n")
settings = json.loads(Path("toy.json").read_text())
toy = {**settings, **settings.get(name, {})}
time.sleep(toy.get("seconds", 0))
deadline = time.monotonic() + 60
while len(Path("order.txt").read_text().splitlines()) < toy.get("together", 0):
    if time.monotonic() > deadline:
        sys.exit("error: alone")
    time.sleep(0.02)
if toy.get("killed_once") and Path("order.txt").read_text().split().count(name) == 1:
    os.kill(os.getpid(), 9)
if "says" in toy:
    print(toy["says"])
    sys.exit(toy.get("code", 2))
if toy.get("silent"):
    sys.exit(0)
values = {kind: {"R40": {"moderate": toy.get("ap", 10.0) + epochs}} for kind in ("3d", "bev")}
result.parent.mkdir(parents=True, exist_ok=True)
result.write_text(json.dumps({"ap": {"Car": {"strict": values}, "Cyclist": {"strict": values}}}))
cost.parent.mkdir(parents=True, exist_ok=True)
cpu_s = epochs * toy.get("cost", 1.0)
line = {"kind": "cost", "it": 5, "wall_s": 2.0 * cpu_s, "cpu_s": cpu_s, "first_it": 0}
cost.write_text(json.dumps(line) + "\\n")
"""


class ToyPlan(StudyPlan):
    """Runs are ``toy.py``."""

    def commands(self, run: Run) -> list[Command]:
        """One toy for each split."""
        commands = []
        for split in self.spec.evaluate:
            result = self.metrics_file(run, split)
            cost = run.folder / "metrics.jsonl"
            words = ["toy.py", run.name, str(run.epochs), str(result), str(cost)]
            commands.append(Command(words, result))
        return commands


def study(**changes: Any) -> dict[str, Any]:
    """A study of a plain row and a recipe, with two seeds."""
    content = {
        "TEACHER": {"CONFIG": "cfgs/toys/plain.yaml", "EPOCHS": 10},
        "SEEDS": [0, 1],
        "EPOCHS": 2,
        "COST": "seconds",  # toys have no training steps to measure
        "BASELINE": "plain",
        "ROWS": {
            "plain": {"CONFIG": "cfgs/toys/plain.yaml"},
            "recipe": {"CONFIG": "cfgs/toys/recipe.yaml"},
        },
    }
    return {**content, **changes}


def make_root(
    root: Path, content: dict[str, Any] | None = None, name: str = "toys.yaml", **toy: Any
) -> Path:
    """A checkout with the yaml of a study, two configurations and the toy.

    Args:
        toy: the content of toy.json.
    """
    (root / "cfgs" / "toys").mkdir(parents=True, exist_ok=True)
    (root / "cfgs" / "toys" / "plain.yaml").write_text(MODEL)
    (root / "cfgs" / "toys" / "recipe.yaml").write_text(MODEL + DISTILL)
    (root / "toy.py").write_text(TOY)
    (root / "tools").mkdir(exist_ok=True)
    for tool in SCRIPTS.values():
        (root / tool).touch()
    (root / "toy.json").write_text(json.dumps(toy))
    path = root / "cfgs" / name
    path.write_text(yaml.safe_dump(content or study(), sort_keys=False))
    return path


def make_plan(
    root: Path, content: dict[str, Any] | None = None, name: str = "toys.yaml", **toy: Any
) -> ToyPlan:
    """The plan of that study."""
    return ToyPlan(read_study(make_root(root, content, name, **toy)), root, Options())


def order(root: Path) -> list[str]:
    """The names of the runs in the order in which they were started."""
    path = root / "order.txt"
    return path.read_text().split() if path.exists() else []
