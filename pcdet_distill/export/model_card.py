"""The model card of a hub folder: what the model is, on which data, how good, how to load it.

The head is YAML in Hugging Face's keys. A sentence stands only where its fact is known.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import yaml

APACHE = "apache-2.0"
PIPELINE_TAG = "object-detection"
LIBRARY = "pcdet_distill"
REPOSITORY_WORDS = "https://arxiv.org/abs/2205.11098"
METRIC_TITLES = {"bev": "BEV AP", "3d": "3D AP", "ap": "AP"}


@dataclass(frozen=True)
class CardResults:
    """AP of one or several trainings of the same yaml.

    Attributes:
        words: what the numbers are.
        runs: for each training AP in percent by metric and class.
        scores: for each training further numbers in percent, such as NDS.
        frames: on how many frames; 0 if that is not known.
    """

    words: str
    runs: Sequence[Mapping[str, Mapping[str, float]]]
    scores: Sequence[Mapping[str, float]] = ()
    frames: int = 0


@dataclass(frozen=True)
class CardFacts:
    """What the card tells.

    Attributes:
        name: of the model, such as ``pointpillar_4x``.
        detector: MODEL.NAME.
        class_names: label 1 is the first.
        features: columns of a point.
        range_m: x, y, z minimum, then maximum.
        data: a phrase for the data it learnt from.
        license: Hugging Face's name of the licence of the weights.
        parameters: their number.
        gflops: 1e9 multiply-adds of a frame.
        checkpoint: file name of the checkpoint.
        epochs, seed: of its training.
        results: AP of the model.
        teacher: yaml of the teacher; empty without one.
        teacher_results: AP of the teacher.
        distill: the DISTILL block; empty without one.
    """

    name: str
    detector: str
    class_names: Sequence[str]
    features: Sequence[str]
    range_m: Sequence[float]
    data: str
    license: str
    parameters: int
    gflops: float | None = None
    checkpoint: str = ""
    epochs: int | None = None
    seed: int | None = None
    results: CardResults | None = None
    teacher: str = ""
    teacher_results: CardResults | None = None
    distill: Mapping[str, object] = field(default_factory=dict)


def model_card(facts: CardFacts) -> str:
    """The text of README.md."""
    sections = [
        _head(facts),
        f"# {facts.name}\n\n{_what_it_is(facts)}",
        f"## Load it\n\n{_how_to_load(facts)}",
        f"## Accuracy\n\n{_accuracy(facts)}",
        f"## Cost\n\n{_cost(facts)}",
        f"## Training\n\n{_training(facts)}",
        f"## Licence\n\n{_licence(facts)}",
    ]
    return "\n\n".join(sections) + "\n"


def _head(facts: CardFacts) -> str:
    """The YAML head, by which Hugging Face files the model."""
    tags = ["lidar", "point-cloud", "3d-object-detection", facts.detector.lower()]
    if facts.distill:
        tags.append("knowledge-distillation")
    head: dict[str, object] = {
        "license": facts.license,
        "library_name": LIBRARY,
        "pipeline_tag": PIPELINE_TAG,
        "tags": tags,
    }
    if facts.results is not None:
        head["model-index"] = [{"name": facts.name, "results": [_indexed(facts)]}]
    return "---\n" + yaml.safe_dump(head, sort_keys=False, allow_unicode=True) + "---"


def _indexed(facts: CardFacts) -> dict[str, object]:
    """The means in the form from which Hugging Face makes its tables."""
    assert facts.results is not None
    metrics = []
    for metric in facts.results.runs[0]:
        value = statistics.fmean(_mean_of_classes(run[metric]) for run in facts.results.runs)
        name = f"mean {METRIC_TITLES.get(metric, metric)}"
        metrics.append({"type": "mAP", "name": name, "value": round(value, 2)})
    return {
        "task": {"type": PIPELINE_TAG, "name": "3D object detection"},
        "dataset": {"type": "lidar", "name": facts.data},
        "metrics": metrics,
    }


def _what_it_is(facts: CardFacts) -> str:
    """A sentence or two."""
    kind = "A distilled student" if facts.distill else "A detector"
    x0, y0, z0, x1, y1, z1 = (f"{limit:g}" for limit in facts.range_m)
    return (
        f"{kind} ({facts.detector}) that finds {_listed(facts.class_names)} in point clouds. "
        f"It reads points with the columns {', '.join(facts.features)}, in metres, x forward, "
        f"y left, z up, in the range x {x0} to {x1}, y {y0} to {y1}, z {z0} to {z1}."
    )


def _how_to_load(facts: CardFacts) -> str:
    return f"""```python
from pcdet_distill.inference import load_detector  # pip install "pcdet_distill[hub]"

detector = load_detector("hf://USER/{facts.name}")  # or the path of this folder
found = detector("cloud.bin")  # a file, or an array (N, {len(facts.features)})
print(found.names, found.scores, found.boxes)
```

`config.yaml` is the whole configuration, `model.safetensors` the weights."""


def _accuracy(facts: CardFacts) -> str:
    """A table with a row for each metric, of the model and of its teacher."""
    if facts.results is None:
        return "It was not evaluated when this card was written."
    evaluated = next(iter(facts.results.runs[0].values()))  # a class may have had no objects
    rows = [["", *evaluated, "mean"]]
    rows += _rows_of("this model", facts.results)
    if facts.teacher_results is not None:
        rows += _rows_of("its teacher", facts.teacher_results)
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    notes = [f"In percent, {facts.results.words}"]
    if facts.results.frames:
        notes[0] += f", on {facts.results.frames} frames"
    count = len(facts.results.runs)
    if count > 1:
        notes.append(
            f"Mean and sample standard deviation of {count} trainings that differ in their seed"
        )
    elif facts.seed is not None:
        notes.append(f"One training, seed {facts.seed}: another seed gives other numbers")
    return "\n".join(lines) + "\n\n" + ". ".join(notes) + "."


def _rows_of(title: str, results: CardResults) -> list[list[str]]:
    """A row for each metric, and one for the further scores."""
    rows = []
    for metric, by_class in results.runs[0].items():
        row = [f"{title}, {METRIC_TITLES.get(metric, metric)}"]
        for name in by_class:
            row.append(_spread([run[metric][name] for run in results.runs]))
        row.append(_spread([_mean_of_classes(run[metric]) for run in results.runs]))
        rows.append(row)
    for score in results.scores[0] if results.scores else ():
        empty = [""] * len(next(iter(results.runs[0].values())))
        values = [run[score] for run in results.scores]
        rows.append([f"{title}, {score}", *empty, _spread(values)])
    return rows


def _spread(values: Sequence[float]) -> str:
    """``61.2``, or ``61.2 ± 0.8`` of several."""
    mean = f"{statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


def _mean_of_classes(by_class: Mapping[str, float]) -> float:
    return statistics.fmean(by_class.values())


def _cost(facts: CardFacts) -> str:
    text = f"{facts.parameters:,} parameters"
    if facts.gflops is not None:
        text += f", {facts.gflops:.2f} billion multiply-adds a frame"
    return f"{text}."


def _training(facts: CardFacts) -> str:
    """The data, the run, and for a student how it was distilled."""
    run = []
    if facts.epochs is not None:
        run.append(f"{facts.epochs} epochs")
    if facts.seed is not None:
        run.append(f"seed {facts.seed}")
    text = f"Data: {facts.data}."
    if run:
        text += f" Training: {', '.join(run)}."
    if facts.checkpoint:
        text += f" Made from `{facts.checkpoint}`."
    if facts.distill:
        text += f"\n\nTeacher: {facts.teacher or 'not named'}. How it taught this student:\n\n"
        block = yaml.safe_dump({"DISTILL": dict(facts.distill)}, sort_keys=False)
        text += f"```yaml\n{block}```"
    return text + f"\n\n[PointDistiller]({REPOSITORY_WORDS}) and other methods: {LIBRARY}'s docs."


def _licence(facts: CardFacts) -> str:
    if facts.license == APACHE:
        return "Weights and code: Apache License 2.0."
    return (
        f"Code: Apache License 2.0. Weights: {facts.license}; the terms of the data they were "
        "trained on may limit their use."
    )


def _listed(names: Sequence[str]) -> str:
    """``Car, Pedestrian and Cyclist``."""
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"
