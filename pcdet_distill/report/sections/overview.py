"""The top of a page: the number that ranks, the facts about each model, warnings."""

from __future__ import annotations

from collections.abc import Sequence

from ...texts import duration_in_words
from ..page import Html, details, items, join, note, table
from ..view import View

MOST_WARNINGS = 3  # of a model; of more all but the first are folded


def overview(views: Sequence[View]) -> Html:
    """The facts about all models side by side, and the warnings of their evaluations."""
    return join(_facts(views), _warnings(views))


def _facts(views: Sequence[View]) -> Html:
    rows = []
    if any(view.label != view.record.name for view in views):
        rows.append(["run", *(view.record.name for view in views)])
    rows.append(["main figure", *(primary_text(view) for view in views)])
    rows.append(["rules", *(view.record.benchmark for view in views)])
    rows.append(["data", *(view.record.data for view in views)])
    rows.append(["frames", *(str(view.record.num_frames) for view in views)])
    for name in _fact_names(views):
        rows.append([name, *(view.record.facts.get(name, "–") for view in views)])
    rows += _training_rows(views)
    return table(["", *(view.label for view in views)], rows)


def primary_text(view: View) -> str:
    """``3D mAP moderate R40 56.40``."""
    if not view.record.primary:
        return "–"
    name, value = view.record.primary
    digits = 4 if value <= 1 else 2  # NDS and CDS are from 0 to 1
    return f"{name} {value:.{digits}f}"


def _fact_names(views: Sequence[View]) -> list[str]:
    names: dict[str, None] = {}
    for view in views:
        names.update(dict.fromkeys(view.record.facts))
    return list(names)


def _training_rows(views: Sequence[View]) -> list[list[str]]:
    """Epochs and time of the trainings, where any is known."""
    if not any(view.training for view in views):
        return []
    epochs = ["epochs trained"]
    seconds = ["time of the training"]
    for view in views:
        log = view.training
        epochs.append("–" if log is None else str(log.epochs))
        seconds.append("–" if log is None or not log.cost else _cost_text(log.cost))
    return [epochs, seconds]


def _cost_text(cost: dict[str, float]) -> str:
    wall = duration_in_words(cost["wall_s"])
    return f"{wall} ({duration_in_words(cost['cpu_s'])} of processor time)"


def _warnings(views: Sequence[View]) -> Html:
    """The remarks, with the model's name where there are two; many are folded behind the first."""
    parts = []
    for view in views:
        where = f"{view.label}: " if len(views) > 1 else ""
        remarks = [f"{where}{remark}" for remark in view.record.remarks]
        shown = remarks if len(remarks) <= MOST_WARNINGS else remarks[:1]
        folded = remarks[len(shown) :]
        parts += [note(remark, "warn") for remark in shown]
        if folded:
            title = f"{where}{len(folded)} more remarks of the evaluation"
            parts.append(details(title, items(folded)))
    return join(*parts)


def same_data(views: Sequence[View]) -> Html:
    """A sentence where the models were not evaluated on the same frames by the same rules."""
    first, *others = views
    reasons = []
    for view in others:
        if view.record.benchmark != first.record.benchmark:
            reasons.append(
                f"'{first.label}' follows {first.record.benchmark}, '{view.label}' "
                f"{view.record.benchmark}"
            )
        elif _frames(view) != _frames(first):
            reasons.append(
                f"'{first.label}' was evaluated on {first.record.data} "
                f"({first.record.num_frames} frames), '{view.label}' on {view.record.data} "
                f"({view.record.num_frames} frames)"
            )
    if not reasons:
        return Html("")
    return note(
        "These figures cannot be compared number by number: " + "; ".join(reasons) + ".", "bad"
    )


def _frames(view: View) -> object:
    """What two records have in common that are about the same frames."""
    return sorted(view.record.errors) or (view.record.num_frames, view.record.data)
