"""From runs to rows: mean and standard deviation over the seeds, the gap closed, the comparisons.

AP is KITTI's at moderate difficulty over 40 recall positions (IoU 0.7 Car, 0.5 Pedestrian and
Cyclist), or that of an evaluation in LiDAR coordinates; mAP is the mean over the classes. The gap
closed is the share of the 3D mAP between the baseline row (0 %) and the teacher (100 %).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ....report.comparison import METRICS, ap_words
from ..cost.measured import Measured
from ..plan import StudyPlan
from ..records import EqualCompute
from ..spec import STEPS, TEACHER, RowSpec, base_split
from ..survey import ENDED, FINISHED, Ap, Outcome, mean_ap, seconds
from .comparisons import Comparison, compare_rows
from .shown import Shown
from .spread import Spread

MAP = "mAP"


@dataclass(frozen=True)
class Row:
    """A line of the table, on one split."""

    name: str
    title: str
    config: str
    settings: Mapping[str, object]
    seeds: int  # finished
    planned: int
    epochs: int | None
    ap: Mapping[str, Mapping[str, Spread]]  # [metric][class or mAP]; empty when no run finished
    train_s: Spread | None
    gap: float | None  # share of the gap closed, 1.0 at the teacher
    failures: Sequence[str] = ()
    pending: Sequence[str] = ()  # runs still to come, and what they wait for
    measured: Measured = field(default_factory=Measured)
    note: str = ""
    counted_s: float | None = None  # cost of training, counted from measured steps


@dataclass(frozen=True)
class Table:
    """All rows of a study on one split: the teacher first, then by 3D mAP within each baseline."""

    study: str
    split: str
    rows: Sequence[Row]
    class_names: Sequence[str]
    setting: str  # data, metric and units, in a few sentences
    comparisons: Sequence[Comparison] = ()
    splits: Sequence[str] = ()  # all that the study evaluates
    shown: Sequence[Shown] = ()
    warnings: Sequence[str] = ()

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)


def make_table(
    plan: StudyPlan,
    outcomes: Mapping[str, Outcome],
    split: str,
    *,
    on_gpu: bool = False,
    measured: Mapping[str, Measured] | None = None,
    equal: Mapping[str, EqualCompute] | None = None,
    counted: Mapping[str, float] | None = None,
    shown: Sequence[Shown] = (),
    warnings: Sequence[str] = (),
) -> Table:
    """The table of ``split`` from the runs that exist.

    Args:
        on_gpu: report wall-clock seconds of training instead of CPU seconds.
        measured: cost at test time, by row.
        equal: epochs chosen for rows of equal compute, by row.
        counted: seconds of training counted from measured steps, by row.
        shown: the comparisons of all splits, with their verdicts.
        warnings: sentences about the whole study.
    """
    specs = plan.spec.all_rows()
    runs = {spec.name: _of_row(spec, outcomes) for spec in specs}
    means = {spec.name: _mean_map(runs[spec.name], split) for spec in specs}
    rows = []
    for spec in specs:
        row = _make_row(
            plan,
            spec,
            runs[spec.name],
            split=split,
            on_gpu=on_gpu,
            gap=_gap_closed(spec, means),
            measured=(measured or {}).get(spec.name),
            equal=(equal or {}).get(spec.name),
        )
        rows.append(replace(row, counted_s=(counted or {}).get(spec.name)))
    return Table(
        plan.spec.name,
        split,
        _best_first(rows, specs),
        list(plan.configs[specs[0].name].CLASS_NAMES),
        _setting(plan, split, on_gpu),
        compare_rows(plan, outcomes, split),
        splits=plan.spec.evaluate,
        shown=shown,
        warnings=warnings,
    )


def _of_row(spec: RowSpec, outcomes: Mapping[str, Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes.values() if outcome.run.row.name == spec.name]


def _mean_map(outcomes: Sequence[Outcome], split: str) -> float | None:
    """Mean 3D mAP over the finished runs of a row."""
    finished = [outcome for outcome in outcomes if outcome.status == FINISHED]
    if not finished:
        return None
    return statistics.fmean(mean_ap(outcome.ap[split], "3d") for outcome in finished)


def _gap_closed(spec: RowSpec, means: Mapping[str, float | None]) -> float | None:
    """``(row - baseline) / (teacher - baseline)``; None where one of the three is missing."""
    score = means.get(spec.name)
    teacher = means.get(TEACHER)
    baseline = means.get(spec.baseline) if spec.baseline else None
    if score is None or teacher is None or baseline is None or teacher == baseline:
        return None
    return (score - baseline) / (teacher - baseline)


def _best_first(rows: Sequence[Row], specs: Sequence[RowSpec]) -> list[Row]:
    """The teacher, then the rows of each baseline by 3D mAP; those without a number last."""
    baselines = {spec.name: spec.baseline for spec in specs}
    groups = list(dict.fromkeys(baselines.values()))

    def order(row: Row) -> tuple[bool, int, bool, float]:
        score = row.ap["3d"][MAP].mean if row.ap else 0.0
        group = groups.index(baselines[row.name])
        return (row.name != TEACHER, group, not row.ap, -score)

    return sorted(rows, key=order)


def _make_row(
    plan: StudyPlan,
    spec: RowSpec,
    outcomes: Sequence[Outcome],
    *,
    split: str,
    on_gpu: bool,
    gap: float | None,
    measured: Measured | None,
    equal: EqualCompute | None,
) -> Row:
    finished = [outcome for outcome in outcomes if outcome.status == FINISHED]
    costs = [seconds(each.cost, on_gpu) for each in finished if each.cost is not None]
    return Row(
        name=spec.name,
        title=spec.title or spec.name,
        config=spec.config,
        settings=dict(spec.settings),
        seeds=len(finished),
        planned=len(spec.seeds),
        epochs=plan.epochs(spec),
        ap=spread_of_ap([outcome.ap[split] for outcome in finished]),
        train_s=Spread.of(costs),
        gap=gap,
        failures=_failures(outcomes),
        pending=_pending(outcomes),
        measured=measured or {},
        note=_note(spec, equal),
    )


def spread_of_ap(results: Sequence[Ap]) -> dict[str, dict[str, Spread]]:
    """Spread ``[metric][class or mAP]`` over the runs of a row; empty when there are none."""
    spreads: dict[str, dict[str, Spread]] = {}
    if not results:
        return spreads
    for metric in METRICS:
        spreads[metric] = {}
        for name in results[0][metric]:
            spreads[metric][name] = Spread.over([ap[metric][name] for ap in results])
        spreads[metric][MAP] = Spread.over([mean_ap(ap, metric) for ap in results])
    return spreads


def _failures(outcomes: Sequence[Outcome]) -> list[str]:
    """The runs that failed or cannot be started, with their reasons."""
    failed = [each for each in outcomes if each.status in ENDED and each.status != FINISHED]
    return [f"seed {outcome.run.seed}: {outcome.reason}" for outcome in failed]


def _pending(outcomes: Sequence[Outcome]) -> list[str]:
    """The runs still to come: seeds that wait for the same thing stand in one line."""
    seeds: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.status not in ENDED:
            reason = f", {outcome.reason}" if outcome.reason else ""
            seeds.setdefault(outcome.status + reason, []).append(str(outcome.run.seed))
    lines = []
    for state, numbers in seeds.items():
        word = "seed" if len(numbers) == 1 else "seeds"
        lines.append(f"{word} {', '.join(numbers)}: {state}")
    return lines


def _note(spec: RowSpec, equal: EqualCompute | None) -> str:
    """What a reader must know about a row's epochs and cost."""
    if spec.checkpoint is not None:
        return f"evaluated from {spec.checkpoint}; its training is not counted"
    if equal is None:
        return ""
    return (
        f"epochs chosen so that {equal['epoch_s']} s an epoch come to the {equal['target_s']} s of "
        f"{' + '.join(spec.equal_compute_of)}"
    )


def _setting(plan: StudyPlan, split: str, on_gpu: bool) -> str:
    """Data, metric and units in a few sentences."""
    unit = "wall-clock seconds" if on_gpu else "CPU seconds with one thread"
    counted = ""
    if plan.spec.cost == STEPS:
        counted = (
            "Counted s: the median step, measured in turns with one other row, times the steps, "
            "with INIT_STUDENT and the pass of a cached teacher. "
        )
    return (
        f"{_data_setting(plan, split)}AP: {_ap_words(plan)}. mAP: mean over the classes. "
        "+-: standard deviation over the seeds (n - 1). "
        "Gap closed: 0 % is the 3D mAP of the baseline, 100 % that of the teacher. "
        f"Train s: {unit}, without the training of the teacher. "
        f"{counted}"
        "Difference: mean over the seeds that both rows have, seed by seed. "
        "GFLOPs: 1e9 multiply-adds of one frame."
    )


def _ap_words(plan: StudyPlan) -> str:
    """What AP is; all rows evaluate on the same data."""
    config = next(iter(plan.configs.values()))
    return ap_words(config.DATA_CONFIG)


def _data_setting(plan: StudyPlan, split: str) -> str:
    frames = plan.spec.data.frames
    if frames is None:
        return ""
    unlabelled = f", {frames['unlabelled']} without labels" if frames["unlabelled"] else ""
    labels = "" if base_split(split) == split else ", against the true boxes"
    return (
        f"{frames['train']} training frames{unlabelled}; evaluated on {frames[base_split(split)]} "
        f"frames of the split '{base_split(split)}'{labels}, simulated with seed "
        f"{plan.spec.data.seed}. "
    )
