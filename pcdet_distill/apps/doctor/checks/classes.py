"""CLASS_NAMES against the names in the labels: absent, misspelt, untrained, rare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ....config.names import most_similar
from ....texts import listed
from ..case import Case
from ..finding import Finding, Severity

CHECK = "classes"
SIMILAR = 0.75
ENOUGH_OBJECTS = 30  # of other classes: then a class that is absent is not so by chance
NOT_OBJECTS = ("DontCare", "ignore", "other")


def check_classes(case: Case) -> Iterator[Finding]:
    """Whether every trained class is in the labels, under its name."""
    everywhere = case.names_in()
    yield from _spellings(case, everywhere)
    if not case.names_classes:
        yield Finding(CHECK, Severity.NOTE, "labels", f"classes: {_counts(everywhere)}")
        return
    yield from _doubled(case)
    for split in case.splits:
        names = case.names_in(split)
        if not names:
            continue
        for name in dict.fromkeys(case.class_names):
            if names[name] == 0:
                yield _absent(case, name, split, names)
    yield from _untrained(case, everywhere)


def _counts(names: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in names.most_common())


def _doubled(case: Case) -> Iterator[Finding]:
    counts = Counter(case.class_names)
    for name in counts:
        if counts[name] > 1:
            unique = list(dict.fromkeys(case.class_names))
            yield Finding(
                CHECK,
                Severity.ERROR,
                "CLASS_NAMES",
                f"'{name}' stands {counts[name]} times in the list",
                fix="name each class once",
                changes={"CLASS_NAMES": unique},
            )


def nearest_label(name: str, names: Counter[str], trained: list[str]) -> str | None:
    """A name of the labels that ``name`` may mean, and that is not trained itself."""
    others = [other for other in names if other not in trained]
    for other in others:
        if plain(other) == plain(name):
            return other
    return most_similar(name, others, SIMILAR)


def plain(name: str) -> str:
    """A name without case, spaces and the separators that spellings differ in."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _absent(case: Case, name: str, split: str, names: Counter[str]) -> Finding:
    meant = nearest_label(name, names, case.class_names)
    total = sum(names.values())
    where = f"CLASS_NAMES '{name}', split {split}"
    what = f"no '{name}' is labelled in {case.looked_at(split)}, which hold {_counts(names)}"
    none_trained = not any(names[other] for other in case.class_names)
    if meant is not None:
        new = [meant if other == name else other for other in case.class_names]
        return Finding(
            CHECK,
            Severity.ERROR,
            where,
            f"{what}; did you mean '{meant}'? Names must be equal to the letter",
            fix=f"write '{meant}' in CLASS_NAMES and wherever the yaml names the class",
            changes={"CLASS_NAMES": new, **renamed(case, name, meant)},
        )
    if none_trained or (total >= ENOUGH_OBJECTS and split == "train"):
        severity = Severity.ERROR
    elif total >= ENOUGH_OBJECTS:
        severity = Severity.WARNING
    else:
        severity = Severity.NOTE
    consequence = "it cannot be learnt" if split == "train" else "its AP will be 0 or undefined"
    return Finding(
        CHECK,
        severity,
        where,
        f"{what}; {consequence}",
        fix="remove the class, or add frames that hold it",
    )


def renamed(case: Case, old: str, new: str) -> dict[str, object]:
    """The places in the heads and in gt_sampling that name a class, with the new name."""
    changes: dict[str, object] = {}
    head = case.head
    for number, entry in enumerate(head.get("ANCHOR_GENERATOR_CONFIG") or ()):
        if entry.get("class_name") == old:
            path = f"MODEL.DENSE_HEAD.ANCHOR_GENERATOR_CONFIG.{number}.class_name"
            changes[path] = new
    for number, entry in enumerate(head.get("RPN_HEAD_CFGS") or ()):
        if old in (entry.get("HEAD_CLS_NAME") or ()):
            names = [new if name == old else name for name in entry["HEAD_CLS_NAME"]]
            changes[f"MODEL.DENSE_HEAD.RPN_HEAD_CFGS.{number}.HEAD_CLS_NAME"] = names
    for number, group in enumerate(head.get("CLASS_NAMES_EACH_HEAD") or ()):
        if old in group:
            names = [new if name == old else name for name in group]
            changes[f"MODEL.DENSE_HEAD.CLASS_NAMES_EACH_HEAD.{number}"] = names
    for path, entry in case.augmentations():
        if entry.get("NAME") == "gt_sampling":
            changes.update(_renamed_in_sampling(path, dict(entry), old, new))
    return changes


def _renamed_in_sampling(path: str, entry: dict, old: str, new: str) -> dict[str, object]:
    changes: dict[str, object] = {}
    groups = list(entry.get("SAMPLE_GROUPS") or ())
    least = list((entry.get("PREPARE") or {}).get("filter_by_min_points") or ())
    for key, texts in (("SAMPLE_GROUPS", groups), ("PREPARE.filter_by_min_points", least)):
        replaced = [
            f"{new}:{text.partition(':')[2]}" if text.partition(":")[0] == old else text
            for text in map(str, texts)
        ]
        if replaced != texts:
            changes[f"{path}.{key}"] = replaced
    return changes


def _spellings(case: Case, names: Counter[str]) -> Iterator[Finding]:
    """Names that differ in case, spaces or separators alone."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(plain(name), []).append(name)
    for spellings in groups.values():
        if len(spellings) > 1:
            written = ", ".join(f"'{name}' {names[name]}" for name in spellings)
            yield Finding(
                CHECK,
                Severity.WARNING,
                "labels",
                f"one class seems to be spelt in {len(spellings)} ways: {written}; only equal "
                "names are one class",
                fix="use one spelling in the labels",
            )
    for name in names:
        if name != name.strip() or not name.strip():
            yield Finding(
                CHECK,
                Severity.WARNING,
                "labels",
                f"the class name {name!r} is empty, or begins or ends with a space",
                fix="mend the name in the labels",
            )


def _untrained(case: Case, names: Counter[str]) -> Iterator[Finding]:
    trained = set(case.class_names)
    others = Counter({n: c for n, c in names.items() if n not in trained and n not in NOT_OBJECTS})
    if not others:
        return
    yield Finding(
        CHECK,
        Severity.NOTE,
        "CLASS_NAMES",
        f"labelled but not trained: {listed([_counts(others)])}; detections on them count as "
        "false unless the evaluation knows better",
    )
