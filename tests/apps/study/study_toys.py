"""A study whose trainings are a few lines of Python, for the tests of pcdet_distill/apps/study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from pcdet_distill.apps.study.plan import Options, Run, StudyPlan
from pcdet_distill.apps.study.spec import read_study

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

# argv: name, epochs, metrics.json to write, metrics.jsonl to write
TOY = """
import json, os, sys, time
from pathlib import Path
name, epochs, result, cost = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
with open("order.txt", "a") as file:
    file.write(name + "\\n")
settings = json.loads(Path("toy.json").read_text())
own = {**settings, **settings.get(name, {})}
time.sleep(own.get("seconds", 0))
deadline = time.monotonic() + 60
while len(Path("order.txt").read_text().splitlines()) < own.get("together", 0):     # waits for the others to start
    if time.monotonic() > deadline:
        sys.exit("error: alone")
    time.sleep(0.02)
if "says" in own:
    print(own["says"])
    sys.exit(own.get("code", 2))
if own.get("silent"):
    sys.exit(0)
values = {kind: {"R40": {"moderate": own.get("ap", 10.0) + epochs}} for kind in ("3d", "bev")}
result.parent.mkdir(parents=True, exist_ok=True)
result.write_text(json.dumps({"ap": {"Car": {"strict": values}, "Cyclist": {"strict": values}}}))
cost.parent.mkdir(parents=True, exist_ok=True)
cost.write_text(json.dumps({"kind": "cost", "it": 5, "wall_s": 2.0 * epochs * own.get("cost", 1.0),
                            "cpu_s": epochs * own.get("cost", 1.0), "first_it": 0}) + "\\n")
"""


class ToyPlan(StudyPlan):
    """Runs are ``toy.py``."""

    def commands(self, run: Run) -> list[tuple[list[str], Path]]:
        """One toy a split."""
        results = [
            run.metrics(split, number == 0) for number, split in enumerate(self.spec.evaluate)
        ]
        return [
            (
                [
                    "toy.py",
                    run.name,
                    str(run.epochs),
                    str(result),
                    str(run.folder / "metrics.jsonl"),
                ],
                result,
            )
            for result in results
        ]


def study(**changes: Any) -> dict[str, Any]:
    """A study of a plain row and a recipe, with two seeds."""
    content = {
        "TEACHER": {"CONFIG": "cfgs/toys/plain.yaml", "EPOCHS": 10},
        "SEEDS": [0, 1],
        "EPOCHS": 2,
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
    """A checkout with the yaml of a study, two configurations and the toy; ``toy`` says how the toys behave."""
    (root / "cfgs" / "toys").mkdir(parents=True, exist_ok=True)
    (root / "cfgs" / "toys" / "plain.yaml").write_text(MODEL)
    (root / "cfgs" / "toys" / "recipe.yaml").write_text(MODEL + DISTILL)
    (root / "toy.py").write_text(TOY)
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
