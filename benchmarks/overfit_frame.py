"""Claim: a detector that trains on one real frame alone finds every object of it: AP 100.

    python benchmarks/overfit_frame.py --kitti DIR --frame 000008 \\
        --cfg_file cfgs/kitti_models/second.yaml

It makes a folder in which the frame stands 20 times under other names, for training and validation:
KITTI's AP over 40 recall positions needs more than 40 objects to reach 100. tools/train.py trains
on it without augmentation, one frame a step, and evaluates. Prints the AP of Car. The folder holds
links to KITTI's files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from pcdet_distill.datasets.kitti.kitti_infos import create_kitti_infos

ROOT = Path(__file__).resolve().parents[1]
COPIES = 20
FILES = {"velodyne": "bin", "calib": "txt", "label_2": "txt", "image_2": "png"}
AUGMENTATIONS = "gt_sampling,random_world_flip,random_world_rotation,random_world_scaling"


def copy_frame(kitti: Path, frame: str, folder: Path) -> None:
    """A KITTI folder of one frame, COPIES times."""
    names = [f"{number:06d}" for number in range(COPIES)]
    for kind, extension in FILES.items():
        (folder / "training" / kind).mkdir(parents=True)
        for name in names:
            target = kitti.resolve() / "training" / kind / f"{frame}.{extension}"
            (folder / "training" / kind / f"{name}.{extension}").symlink_to(target)
    (folder / "ImageSets").mkdir()
    for split in ("train", "val"):
        (folder / "ImageSets" / f"{split}.txt").write_text("\n".join(names) + "\n")
    create_kitti_infos(folder, 1)


def train(config: str, epochs: int, folder: Path, overrides: list[str]) -> dict[str, float]:
    """Train and evaluate; moderate AP of Car over 40 recall positions, by metric."""
    command = [
        sys.executable,
        str(ROOT / "tools" / "train.py"),
        "--cfg_file",
        config,
        "--extra_tag",
        folder.name,
    ]
    command += [
        "--epochs",
        str(epochs),
        "--batch_size",
        "1",
        "--workers",
        "1",
        "--fix_random_seed",
        "--set",
    ]
    command += [
        "DATA_CONFIG.DATA_PATH",
        str(folder),
        "DATA_CONFIG.DATA_AUGMENTOR.DISABLE_AUG_LIST",
        AUGMENTATIONS,
    ]
    subprocess.run([*command, "MODEL.BN_MOMENTUM", "0.1", *overrides], check=True)
    stem = Path(config).stem
    results = (
        ROOT / "output" / Path(config).parent.name / stem / folder.name / "eval" / "eval_with_train"
    )
    ap = json.loads((results / f"epoch_{epochs}" / "val" / "metrics.json").read_text())["ap"][
        "Car"
    ]["strict"]
    return {metric: ap[metric]["R40"]["moderate"] for metric in ("bev", "3d")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--kitti", type=Path, required=True, help="a KITTI folder with the frame in training/"
    )
    parser.add_argument("--frame", default="000008")
    parser.add_argument("--cfg_file", default="cfgs/kitti_models/second.yaml")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the 20 copies")
    parser.add_argument(
        "--set", dest="overrides", nargs=argparse.REMAINDER, default=[], help="as tools/train.py"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overfit_") as folder:
        copy_frame(args.kitti, args.frame, Path(folder))
        ap = train(args.cfg_file, args.epochs, Path(folder), args.overrides)
    print(f"{args.cfg_file}: Car, moderate, R40: BEV AP {ap['bev']:.2f}, 3D AP {ap['3d']:.2f}")


if __name__ == "__main__":
    main()
