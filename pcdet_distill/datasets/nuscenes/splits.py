"""Which scenes are for training, validation and testing.

The official splits are lists of scene names, which the tables do not hold. A data set of one's own
in nuScenes' format has its lists in ``splits.json`` beside the tables, as nuscenes-devkit reads it.
"""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import DataError

# Numbers of the official scenes, "scene-0001" to "scene-1110".
TRAIN = """
    1-2 4-11 19-34 41-76 120-135 138-139 149-152 154-155 157-168 170-185 187-188 190-196 199-200
    202-204 206-214 218-220 222 224-264 283-306 315-318 321 323-324 328 347-386 388-403 405-408
    410-459 461-465 467-469 471-472 474-480 499-502 504-515 517-518 525-539 541-546 566 568
    570-578 580 582-600 639-679 681 683-689 695-698 700-701 703-719 726-728 730-731 733-741 744
    746-747 749-752 757-765 767-769 786-787 789-792 803-806 808-813 815-817 819-822 847-856 858
    860-866 868-873 875-878 880 882-903 945 947 949 952-953 955-961 975-984 988-992 994-1025
    1044-1058 1074-1102 1104-1110
    """
VAL = """
    3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630
    632-638 770-771 775 777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972
    1059-1073
    """
TEST = """
    77-91 111-119 140 142-148 265-266 279-282 307-314 333-343 481-498 547-551 601-604 606-624
    827-831 833-842 844-846 932-933 935-943 1026-1043
    """
MINI_TRAIN = "61 553 655 757 796 1077 1094 1100"
MINI_VAL = "103 916"
# What each official version is divided into; an info file is written for each part.
OFFICIAL = {
    "v1.0-trainval": {"train": TRAIN, "val": VAL},
    "v1.0-mini": {"train": MINI_TRAIN, "val": MINI_VAL},
    "v1.0-test": {"test": TEST},
}
OWN_SPLITS = "splits.json"
OWN_NAMES = ("train", "val", "test")
Splits = dict[str, frozenset[str]]


def scenes_of_splits(tables: Path, version: str) -> Splits:
    """The names of the scenes of each split, by ``train`` and ``val``, or ``test``.

    Args:
        tables: the folder of the tables.
        version: its name.
    """
    own = tables / OWN_SPLITS
    if own.is_file():
        return _own_splits(own)
    if version not in OFFICIAL:
        raise DataError(
            f"{own}: {version} is none of nuScenes' own versions ({', '.join(OFFICIAL)}), so this "
            'file has to say which scenes are for what: {"train": ["scene-0001", ...], "val": ...}'
        )
    return {split: scene_names(numbers) for split, numbers in OFFICIAL[version].items()}


def scene_names(numbers: str) -> frozenset[str]:
    """The names of scenes given as ``"1-2 4"``."""
    names: list[str] = []
    for part in numbers.split():
        first, _, last = part.partition("-")
        names += [f"scene-{number:04d}" for number in range(int(first), int(last or first) + 1)]
    return frozenset(names)


def _own_splits(file: Path) -> Splits:
    try:
        splits = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read as json ({error})") from None
    if not isinstance(splits, dict) or not all(_is_names(names) for names in splits.values()):
        raise DataError(
            f'{file}: expected lists of scene names, {{"train": ["scene-0001", ...], "val": ...}}'
        )
    own = {name: frozenset(splits[name]) for name in OWN_NAMES if name in splits}
    if not own:
        raise DataError(
            f"{file}: expected one of {', '.join(OWN_NAMES)}, found {', '.join(splits) or 'none'}"
        )
    _check_disjoint(own, file)
    return own


def _is_names(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _check_disjoint(splits: Splits, file: Path) -> None:
    """Refuse a scene in two splits: a model would be evaluated on what it was trained on."""
    owner: dict[str, str] = {}
    for split, names in splits.items():
        for name in sorted(names):
            if name in owner:
                raise DataError(
                    f"{file}: {name} is in {owner[name]} and in {split}; expected it in one of them"
                )
            owner[name] = split
