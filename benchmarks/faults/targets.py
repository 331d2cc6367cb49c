"""Every reader of the package as a target of ``fuzz``: the good files, and how one is read.

``read`` gets the folder of a corpus and the damaged file in it. It goes as far as a user would: an
info file that is accepted must also give its frames, and a checkpoint must also be resumed from.
"""

from __future__ import annotations

import io
import json
import logging
import pickle
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from pcdet_distill import cli
from pcdet_distill.checkpoint import load_checkpoint
from pcdet_distill.config import Argo2Options, load_config
from pcdet_distill.datasets import build_dataset
from pcdet_distill.datasets.argoverse2.infos import create_argoverse2_infos
from pcdet_distill.datasets.custom.folder import CustomFolder
from pcdet_distill.datasets.custom.labels import LabelFile, LabelOptions, read_labels
from pcdet_distill.datasets.info_structures import check_detections
from pcdet_distill.datasets.kitti.folder import KittiFolder
from pcdet_distill.datasets.nuscenes.create import create_nuscenes_infos
from pcdet_distill.datasets.nuscenes.folder import NuScenesFolder
from pcdet_distill.datasets.predicted import PredictionStore
from pcdet_distill.datasets.readers import read_bag, read_cloud_file
from pcdet_distill.datasets.safe_pickle import load_plain_pickle
from pcdet_distill.engine.checkpoints import read_with_optimizer, restore_checkpoint
from pcdet_distill.engine.distributed import World
from pcdet_distill.errors import UserError
from pcdet_distill.models import build_network, load_data_to_device
from pcdet_distill.models.trainable import WrappedModule

from .corpus import CLASSES, EXPERIMENT, kitti_config, toy_training
from .mutations import Random, damaged_bytes, damaged_structure

ACCEPTED = "accepted"
REFUSED = "refused"

QUIET = logging.getLogger("fuzz")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False


@dataclass(frozen=True)
class Codec:
    """How the values of a structured file are taken out and put back."""

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes:
        files: patterns of its good files in the corpus.
        read: reads one, as far as a user would.
        codec: for damage to the values in it; None for bytes alone.
        share: how often it is drawn against others; slow ones less.
        good: what comes of the files before any damage.
    """

    files: Sequence[str]
    read: Callable[[Path, Path], object]
    codec: Codec | None = None
    share: float = 1.0
    good: Sequence[str] = (ACCEPTED,)

    def damage(self, content: bytes, random: Random) -> bytes:
        """The content of a good file with some damage."""
        if self.codec is None or random.random() < 0.35:
            return damaged_bytes(content, random)
        try:
            return self.codec.encode(damaged_structure(self.codec.decode(content), random))
        except Exception:  # noqa: BLE001 (not every value can stand in every format)
            return damaged_bytes(content, random)


def _torch_bytes(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def _npz_values(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content)) as arrays:
        return dict(arrays)


def _npz_bytes(values: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **{str(name): np.asarray(value) for name, value in values.items()})
    return stream.getvalue()


def _feather_values(content: bytes) -> dict[str, list]:
    from pyarrow import feather

    return feather.read_table(io.BytesIO(content)).to_pydict()


def _feather_bytes(values: dict[str, Any]) -> bytes:
    import pyarrow
    from pyarrow import feather

    stream = io.BytesIO()
    feather.write_feather(pyarrow.table(values), stream)
    return stream.getvalue()


PICKLE = Codec(pickle.loads, pickle.dumps)
JSON = Codec(json.loads, lambda value: json.dumps(value, default=str).encode())
YAML = Codec(yaml.safe_load, lambda value: yaml.dump(value, sort_keys=False).encode())
TORCH = Codec(lambda data: torch.load(io.BytesIO(data), weights_only=True), _torch_bytes)
NPZ = Codec(_npz_values, _npz_bytes)
FEATHER = Codec(_feather_values, _feather_bytes)


# --- clouds and labels ----------------------------------------------------------------------------


def read_cloud(root: Path, file: Path) -> None:
    """Any format, with and without told columns."""
    read_cloud_file(file)


def read_recording(root: Path, file: Path) -> None:
    """All clouds of a recording."""
    for _ in read_bag(file):
        pass


def read_label_file(root: Path, file: Path) -> None:
    """The format is recognised."""
    read_labels([LabelFile(file, file.stem)], LabelOptions(calib="default"))


def read_kitti_frame(root: Path, file: Path) -> None:
    """All files of a KITTI frame."""
    folder = KittiFolder(root / "kitti", "train")
    for read in (folder.labels, folder.calibration, folder.points, folder.image_shape):
        read(file.stem)
    folder.road_plane(file.stem)


def read_custom_frame(root: Path, file: Path) -> None:
    """Points and labels of a frame of own data."""
    folder = CustomFolder(root / "custom")
    folder.points(file.stem, 4)
    folder.labels(file.stem)


def read_splits(root: Path, file: Path) -> None:
    """The frames of a split file, and the files that they name."""
    if "custom" in file.parts:
        custom = CustomFolder(root / "custom")
        for frame in custom.frame_ids(file.stem):
            custom.points(frame)
        return
    kitti = KittiFolder(root / "kitti", file.stem)
    for frame in kitti.frame_ids():
        kitti.points(frame)


# --- data sets ------------------------------------------------------------------------------------


def _read_items(config: Any, classes: Sequence[str], file: Path) -> None:
    training = "train" in file.name or "dbinfos" in file.name
    dataset = build_dataset(config, classes, training=training, logger=QUIET)
    items = [dataset[number] for number in range(min(3, len(dataset)))]
    dataset.collate_batch(items)
    if not training:
        dataset.lidar_labels()


def read_kitti(root: Path, file: Path) -> None:
    """Infos or database of KITTI."""
    _read_items(_config({**kitti_config(), "DATA_PATH": str(root / "kitti")}), CLASSES, file)


def read_custom(root: Path, file: Path) -> None:
    """Infos or database of own data."""
    from test_custom_dataset import DATA_CONFIG

    config = _config({**DATA_CONFIG, "DATA_PATH": str(root / "custom")})
    _read_items(config, ["Forklift", "Person"], file)


def read_nuscenes(root: Path, file: Path) -> None:
    """Infos or database of nuScenes."""
    from tiny_nuscenes import DATA_CONFIG

    config = _config({**DATA_CONFIG, "DATA_PATH": str(root / "nuscenes")})
    _read_items(config, ["car", "truck", "pedestrian"], file)


def read_argoverse2(root: Path, file: Path) -> None:
    """Infos of Argoverse 2."""
    config = load_config("cfgs/dataset_configs/argoverse2_dataset.yaml")
    config.DATA_PATH = str(root / "argoverse2" / "sensor")
    if not (Path(config.DATA_PATH) / file.name).is_file():
        config.DATA_PATH = str(file.parent)
    config.POINT_CLOUD_RANGE = [-51.2, -51.2, -5, 51.2, 51.2, 5]
    config.MAX_SWEEPS = 2
    config.POINT_FEATURE_ENCODING.src_feature_list.append("timestamp")
    _read_items(config, ["Bus", "Pedestrian"], file)


def read_nuscenes_tables(root: Path, file: Path) -> None:
    """The official tables, to infos."""
    folder = NuScenesFolder(root / "nuscenes", "v1.0-mini")
    create_nuscenes_infos(folder, 4, show_progress=False)


def read_argoverse2_tables(root: Path, file: Path) -> None:
    """The tables of logs, to infos."""
    features = ["x", "y", "z", "intensity"]
    options = Argo2Options(max_sweeps=2)
    create_argoverse2_infos(root / "argoverse2", options, features, show_progress=False)


def read_predicted(root: Path, file: Path) -> None:
    """A teacher's stored predictions."""
    store = PredictionStore([file])
    store.of_frame("000000")
    label = store.label_of(np.ones(7))
    if label is not None:
        store.of_objects([label], np.zeros(1))


def read_results(root: Path, file: Path) -> None:
    """result.pkl, evaluated again."""
    config = _config({**kitti_config(), "DATA_PATH": str(root / "kitti")})
    dataset = build_dataset(config, CLASSES, training=False, logger=QUIET)
    detections = load_plain_pickle(file, "evaluate again")
    check_detections(detections, file)
    dataset.evaluate(detections)


def _config(block: dict[str, Any]) -> Any:
    from easydict import EasyDict

    return EasyDict(json.loads(json.dumps(block)))


# --- checkpoints, yaml, the command line ----------------------------------------------------------


def read_checkpoint(root: Path, file: Path) -> None:
    """A checkpoint, resumed from where it holds a training."""
    content = load_checkpoint(file)
    model, optimizer = toy_training()
    wrapped = WrappedModule(model)
    if "epoch" not in content:
        wrapped.load_checkpoint_state(content, str(file))
        return
    restore_checkpoint(
        read_with_optimizer(file),
        model=wrapped,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(enabled=False),
        world=World(),
        logger=QUIET,
    )
    optimizer.step()


def read_experiment(root: Path, file: Path) -> None:
    """A yaml, to the first training step."""
    config = load_config(file)
    dataset = build_dataset(config.DATA_CONFIG, config.CLASS_NAMES, training=True, logger=QUIET)
    model = build_network(config.MODEL, len(config.CLASS_NAMES), dataset)
    batch = dataset.collate_batch([dataset[0], dataset[1]])
    load_data_to_device(batch, torch.device("cpu"))
    loss = model.train()(batch)[0]["loss"]
    loss.backward()


def read_settings(root: Path, file: Path) -> None:
    """``--set`` strings."""
    settings = _arguments(file)
    load_config(EXPERIMENT, settings)


def run_command(root: Path, file: Path) -> None:
    """The whole command line. argparse says what is wrong with a flag, and exits with 2 too."""
    arguments = _arguments(file)
    errors = io.StringIO()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(errors):
            cli.main(arguments)
    except SystemExit as stop:
        if stop.code in (0, None):
            return
        _, _, sentence = errors.getvalue().rpartition("error: ")
        if stop.code == 2 and sentence:
            raise UserError(" ".join(sentence.split())) from None
        raise


def _arguments(file: Path) -> list[str]:
    """One argument a line. A shell cannot pass on a NUL."""
    return file.read_text(errors="replace").replace("\0", "").split("\n")


LINES = Codec(
    lambda content: content.decode().split("\n"),
    lambda values: "\n".join(map(str, values)).encode(errors="surrogateescape"),
)
# The words of each line. A value that is a list becomes words of its own.
WORDS = Codec(
    lambda content: [line.split(" ") for line in content.decode().split("\n")],
    lambda lines: "\n".join(" ".join(map(str, words)) for words in lines).encode(errors="replace"),
)
TARGETS = {
    "point clouds": Target(["clouds/*"], read_cloud, share=3),
    "arrays of points": Target(["clouds/*.npz"], read_cloud, NPZ),
    "recordings": Target(["bags/drive.*"], read_recording),
    "labels": Target(["labels/*"], read_label_file, share=2),
    "labels in JSON": Target(["labels/*.json"], read_label_file, JSON, share=2),
    "files of a KITTI frame": Target(["kitti/training/*/000000.*"], read_kitti_frame, share=2),
    "lines of a KITTI frame": Target(
        [f"kitti/training/{folder}/000000.txt" for folder in ("calib", "label_2", "planes")],
        read_kitti_frame,
        WORDS,
        share=2,
    ),
    "files of own data": Target(
        ["custom/points/0000.npy", "custom/labels/0000.txt"], read_custom_frame
    ),
    "lines of labels": Target(["labels/*.txt"], read_label_file, WORDS),
    "split files": Target(["*/ImageSets/*.txt"], read_splits),
    "lines of split files": Target(["*/ImageSets/*.txt"], read_splits, WORDS, share=0.5),
    "KITTI infos": Target(["kitti/*infos*.pkl"], read_kitti, PICKLE, share=3),
    "packed objects": Target(["kitti/*.points"], read_kitti, share=0.5),
    "infos of own data": Target(["custom/*infos*.pkl"], read_custom, PICKLE, share=2),
    "nuScenes infos": Target(["nuscenes/**/*infos*.pkl"], read_nuscenes, PICKLE, share=2),
    "Argoverse 2 infos": Target(["argoverse2/**/*infos_*.pkl"], read_argoverse2, PICKLE, share=2),
    "nuScenes tables": Target(
        ["nuscenes/v1.0-mini/v1.0-mini/*.json"], read_nuscenes_tables, JSON, share=2
    ),
    "Argoverse 2 tables": Target(
        ["argoverse2/sensor/train/log-a/*.feather"], read_argoverse2_tables, FEATHER
    ),
    "feather clouds": Target(["clouds/*.feather"], read_cloud, FEATHER, share=0.5),
    "stored predictions": Target(["predicted/part.npz"], read_predicted, NPZ),
    "result.pkl": Target(["kitti/results/result.pkl"], read_results, PICKLE),
    "checkpoints": Target(["checkpoints/*.pth"], read_checkpoint, TORCH, share=3),
    "safetensors": Target(["checkpoints/*.safetensors"], read_checkpoint, share=0.5),
    "yaml": Target([EXPERIMENT], read_experiment, YAML, share=2),
    "--set": Target(["lines/set*.txt"], read_settings, LINES, share=2),
    "command line": Target(
        ["lines/command*.txt"], run_command, LINES, share=1, good=(ACCEPTED, REFUSED)
    ),
}
