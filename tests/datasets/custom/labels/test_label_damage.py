"""Label files with random damage: they are read, or refused by one sentence with the name."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_label_json import BOX, MANY_FRAMES, ONE_FRAME, sly_figure
from test_label_text import KITTI, TRACKLETS

from pcdet_distill.datasets.custom.labels import LabelFile, LabelOptions, read_labels
from pcdet_distill.errors import DataError

SLY = {"objects": [{"key": "o1", "classTitle": "Fork"}], "figures": [sly_figure("o1")]}
EPISODE = {**SLY, "frames": [{"index": 0, "figures": [sly_figure("o1")]}]}
del EPISODE["figures"]
CUBOID = {
    "type": "cuboid_3d",
    "attributes": {"track_id": 4},
    "label_id": 0,
    "position": BOX[:3],
    "rotation": [0.0, 0.0, 0.5],
    "scale": BOX[3:6],
}
DATUMARO = {
    "categories": {"label": {"labels": [{"name": "Person"}]}},
    "items": [{"id": "a", "annotations": [CUBOID]}],
}
SHAPES = [*ONE_FRAME.values(), *MANY_FRAMES.values(), SLY, EPISODE, DATUMARO]
WRONG = [None, "x", "", [], {}, -1, 3.5, True, [1, 2, 3], ["a"], {"a": 1}, [None], float("nan")]
TEXTS = {
    "labels.csv": f"frame,class,x,y,z,l,w,h,yaw,id\n7,Fork,{','.join(map(str, BOX))},3\n",
    "kitti.txt": KITTI,
    "openpcdet.txt": "1 2 3 4 5 6 0.1 Fork\n",
    "tracklet_labels.xml": TRACKLETS.format(h=1, w=1, l=1, tz=0),
}
BYTES = b'0123456789.,- \n\t;"<>/enaN\x00\xff'


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """The path of every part of a JSON value."""
    yield path
    parts = value.items() if isinstance(value, dict) else []
    if isinstance(value, list):
        parts = list(enumerate(value))
    for key, part in parts:
        yield from places(part, (*path, key))


def damage(content: object, draw: random.Random) -> object:
    """The content with one part removed, or replaced by something else."""
    content = copy.deepcopy(content)
    path = draw.choice(list(places(content)))
    if not path:
        return copy.deepcopy(draw.choice(WRONG))
    owner = content
    for key in path[:-1]:
        owner = owner[key]
    if draw.random() < 0.3:
        del owner[path[-1]]
    else:
        owner[path[-1]] = copy.deepcopy(draw.choice(WRONG))
    return content


def read_or_refuse(path: Path) -> bool:
    """Whether the file is read; a refusal is one line with the name of the file."""
    try:
        read_labels([LabelFile(path, "0001")], LabelOptions(calib="default"))
    except DataError as error:
        assert path.name in str(error)
        assert "\n" not in str(error)
        return False
    return True


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_json(tmp_path: Path, shape: int) -> None:
    draw = random.Random(shape)
    path = tmp_path / "0001.json"
    read = []
    for _ in range(60):
        path.write_text(json.dumps(damage(SHAPES[shape], draw)))
        read.append(read_or_refuse(path))
    assert not all(read)


@pytest.mark.parametrize("name", TEXTS)
def test_texts(tmp_path: Path, name: str) -> None:
    draw = random.Random(0)
    path = tmp_path / name
    read = []
    for _ in range(300):
        data = bytearray(TEXTS[name].encode())
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(data))
            if draw.random() < 0.5:
                data[place] = draw.choice(BYTES)
            else:
                del data[place : place + draw.randint(1, 6)]
        path.write_bytes(bytes(data))
        read.append(read_or_refuse(path))
    assert any(read)
    assert not all(read)
