"""``pcdet-distill view``: its flags, and the way from a path to a page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from tqdm import tqdm

from ...config import load_config
from ...config.override import add_set_argument
from ...datasets.custom.labels import LabelOptions
from ...errors import ConfigError, DataError
from ...report.rerun_file import import_rerun, write_rerun
from ...report.viewer import ViewedFrame, write_viewer
from ...types import ConfigDict
from .choice import DEFAULT_FRAMES, choose_frames
from .found import BoxFinder, DetectorBoxes, StoredBoxes, stored_boxes
from .frames import view_frame
from .loaded import FrameBoxes, FrameSource, LoadedFrame
from .sources import find_source

# Points of all frames together, unless --max_points says otherwise: a page of about 25 MB.
POINTS_OF_PAGE = 2_500_000
MOST_POINTS_OF_FRAME = 300_000
BYTES_PER_MB = 1e6


def add_view_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flags."""
    parser.add_argument(
        "path",
        type=Path,
        nargs="?",
        help="a point file, a folder of them, a recording, a folder in KITTI's layout or of "
        "nuScenes (default: the data set of --cfg_file)",
    )
    parser.add_argument("--out", type=Path, default=Path("view.html"), help="the page to write")
    parser.add_argument(
        "--frames",
        nargs="+",
        default=[],
        metavar="N",
        help=f"how many frames, or positions FIRST:END, or names (default: {DEFAULT_FRAMES})",
    )
    parser.add_argument(
        "--max_points",
        type=int,
        help="most points of a frame; more are thinned evenly (default: "
        f"{MOST_POINTS_OF_FRAME:,}, fewer where many frames would make the page large)",
    )
    _add_boxes(parser)
    _add_clouds(parser)
    parser.add_argument(
        "--rerun", type=Path, metavar="FILE.rrd", help="also write a recording for Rerun"
    )
    add_set_argument(parser)
    return parser


def _add_boxes(parser: argparse.ArgumentParser) -> None:
    """Whose boxes are shown."""
    parser.add_argument("--cfg_file", help="yaml of a detector or of a data set")
    parser.add_argument(
        "--ckpt",
        help="checkpoint of the detector, which looks at every frame; a folder in the layout of "
        "Hugging Face, or hf://user/name, brings its own yaml",
    )
    parser.add_argument(
        "--teacher_cfg", help="yaml of a teacher (default: DISTILL.TEACHER of --cfg_file)"
    )
    parser.add_argument("--teacher_ckpt", help="checkpoint of the teacher")
    parser.add_argument(
        "--results",
        type=Path,
        help="result.pkl of 'pcdet-distill test', JSON with its entries, or a folder of KITTI's "
        "result files, such as final_result/data",
    )
    parser.add_argument("--teacher_results", type=Path, help="the same of the teacher")
    parser.add_argument(
        "--split", choices=["train", "val"], default="val", help="of --cfg_file (default: val)"
    )
    parser.add_argument(
        "--score", type=float, default=0.3, help="lowest score shown at first (default: 0.3)"
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda if there is one)")


def _add_clouds(parser: argparse.ArgumentParser) -> None:
    """What the files mean."""
    parser.add_argument(
        "--labels",
        type=Path,
        help="file or folder of the true boxes (default: looked for beside the clouds)",
    )
    parser.add_argument(
        "--calib",
        default="",
        help="KITTI labels and result files: calibration file or folder, or 'default'",
    )
    parser.add_argument(
        "--columns", help="columns of .bin, .npy and .npz files, e.g. x,y,z,intensity,ring"
    )
    parser.add_argument("--topic", help="topic of a recording with several")
    parser.add_argument(
        "--divide_intensity",
        type=float,
        default=1.0,
        help="what the detectors' intensities are divided by, e.g. 255 (default: 1)",
    )


def run_view(args: argparse.Namespace) -> Path:
    """Write the page, and the recording if it is asked for; returns the page's path."""
    check_arguments(args)
    cfg = load_config(args.cfg_file, args.set_cfgs) if args.cfg_file else None
    source = find_source(
        args.path,
        cfg,
        split=args.split,
        labels=args.labels,
        options=LabelOptions(calib=args.calib, ignore_ids=True),
        columns=_columns(args),
        topic=args.topic,
    )
    finders = find_boxes(args, cfg)
    with_results = _frames_with_results(finders, source)
    numbers = choose_frames(args.frames, source.names, with_results)
    notes = source.choose(numbers)
    if len(numbers) < len(source.names):
        notes.insert(0, f"{len(numbers)} of {len(source.names)} frames; --frames chooses others")
    frames, problems = load_frames(source, numbers, finders, _most_points(args, len(numbers)))
    notes += [*problems, *_common_notes(frames)]
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    # A detector without a teacher to compare it with need not be a student.
    titles = {} if "teacher" in finders else {"student": "detections"}
    page = write_viewer(
        frames, args.out, title=source.title, notes=notes, score=args.score, titles=titles
    )
    print(f"{page}: {_summary(frames, page)}; open it in a browser")
    if args.rerun:
        print(f"{write_rerun(frames, args.rerun)}: open it with 'rerun'")
    return page


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse flags that cannot be meant, before anything is read."""
    if args.max_points is not None and args.max_points < 1:
        raise ConfigError(f"--max_points {args.max_points}: expected 1 or more")
    if not 0 <= args.score <= 1:
        raise ConfigError(f"--score {args.score}: expected a score from 0 to 1")
    if args.ckpt and not (args.cfg_file or _brings_yaml(args.ckpt)):
        raise ConfigError(f"--ckpt {args.ckpt}: expected --cfg_file too, the yaml of the detector")
    if args.ckpt and args.results:
        raise ConfigError("--ckpt and --results: both give the detections; expected one of them")
    if args.teacher_cfg and not args.teacher_ckpt:
        raise ConfigError(f"--teacher_cfg {args.teacher_cfg}: expected --teacher_ckpt too")
    has_teacher_yaml = args.teacher_cfg or args.cfg_file
    if args.teacher_ckpt and not (has_teacher_yaml or _brings_yaml(args.teacher_ckpt)):
        raise ConfigError(f"--teacher_ckpt {args.teacher_ckpt}: expected --teacher_cfg too")
    if args.teacher_ckpt and args.teacher_results:
        raise ConfigError(
            "--teacher_ckpt and --teacher_results: both give the teacher's detections; expected "
            "one of them"
        )
    if args.rerun:
        import_rerun()
    if args.out.is_dir():
        raise ConfigError(f"--out {args.out}: is a folder; expected a file, such as view.html")


def _brings_yaml(ckpt: str) -> bool:
    """Whether a checkpoint is a folder in the layout of Hugging Face, which holds its yaml."""
    return ckpt.startswith("hf://") or Path(ckpt).is_dir()


def _columns(args: argparse.Namespace) -> tuple[str, ...] | None:
    if args.columns is None:
        return None
    return tuple(name.strip() for name in args.columns.split(","))


def _most_points(args: argparse.Namespace, num_frames: int) -> int:
    if args.max_points is not None:
        return int(args.max_points)
    return min(MOST_POINTS_OF_FRAME, POINTS_OF_PAGE // num_frames)


def find_boxes(args: argparse.Namespace, cfg: ConfigDict | None) -> dict[str, BoxFinder]:
    """Teacher and student, as far as the flags name them."""
    finders: dict[str, BoxFinder] = {}
    if args.teacher_results:
        finders["teacher"] = stored_boxes(args.teacher_results, args.calib)
    if args.teacher_ckpt:
        finders["teacher"] = _detector(args, _teacher_cfg(args, cfg), args.teacher_ckpt)
    if args.results:
        finders["student"] = stored_boxes(args.results, args.calib)
    if args.ckpt:
        finders["student"] = _detector(args, cfg, args.ckpt)
    return finders


def _teacher_cfg(args: argparse.Namespace, cfg: ConfigDict | None) -> ConfigDict | None:
    """The yaml of --teacher_cfg, or the one that DISTILL.TEACHER names; None for the folder's."""
    if args.teacher_cfg:
        return load_config(args.teacher_cfg)
    if _brings_yaml(args.teacher_ckpt):
        return None
    if not (cfg or {}).get("DISTILL", {}).get("TEACHER"):
        raise ConfigError(
            f"--teacher_ckpt {args.teacher_ckpt}: {args.cfg_file} names no DISTILL.TEACHER; "
            "expected --teacher_cfg, the yaml of the teacher"
        )
    from ...engine.build import teacher_experiment

    teacher, _ = teacher_experiment(cfg, args.teacher_ckpt)
    return teacher


def _detector(args: argparse.Namespace, cfg: ConfigDict | None, ckpt: str) -> DetectorBoxes:
    """A detector; without a yaml its checkpoint is a folder that holds one."""
    from ...inference import load_detector

    columns = _columns(args)
    detector = load_detector(
        ckpt if cfg is None else cfg,
        None if cfg is None else ckpt,
        device=args.device,
        columns=columns,
        divide_intensity=args.divide_intensity,
        tell=_print_warning,
    )
    return DetectorBoxes(detector, columns)


def _print_warning(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _frames_with_results(finders: Mapping[str, BoxFinder], source: FrameSource) -> set[str]:
    """The frames that files of results name; files of other frames are refused."""
    known: set[str] = set()
    for finder in finders.values():
        if isinstance(finder, StoredBoxes):
            finder.check(source.names)
            known |= set(finder.frames)
    return known


def load_frames(
    source: FrameSource, numbers: list[int], finders: Mapping[str, BoxFinder], max_points: int
) -> tuple[list[ViewedFrame], list[str]]:
    """The frames that can be read, and why others cannot.

    Raises:
        DataError: none can.
    """
    frames: list[ViewedFrame] = []
    problems: list[str] = []
    for number in tqdm(numbers, desc="frames", unit="frame", disable=None):
        name = source.names[number]
        try:
            loaded = source.load(number)
            boxes = _boxes_of(name, loaded, finders)
        except DataError as error:
            problems.append(f"left out: {error}")
            continue
        frames.append(view_frame(name, loaded, boxes, max_points))
    if not frames:
        raise DataError(problems[0].removeprefix("left out: "))
    return frames, problems


def _boxes_of(
    name: str, loaded: LoadedFrame, finders: Mapping[str, BoxFinder]
) -> dict[str, FrameBoxes]:
    """The boxes of a frame by source."""
    boxes: dict[str, FrameBoxes] = {}
    if loaded.labels is not None:
        boxes["truth"] = loaded.labels
    for role, finder in finders.items():
        found = finder.boxes_of(name, loaded)
        if found is not None:
            boxes[role] = found
    return boxes


def _common_notes(frames: Iterable[ViewedFrame]) -> list[str]:
    """The notes of the frames, the first of each kind with the number of frames that have one."""
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for frame in frames:
        for note in frame.notes:
            kind = "".join("#" if letter.isdigit() else letter for letter in note)
            kind = "#".join(part for part in kind.split("#") if part)
            first.setdefault(kind, f"{frame.name}: {note}")
            counts[kind] = counts.get(kind, 0) + 1
    texts = []
    for kind, text in first.items():
        others = counts[kind] - 1
        texts.append(f"{text} ({others} more frames likewise)" if others else text)
    return texts


def _summary(frames: list[ViewedFrame], page: Path) -> str:
    """``3 frames, 54,000 points, 21 boxes, 1.2 MB``"""
    num_points = sum(len(frame.points) for frame in frames)
    num_boxes = sum(len(boxes.names) for frame in frames for boxes in frame.boxes.values())
    megabytes = page.stat().st_size / BYTES_PER_MB
    return f"{len(frames)} frames, {num_points:,} points, {num_boxes} boxes, {megabytes:.1f} MB"
