"""Files that were made to do harm: each is refused in one sentence, soon, in little memory.

They are made here when they are needed and never stored. ``secret`` and ``ran`` lie beside the
corpus: nothing may read or change the first, and whoever writes the second has run a file's code.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

SECRET = "secret"
RAN = "ran"
MANY = 3 * 10**9
SECRET_CONTENT = b"a secret\n"


@dataclass(frozen=True)
class Hostile:
    """A hostile file.

    Attributes:
        target: who reads it, a name of ``targets.TARGETS``.
        file: which file of the corpus it replaces.
        write: puts it there.
    """

    target: str
    file: str
    write: Callable[[Path], object]


def _content(data: bytes | Callable[[], bytes]) -> Callable[[Path], object]:
    """Writes bytes that are made when they are needed."""

    def write(path: Path) -> None:
        path.write_bytes(data() if callable(data) else data)

    return write


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _sparse(path: Path) -> None:
    """10 GB that take no room on the disk."""
    with path.open("wb") as file:
        file.truncate(10 * 2**30)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(target: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return write


def _link_out(path: Path) -> None:
    """A link to a file outside, which has the content of a good one."""
    outside = _beside(path) / f"outside{path.suffix}"
    outside.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(outside)


def _beside(path: Path) -> Path:
    """The folder that holds the corpus."""
    return next(folder.parent for folder in path.parents if folder.name == "corpus")


# --- pickles --------------------------------------------------------------------------------------


class _Call:
    """A pickle that calls something when it is loaded."""

    def __init__(self, call: Callable[..., Any], *arguments: object) -> None:
        self.call = call
        self.arguments = arguments

    def __reduce__(self) -> tuple:
        return self.call, self.arguments


def _code() -> bytes:
    return pickle.dumps([_Call(os.system, f"touch ../{RAN}")])


def _evaluated() -> bytes:
    return pickle.dumps([_Call(eval, f"open('../{RAN}', 'w')")])


def _huge_array() -> bytes:
    return pickle.dumps([_Call(np.zeros(1).__reduce__()[0], np.ndarray, (MANY,), b"b")])


def _many_references() -> bytes:
    """A list of a million references to one list of a million references."""
    inner = [0] * 1_000_000
    return pickle.dumps([inner] * 1_000_000)


def _changed(change: Callable[[Any], object]) -> Callable[[Path], object]:
    """Changes the content of an info file."""

    def write(path: Path) -> None:
        content = pickle.loads(path.read_bytes())
        path.write_bytes(pickle.dumps(change(content) or content))

    return write


def _frame_named(name: Any) -> Callable[[Path], object]:
    def change(infos: list) -> None:
        for info in infos:
            info["point_cloud"]["lidar_idx"] = name

    return _changed(change)


def _object_at(path: str) -> Callable[[Path], object]:
    def change(objects: dict) -> None:
        for entry in (entry for entries in objects.values() for entry in entries):
            entry["path"] = path

    return _changed(change)


def _sweep_at(path: str) -> Callable[[Path], object]:
    def change(infos: list) -> None:
        for info in infos:
            info["lidar_path"] = path

    return _changed(change)


def _repeated_names(infos: list) -> None:
    names = ["Car"] * 100_000
    for info in infos:
        info["annos"]["name"] = names
    infos *= 20_000


# --- checkpoints ----------------------------------------------------------------------------------


def _saved(make: Callable[[], object], **options: Any) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        torch.save(make(), path, **options)

    return write


def _weights(make: Callable[[], torch.Tensor]) -> Callable[[Path], object]:
    return _saved(lambda: {"model_state": {"layer.weight": make()}})


def _nested(levels: int, width: int) -> list:
    nested: list = [0]
    for _ in range(levels):
        nested = [nested] * width
    return nested


def _archive(data: bytes, compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("a/data.pkl", data)
        archive.writestr("a/version", "3\n")
        for name, content in members.items():
            archive.writestr(f"a/data/{name.removeprefix('member')}", content)
    return stream.getvalue()


def _deflated_weights(path: Path) -> None:
    """100 MB of zeros in 100 kB."""
    stream = io.BytesIO()
    torch.save({"model_state": {"w": torch.zeros(25_000_000)}}, stream)
    with (
        zipfile.ZipFile(stream) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in source.infolist():
            bomb.writestr(member.filename, source.read(member))


def _deflated_array(path: Path) -> None:
    """An .npz of 512 MB in 512 kB."""
    header = io.BytesIO()
    shape = (32 * 2**20, 4)
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("points.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        for _ in range(128):
            member.write(bytes(4 * 2**20))


# --- texts ----------------------------------------------------------------------------------------


def _laughs() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 9):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines).encode()


def _xml_laughs() -> bytes:
    entities = ['<!ENTITY a0 "aaaaaaaaaa">']
    for level in range(1, 12):
        entities.append(f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">')
    return f"<?xml version='1.0'?><!DOCTYPE x [{''.join(entities)}]><x>&a11;</x>".encode()


def _appended(text: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        path.write_bytes(path.read_bytes() + text.encode())

    return write


def _npy_header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"
    header = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)


def _pcd(points: int, kind: str) -> bytes:
    return (
        f"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {points}\n"
        f"HEIGHT 1\nPOINTS {points}\nDATA {kind}\n"
    ).encode() + struct.pack("<II", 16, 2**32 - 1) * 4


def _ply(points: int) -> bytes:
    text = f"ply\nformat binary_little_endian 1.0\nelement vertex {points}\n"
    return f"{text}property float x\nproperty float y\nproperty float z\nend_header\n".encode()


def _arguments(*arguments: str) -> Callable[[Path], object]:
    return _content("\n".join(arguments).encode())


PTH = "checkpoints/ours.pth"
YAML = "cfgs/experiment.yaml"
VAL = "kitti/kitti_infos_val.pkl"
DATABASE = "kitti/kitti_dbinfos_train.pkl"
POINTS = "kitti/training/velodyne/000000.bin"
SPLIT = "kitti/ImageSets/val.txt"
CALIB = "kitti/training/calib/000000.txt"
LABEL = "kitti/training/label_2/000000.txt"
PLANE = "kitti/training/planes/000000.txt"
NUS = "nuscenes/v1.0-mini/nuscenes_infos_4sweeps_val.pkl"
TABLE = "nuscenes/v1.0-mini/v1.0-mini/sample_data.json"
SET = "lines/set0.txt"
COMMAND = "lines/command0.txt"
TRAIN = ("train", "--cfg_file", YAML, "--epochs", "1")

HOSTILE = {
    # Checkpoints.
    "weights deflated a thousandfold": Hostile("checkpoints", PTH, _deflated_weights),
    "a padded data.pkl": Hostile(
        "checkpoints", PTH, _content(lambda: _archive(pickle.dumps({}) + bytes(70 * 2**20)))
    ),
    "a checkpoint with code": Hostile("checkpoints", PTH, _content(lambda: _archive(_code()))),
    "an old checkpoint with code": Hostile("checkpoints", PTH, _content(_code)),
    "a checkpoint that allocates": Hostile(
        "checkpoints", PTH, _content(lambda: _archive(pickle.dumps(_Call(bytearray, MANY), 2)))
    ),
    "a checkpoint of lists in lists": Hostile(
        "checkpoints", PTH, _saved(lambda: {"model_state": {}, "x": _nested(10, 10)})
    ),
    "one number as a billion": Hostile(
        "checkpoints", PTH, _weights(lambda: torch.zeros(1).expand(10**9))
    ),
    "sparse weights": Hostile("checkpoints", PTH, _weights(lambda: torch.ones(3, 4).to_sparse())),
    "complex weights": Hostile(
        "checkpoints", PTH, _weights(lambda: torch.ones(3, 4, dtype=torch.complex64))
    ),
    "meta weights": Hostile("checkpoints", PTH, _weights(lambda: torch.ones(3, 4, device="meta"))),
    "weights that are NaN": Hostile(
        "checkpoints", PTH, _weights(lambda: torch.full((3, 4), np.nan))
    ),
    "a pipe for a checkpoint": Hostile("checkpoints", PTH, _pipe),
    "a folder for a checkpoint": Hostile("checkpoints", PTH, _folder),
    "/dev/zero for a checkpoint": Hostile("checkpoints", PTH, _link("/dev/zero")),
    "a safetensors header of 4 GB": Hostile(
        "safetensors", "checkpoints/plain.safetensors", _content(struct.pack("<Q", 2**32) + b"{}")
    ),
    # Yaml, --set and the command line.
    "aliases of aliases": Hostile("yaml", YAML, _content(_laughs)),
    "an alias within itself": Hostile("yaml", YAML, _content(b"a: &a [1, *a]")),
    "brackets in brackets": Hostile("yaml", YAML, _content(b"a: " + b"[" * 10**5)),
    "a number of 5000 digits": Hostile("yaml", YAML, _appended("\nX: " + "9" * 5000)),
    "a day that does not exist": Hostile("yaml", YAML, _appended("\nX: 2026-02-31")),
    "a yaml tag with code": Hostile(
        "yaml", YAML, _appended(f"\nX: !!python/object/apply:os.system ['touch ../{RAN}']")
    ),
    "a yaml of 3 MB": Hostile("yaml", YAML, _appended("\nX: " + "y" * 3_000_000)),
    "a yaml that is its own base": Hostile(
        "yaml", YAML, _content(b"_BASE_CONFIG_: experiment.yaml")
    ),
    "a pipe for a yaml": Hostile("yaml", YAML, _pipe),
    "--set of brackets": Hostile("--set", SET, _arguments("CLASS_NAMES", "[" * 10**5)),
    "--set of minus signs": Hostile("--set", SET, _arguments("CLASS_NAMES", "-" * 10**5 + "1")),
    "--set of a dict in a list": Hostile("--set", SET, _arguments("OPTIMIZATION.LR", "{[]: 1}")),
    "--set of a digit that is none": Hostile("--set", SET, _arguments("CLASS_NAMES.²", "Car")),
    "--set of a power": Hostile("--set", SET, _arguments("OPTIMIZATION.LR", "9**9**9**9")),
    "--extra_tag out of output/": Hostile(
        "command line", COMMAND, _arguments(*TRAIN, "--extra_tag", "../../../..")
    ),
    "--extra_tag from the root": Hostile(
        "command line", COMMAND, _arguments(*TRAIN, "--extra_tag", "/tmp/pcdet_distill_hostile")
    ),
    # Info files and databases.
    "infos with code": Hostile("KITTI infos", VAL, _content(_code)),
    "infos that are evaluated": Hostile("KITTI infos", VAL, _content(_evaluated)),
    "infos with an array of 3 GB": Hostile("KITTI infos", VAL, _content(_huge_array)),
    "infos with a table of 16 GB": Hostile(
        "KITTI infos", VAL, _content(b"]r" + struct.pack("<I", 2**30) + b".")
    ),
    "a million lists of a million": Hostile("KITTI infos", VAL, _content(_many_references)),
    "one list of names for all": Hostile("KITTI infos", VAL, _changed(_repeated_names)),
    "a frame with an absolute path": Hostile("KITTI infos", VAL, _frame_named(f"/tmp/{SECRET}")),
    "a frame above the folder": Hostile("KITTI infos", VAL, _frame_named(f"../../../../{SECRET}")),
    "a frame with NUL": Hostile("KITTI infos", VAL, _frame_named("000006\0")),
    "a frame of 5000 letters": Hostile("KITTI infos", VAL, _frame_named("a" * 5000)),
    "an object above the folder": Hostile("KITTI infos", DATABASE, _object_at(f"../../{SECRET}")),
    "an object with an absolute path": Hostile("KITTI infos", DATABASE, _object_at("/etc/passwd")),
    "a sweep above the folder": Hostile("nuScenes infos", NUS, _sweep_at(f"../../../{SECRET}")),
    "a pipe for infos": Hostile("KITTI infos", VAL, _pipe),
    "a pipe for points": Hostile("files of a KITTI frame", POINTS, _pipe),
    "points that are a link to outside": Hostile("files of a KITTI frame", POINTS, _link_out),
    "points that are /dev/zero": Hostile("files of a KITTI frame", POINTS, _link("/dev/zero")),
    "a split that is a pipe": Hostile("split files", SPLIT, _pipe),
    "a split that is /dev/zero": Hostile("split files", SPLIT, _link("/dev/zero")),
    "a split that lists a frame twice": Hostile(
        "split files", SPLIT, _content(b"000006\n000007\n000006\n")
    ),
    "a split of 10 GB": Hostile("split files", SPLIT, _sparse),
    "a pipe for a calibration": Hostile("files of a KITTI frame", CALIB, _pipe),
    "a calibration of 10 GB": Hostile("files of a KITTI frame", CALIB, _sparse),
    "a calibration with a matrix twice": Hostile(
        "files of a KITTI frame", CALIB, _appended("\nP2: 7 0 6 0 0 7 1 0 0 0 1 0\n")
    ),
    "a pipe for the labels of a frame": Hostile("files of a KITTI frame", LABEL, _pipe),
    "labels of 10 GB": Hostile("files of a KITTI frame", LABEL, _sparse),
    "a label with digits of another script": Hostile(
        "files of a KITTI frame", LABEL, _appended("\nCar 0 0 0 1 2 3 4 1 1 4 1 2 ٣٠ 0\n")
    ),
    "a label with 1_5 for a number": Hostile(
        "files of a KITTI frame", LABEL, _appended("\nCar 0 0 0 1 2 3 4 1_5 1 4 1 2 30 0\n")
    ),
    "a pipe for a plane": Hostile("files of a KITTI frame", PLANE, _pipe),
    "a plane of 10 GB": Hostile("files of a KITTI frame", PLANE, _sparse),
    "a plane without a normal": Hostile(
        "files of a KITTI frame", PLANE, _content(b"#\n#\n#\n0 0 0 1\n")
    ),
    "a split with a frame above": Hostile("split files", SPLIT, _content(b"../../../secret\n")),
    "a table of brackets": Hostile("nuScenes tables", TABLE, _content(b"[" * 10**5)),
    "a table with a number of 5000 digits": Hostile(
        "nuScenes tables", TABLE, _content(b"[" + b"9" * 5000 + b"]")
    ),
    # Point clouds and labels.
    "an .npz of 512 MB": Hostile("point clouds", "clouds/plain.npz", _deflated_array),
    "an .npy of 3 TB": Hostile(
        "point clouds", "clouds/plain.npy", _content(_npy_header("(256000000000, 3)"))
    ),
    "an .npy with objects": Hostile(
        "point clouds", "clouds/plain.npy", _content(_npy_header("(4, 4)", "'|O'") + _code())
    ),
    "a .pcd of a trillion points": Hostile(
        "point clouds", "clouds/binary.pcd", _content(_pcd(10**12, "binary"))
    ),
    "a .pcd that unpacks to 4 GB": Hostile(
        "point clouds",
        "clouds/binary_compressed.pcd",
        _content(_pcd(350_000_000, "binary_compressed")),
    ),
    "a .ply of a trillion points": Hostile(
        "point clouds", "clouds/ascii.ply", _content(_ply(10**12))
    ),
    "a pipe for a cloud": Hostile("point clouds", "clouds/plain.bin", _pipe),
    "entities of entities": Hostile("labels", "labels/tracklet_labels.xml", _content(_xml_laughs)),
    "an entity that is a file": Hostile(
        "labels",
        "labels/tracklet_labels.xml",
        _content(b"<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><x>&a;</x>"),
    ),
    "labels of brackets": Hostile("labels", "labels/shape0.json", _content(b"[" * 10**5)),
    "a label of 5000 digits": Hostile(
        "labels", "labels/shape0.json", _content(b"[" + b"9" * 5000 + b"]")
    ),
    "a pipe for labels": Hostile("labels", "labels/shape0.json", _pipe),
}
