"""gt_sampling: its database, its classes and its filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from ....datasets.augmentor.object_database import (
    ObjectInfo,
    ObjectSource,
    class_counts,
    filter_objects,
    open_database,
)
from ....errors import UserError
from ....types import ConfigDict
from ..case import Case
from ..finding import Finding, Severity, numbers, percent
from .classes import nearest_label

CHECK = "sampling"
NAME = "gt_sampling"
LEFT = 0.2  # of the objects of a class, after the filters
LEAST_LEFT = 10
TRIED_OBJECTS = 60
MIXED = 20.0  # factor between the intensities of the database and of the frames
INTENSITY = 3


def check_sampling(case: Case) -> Iterator[Finding]:
    """Whether gt_sampling finds objects of the trained classes."""
    for path, entry in case.augmentations():
        if entry.get("NAME") != NAME:
            continue
        yield from _groups(case, path, entry)
        yield from _database(case, path, entry)


def _groups(case: Case, path: str, entry: ConfigDict) -> Iterator[Finding]:
    if not case.names_classes:
        return
    groups = class_counts(entry.get("SAMPLE_GROUPS") or (), f"{path}.SAMPLE_GROUPS")
    for name in groups:
        if name in case.class_names:
            continue
        free = Counter(other for other in case.class_names if other not in groups)
        meant = nearest_label(name, free, [])
        new = [f"{meant if other == name else other}:{n}" for other, n in groups.items()]
        yield Finding(
            CHECK,
            Severity.WARNING if meant or not free else Severity.NOTE,
            f"{path}.SAMPLE_GROUPS",
            f"'{name}' is not in CLASS_NAMES {case.class_names}, so none of it is pasted",
            fix="name the trained classes",
            changes={f"{path}.SAMPLE_GROUPS": new} if meant else {},
        )


def _database(case: Case, path: str, entry: ConfigDict) -> Iterator[Finding]:
    if not case.splits:
        return
    dataset = next(iter(case.splits.values())).dataset
    num_features = len(case.spec.point_feature_encoder.src_feature_list)
    try:
        database = open_database(
            dataset.root_path,
            {"DB_INFO_PATH": [], "NUM_POINT_FEATURES": num_features, **entry},
            case.class_names,
            dataset.how_to_make_files,
        )
        objects = database.objects
        left = filter_objects(objects, entry.get("PREPARE") or {})
    except UserError as error:
        yield Finding(
            CHECK,
            Severity.ERROR,
            f"{path}.DB_INFO_PATH",
            str(error),
            fix="make the database, or disable gt_sampling: DISABLE_AUG_LIST: [gt_sampling]",
        )
        return
    groups = class_counts(entry.get("SAMPLE_GROUPS") or (), f"{path}.SAMPLE_GROUPS")
    for name in groups:
        if name in case.class_names:
            is_labelled = case.names_in("train")[name] > 0
            if objects[name] or is_labelled:  # else the check of classes has said it
                yield from _filtered(path, entry, name, len(objects[name]), len(left[name]))
    for name, infos in left.items():
        if infos:
            yield from _boxes(path, name, np.array([i["box3d_lidar"][:7] for i in infos]), case)
    pasted: list[ObjectInfo] = []
    for infos in left.values():
        pasted += infos
    yield from _scale(case, path, database.points, pasted)


def _filtered(
    path: str, entry: ConfigDict, name: str, before: int, after: int
) -> Iterator[Finding]:
    if before == 0:
        yield Finding(
            CHECK,
            Severity.WARNING,
            f"{path}.SAMPLE_GROUPS",
            f"the database {entry.get('DB_INFO_PATH')} holds no '{name}', so none is pasted",
            fix="make the database again from this data set, with this class",
        )
        return
    if after > 0 and after >= LEFT * before:
        return
    filters = entry.get("PREPARE") or {}
    steps = ", ".join(f"{key}: {value}" for key, value in filters.items())
    hint = ""
    if filters.get("filter_by_difficulty"):
        hint = "; objects without image boxes have the difficulty -1"
    yield Finding(
        CHECK,
        Severity.ERROR if after == 0 else Severity.WARNING,
        f"{path}.PREPARE",
        f"the filters leave {after} of {before} '{name}' ({steps}){hint}",
        fix="lower filter_by_min_points, or remove filter_by_difficulty",
        changes={f"{path}.PREPARE.filter_by_difficulty": []}
        if after == 0 and filters.get("filter_by_difficulty")
        else {},
    )


def _boxes(path: str, name: str, boxes: np.ndarray, case: Case) -> Iterator[Finding]:
    """The database against the frames: it may be of other labels."""
    own = np.array([o.box[3:6] for _, o in case.objects() if o.name == name])
    if len(own) < LEAST_LEFT or len(boxes) < LEAST_LEFT:
        return
    frames, pasted = np.median(own, axis=0), np.median(boxes[:, 3:6], axis=0)
    if (np.abs(np.log(pasted / frames)) < np.log(1.5)).all():
        return
    yield Finding(
        CHECK,
        Severity.WARNING,
        f"{path}.DB_INFO_PATH, class {name}",
        f"the median size is {numbers(pasted)} in the database and {numbers(frames)} in the "
        "frames: it seems to be made of other labels",
        fix="make the database again from this data set",
    )


def _scale(
    case: Case, path: str, source: ObjectSource, objects: list[ObjectInfo]
) -> Iterator[Finding]:
    """The intensities of pasted points against those of the frames."""
    features = list(case.spec.point_feature_encoder.src_feature_list)
    if len(features) <= INTENSITY or features[INTENSITY] != "intensity" or not objects:
        return
    places = np.linspace(0, len(objects) - 1, min(len(objects), TRIED_OBJECTS)).astype(int)
    missing = []
    tops = []
    for place in places:
        try:
            points = source.of(objects[place])
        except UserError:
            missing.append(objects[place]["path"])
            continue
        if len(points):
            tops.append(float(np.percentile(points[:, INTENSITY], 99)))
    if missing:
        yield Finding(
            CHECK,
            Severity.ERROR,
            f"{path}.DB_INFO_PATH",
            f"{percent(len(missing) / len(places))} of the objects tried have no readable point "
            f"file, such as {missing[0]}",
            fix="make the database again from this data set",
        )
    own = [frame.columns[3, INTENSITY] for frame in case.frames("train") if frame.num_points]
    if not tops or not own or min(max(tops), max(own)) <= 0:
        return
    factor = max(tops) / max(own)
    if max(factor, 1 / factor) < MIXED:
        return
    yield Finding(
        CHECK,
        Severity.ERROR,
        f"{path}.DB_INFO_PATH",
        f"intensities reach {max(tops):.3g} in the database and {max(own):.3g} in the frames",
        fix="make the database again from this data set",
    )
