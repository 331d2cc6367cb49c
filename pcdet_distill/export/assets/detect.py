"""Detect objects in a point cloud, with numpy and onnxruntime alone.

    python detect.py cloud.bin                # or .npy, .npz, .pcd; --out boxes.json keeps them

    from detect import Detector
    detector = Detector("folder")             # that holds model.onnx and config.json
    boxes, scores, names = detector(points)

A box is x, y, z, length, width, height in metres and the heading in radians from x towards y.
"""

import argparse
import hashlib
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np

MARGIN_M = np.float32(0.01)  # a corner this close to a box lies in it, as in the model's training
CORNER_SIGNS = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]], np.float32)
FEW_OVER_ONE = 0.01  # share of intensities; retroreflectors may exceed a scale of 0..1
INTENSITY_NAMES = ("intensity", "i", "reflectivity", "reflectance", "remission")


class DetectError(ValueError):
    """One sentence that says what is wrong with the input."""


class Detector:
    """The model of a folder: call it with points (N, C), whose columns ``features`` names."""

    def __init__(self, folder=Path(__file__).parent, threads=0):
        """``threads`` of the network; 0: one for each core."""
        self.config, network = read_folder(Path(folder))
        self.features = self.config["points"]["features"]
        try:
            import onnxruntime
        except ImportError:
            raise DetectError("onnxruntime is missing: pip install onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        available = onnxruntime.get_available_providers()
        known = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in known if name in available]
        try:
            self.session = onnxruntime.InferenceSession(network, options, providers=providers)
        except Exception as error:  # its errors have no base class
            version = onnxruntime.__version__
            raise DetectError(f"onnxruntime {version} cannot load model.onnx: {error}") from None

    def __call__(self, points):
        """Boxes (M, 7 or 9), scores (M,) and M names, the best first."""
        return self.select(self.run(self.voxelise(points)))

    def voxelise(self, points):
        """The inputs of the network: points (N, C) sorted into pillars of the bird's eye view.

        Points are taken in their order. A pillar is numbered by its first point and keeps the first
        ones; when all pillars are open, points of further ones are dropped. In a network of dynamic
        pillars none is dropped, and the height does not count.
        """
        points = self.checked(points)
        settings = self.config["voxels"]
        is_dynamic = settings["kind"] == "dynamic"
        nx, ny, nz = settings["grid"]
        origin = np.float32(self.config["points"]["range_m"][:3])
        cells = np.floor((points[:, :3] - origin) / np.float32(settings["size_m"]))
        if is_dynamic:
            cells[:, 2] = 0
        in_grid = ((cells >= 0) & (cells < [nx, ny, nz])).all(axis=1)
        points, (x, y, z) = points[in_grid], cells[in_grid].astype(np.int64).T
        cell = (z * ny + y) * nx + x
        # Written from the last point to the first, so that the first point of a cell stays.
        first_point = np.zeros(nx * ny * nz, np.int64)
        first_point[cell[::-1]] = np.arange(len(cell))[::-1]
        opens = np.flatnonzero(first_point[cell] == np.arange(len(cell)))
        opens = opens[: settings["max_voxels"]]
        coords = np.stack([z[opens], y[opens], x[opens]], axis=1).astype(np.int32)
        row_of_cell = np.full(nx * ny * nz, -1, np.int32)
        row_of_cell[cell[opens]] = np.arange(len(opens))
        row = row_of_cell[cell]
        if is_dynamic:
            return {"points": points, "point_pillar": row, "voxel_coords": coords}
        points, row = points[row >= 0], row[row >= 0]
        # Sorted by pillar, a point's place in its pillar is its distance from the pillar's start.
        order = np.argsort(row.astype(np.uint16) if len(opens) < 65536 else row, kind="stable")
        points, row = points[order], row[order]
        count = np.bincount(row, minlength=len(opens))
        place = np.arange(len(row)) - (np.cumsum(count) - count)[row]
        most = settings["max_points"]
        kept = place < most
        voxels = np.zeros((len(opens), most, points.shape[1]), np.float32)
        voxels[row[kept], place[kept]] = points[kept]
        num_points = np.minimum(count, most).astype(np.int32)
        return {"voxels": voxels, "voxel_num_points": num_points, "voxel_coords": coords}

    def checked(self, points):
        """The finite points in the range from above, as float32, in the network's units."""
        points = np.asarray(points, np.float32)
        if points.ndim != 2 or points.shape[1] != len(self.features):
            expected = f"(N, {len(self.features)}): {', '.join(self.features)}"
            raise DetectError(f"points have the shape {points.shape}, the model reads {expected}")
        points = points * np.float32(self.config["points"]["scale"])
        self.doubt_intensities(points)
        low, high = np.float32(self.config["points"]["range_m"]).reshape(2, 3)[:, :2]
        in_range = (points[:, :2] >= low) & (points[:, :2] <= high)
        return points[in_range.all(axis=1) & np.isfinite(points).all(axis=1)]

    def doubt_intensities(self, points):
        """Warn once if the intensities of points (N, C) have another scale than the learnt ones."""
        learnt = self.config["points"].get("largest_intensity")
        if learnt is None:
            return
        values = points[:, self.features.index("intensity")]
        values = values[np.isfinite(values)]
        if len(values) == 0:
            return
        found = 1
        if (values > 1).mean() >= FEW_OVER_ONE:
            found = 255 if values.max() <= 255 else 65535
        if found != learnt:
            warnings.warn(
                f"intensities look like 0..{found}, but the model learnt 0..{learnt:g}, which "
                f"makes detections wrong; multiply them by {learnt / found:.6g}",
                stacklevel=3,
            )

    def run(self, inputs):
        """The outputs of the network, by name; None where there is nothing to see."""
        if len(inputs["voxel_coords"]) == 0:
            return None
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, inputs)))

    def select(self, outputs):
        """Boxes, scores and names that the score threshold and every group's NMS leave."""
        if outputs is None:
            return np.zeros((0, 7), np.float32), np.zeros(0, np.float32), []
        groups = self.config["post_processing"]["nms"]
        parts = [self.select_group(group, outputs) for group in groups]
        boxes, scores, labels = (np.concatenate(values) for values in zip(*parts))
        order = np.argsort(-scores, kind="stable")
        names = [self.config["class_names"][label - 1] for label in labels[order]]
        return boxes[order], scores[order], names

    def select_group(self, group, outputs):
        """Boxes, scores and labels of heads whose boxes suppress one another, after NMS."""
        heads = [self.config["heads"][number] for number in group["heads"]]
        parts = [self.candidates(head, group["label"], outputs) for head in heads]
        boxes, scores, labels = (np.concatenate(values) for values in zip(*parts))
        kept = keep_best(boxes, scores, group)
        return boxes[kept], scores[kept], labels[kept]

    def candidates(self, head, label, outputs):
        """Boxes, scores and labels of one head that NMS chooses from; ``label``: of this class."""
        boxes, scores = outputs[head["boxes"]], outputs[head["scores"]]
        compared = outputs[head["filter_scores"] or head["scores"]]
        settings = self.config["post_processing"]
        # The nearest float32 below the threshold turns "not below it" into "above it".
        lowest = np.float32(settings["score_threshold"])
        if settings["keeps_equal"]:
            lowest = np.nextafter(lowest, np.float32(-np.inf))
        if head["labels"]:
            labels = outputs[head["labels"]]
            rows = np.flatnonzero((compared > lowest) & ((labels == label) | (label is None)))
            scores, labels = scores[rows], labels[rows]
        else:
            labels = np.array(head["column_labels"])
            columns = np.flatnonzero((labels == label) | (label is None))
            rows = np.unique(np.nonzero(scores[:, columns] > lowest)[0])
            scores = scores[rows][:, columns]
            labels = labels[columns][scores.argmax(axis=1)]
            scores = scores.max(axis=1)
        boxes = boxes[rows]
        limits = settings["centre_range_m"] or [-np.inf] * 3 + [np.inf] * 3
        low, high = np.float32(limits[:3]), np.float32(limits[3:])
        inside = ((boxes[:, :3] >= low) & (boxes[:, :3] <= high)).all(axis=1)
        return boxes[inside], scores[inside], labels[inside]


def read_folder(folder):
    """What config.json says, and the network that it describes."""
    paths = [folder / "config.json", folder / "model.onnx"]
    for path in paths:
        if not path.is_file():
            raise DetectError(f"{path}: no such file; copy the whole exported folder")
    network = paths[1].read_bytes()
    try:
        config = json.loads(paths[0].read_text())
    except ValueError as error:
        raise DetectError(f"{paths[0]} is damaged: {error}") from None
    if config["format_version"] != 1 or config["layout"] != "boxes" or config["stages_outside"]:
        raise DetectError(f"{paths[0]} describes a model that this program cannot run alone")
    if hashlib.sha256(network).hexdigest() != config["model_sha256"]:
        raise DetectError(f"{paths[0]} belongs to another model.onnx; copy the whole folder")
    return config, network


def keep_best(boxes, scores, nms):
    """Rows that non-maximum suppression keeps, the best first; equal scores in their order."""
    order = np.argsort(-scores, kind="stable")[: nms["pre_maxsize"]]
    most = len(order) if nms["post_maxsize"] is None else nms["post_maxsize"]
    kept = []
    while len(order) and len(kept) < most:
        best, order = order[0], order[1:]
        kept.append(best)
        with np.errstate(all="ignore"):  # a box without finite numbers suppresses none
            order = order[~suppressed(boxes[best], boxes[order], nms)]
    return np.array(kept, np.int64)


def suppressed(box, others, nms):
    """Which boxes (M, 7) the better box (7,) suppresses: (M,) bool."""
    if nms["kind"] == "circle":
        offset = others[:, :2].astype(np.float64) - box[:2]
        return np.hypot(offset[:, 0], offset[:, 1]) <= nms["threshold"]
    # Only boxes whose bounding circles meet can overlap.
    reach = np.hypot(others[:, 3], others[:, 4]) / 2 + np.hypot(box[3], box[4]) / 2 + 4 * MARGIN_M
    near = ~(((others[:, :2] - box[:2]) ** 2).sum(axis=1) > reach**2)
    overlap = np.zeros(len(others), np.float32)
    if near.any():
        area = rotated_overlap if nms["kind"] == "rotated" else aligned_overlap
        overlap[near] = area(box, others[near])
    union = box[3] * box[4] + others[:, 3] * others[:, 4] - overlap
    return overlap / np.maximum(union, np.float32(1e-8)) > np.float32(nms["threshold"])


def aligned_overlap(box, others):
    """Common area (M,) of a box (7,) and boxes (M, 7) from above, with their headings ignored."""
    low = np.maximum(box[:2] - box[3:5] / 2, others[:, :2] - others[:, 3:5] / 2)
    high = np.minimum(box[:2] + box[3:5] / 2, others[:, :2] + others[:, 3:5] / 2)
    return np.maximum(high - low, 0).prod(axis=1)


def rotated_overlap(box, others):
    """Common area (M,) of a box (7,) and boxes (M, 7) from above.

    The corners of the common polygon are the crossings of the two outlines, and the corners of each
    box that lie in the other. Sorted by angle around their mean, the shoelace formula applies.
    """
    ours, theirs = corners_of(box[None]), corners_of(others)
    crossings, crosses = crossings_of(ours, theirs)
    ours = np.broadcast_to(ours, theirs.shape)
    vertices = np.concatenate([crossings, theirs, ours], axis=1)
    valid = np.concatenate([crosses, are_inside(theirs, box[None]), are_inside(ours, others)], 1)
    count = np.maximum(valid.sum(axis=1), 1)[:, None]
    offset = vertices - (vertices * valid[..., None]).sum(axis=1, keepdims=True) / count[..., None]
    angle = np.where(valid, np.arctan2(offset[..., 1], offset[..., 0]), np.inf)
    order = np.argsort(angle, axis=1)[..., None]
    vertices = np.take_along_axis(vertices, order, axis=1)
    # Those that do not exist come last and collapse onto the first, where they add no area.
    first = vertices[:, :1]
    ring = np.where(np.take_along_axis(valid[..., None], order, axis=1), vertices, first) - first
    twice = ring[:, :-1, 0] * ring[:, 1:, 1] - ring[:, :-1, 1] * ring[:, 1:, 0]
    return np.where(count[:, 0] > 2, np.abs(twice.sum(axis=1)) / 2, 0)


def corners_of(boxes):
    """Corners (M, 4, 2) of boxes (M, 7) from above, counterclockwise."""
    centres = boxes[:, None, :2]
    return turned((centres + boxes[:, None, 3:5] * CORNER_SIGNS) - centres, boxes[:, 6]) + centres


def turned(offsets, angle):
    """Offsets (M, K, 2) turned by angles (M,)."""
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y = offsets[..., 0], offsets[..., 1]
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=-1)


def are_inside(corners, boxes):
    """Which corners (M, 4, 2) lie in the box (M, 7) of their row: (M, 4) bool."""
    local = turned(corners - boxes[:, None, :2], -boxes[:, 6])
    return (np.abs(local) < boxes[:, None, 3:5] / 2 + MARGIN_M).all(axis=-1)


def crossings_of(ours, theirs):
    """Where edges of the outlines (1, 4, 2) and (M, 4, 2) cross: (M, 16, 2), and whether they do.

    Two edges cross when the ends of each lie on different sides of the other.
    """
    start_a, end_a = ours[:, :, None], np.roll(ours, -1, axis=1)[:, :, None]
    start_b, end_b = theirs[:, None], np.roll(theirs, -1, axis=1)[:, None]
    from_start, from_end = side(start_b, end_a, start_a), side(end_a, end_b, start_a)
    b_divides_a = side(start_a, end_b, start_b) * side(end_b, end_a, start_b) > 0
    crosses = (from_start * from_end > 0) & b_divides_a
    weight = np.where(crosses, from_start + from_end, 1)[..., None]
    points = (from_end[..., None] * start_b + from_start[..., None] * end_b) / weight
    return points.reshape(-1, 16, 2), crosses.reshape(-1, 16)


def side(point, other, origin):
    """Twice the signed area of the triangles (origin, point, other)."""
    to_point, to_other = point - origin, other - origin
    return to_point[..., 0] * to_other[..., 1] - to_other[..., 0] * to_point[..., 1]


def read_points(path, features, columns=None):
    """Points (N, C) of a file; ``columns``: those of a file that names none (all but .pcd)."""
    path = Path(path)
    readers = {".bin": read_array, ".npy": read_array, ".npz": read_array, ".pcd": read_pcd}
    if path.suffix not in readers:
        raise DetectError(f"{path}: expected a file that ends in {', '.join(readers)}")
    if not path.is_file():
        raise DetectError(f"{path}: no such file")
    try:
        table = readers[path.suffix](path, columns or features)
    except (ValueError, LookupError, TypeError) as error:
        raise DetectError(f"{path} cannot be read: {error}") from None
    points = np.stack([column_of(name, table, path) for name in features], axis=1)
    if "intensity" in features and (points[:, features.index("intensity")] < 0).mean() > 0.01:
        print(f"warning: {path}: negative intensities; does it have other columns? --columns")
    return points


def column_of(name, table, path):
    """One column (N,) of a file's table. Time lags of a single sweep are 0."""
    for other in INTENSITY_NAMES if name == "intensity" else [name]:
        if other in table:
            return table[other].astype(np.float32)
    if name == "timestamp":
        return np.zeros(len(table["x"]), np.float32)
    raise DetectError(f"{path} has the columns {', '.join(table)}, the model also reads {name}")


def read_array(path, columns):
    """The array (N, C) of a .npy or .npz file, or the float32 numbers of a .bin file."""
    if path.suffix == ".npy":
        array = np.load(path, allow_pickle=False)
    elif path.suffix == ".npz":
        array = np.load(path, allow_pickle=False)["points"]
    else:
        array = np.fromfile(path, np.float32)
        array = array if len(array) % len(columns) else array.reshape(-1, len(columns))
    if array.ndim != 2 or array.shape[1] != len(columns):
        columns = ", ".join(columns)
        raise ValueError(f"its shape is {array.shape}, not that of {columns}; use --columns")
    return dict(zip(columns, array.T))


def read_pcd(path, columns):
    """PCL's format, ASCII or binary; the file itself names its columns."""
    header, _, rest = path.read_bytes().partition(b"\nDATA ")
    kind, _, data = rest.partition(b"\n")
    lines = [line.split() for line in header.decode("latin-1").splitlines()]
    entries = {words[0]: words[1:] for words in lines if words}
    names = [name.lower() for name in entries["FIELDS"]]
    counts = [int(count) for count in entries.get("COUNT") or ["1"] * len(names)]
    num_points = int(entries["POINTS"][0])
    used = [place for place, name in enumerate(names) if name != "_"]  # _ is padding
    if kind.strip() == b"binary":
        types = [f"<{of.lower()}{size}" for of, size in zip(entries["TYPE"], entries["SIZE"])]
        fields = [(str(place), types[place], (counts[place],)) for place in range(len(names))]
        table = np.frombuffer(data, np.dtype(fields), num_points)
        return {names[place]: table[str(place)][:, 0] for place in used}
    if kind.strip() == b"ascii":
        table = np.array(data.split(), np.float64).reshape(num_points, sum(counts))
        return {names[place]: table[:, sum(counts[:place])] for place in used}
    raise ValueError(f"DATA {kind.decode()} is not read here, only ascii and binary")


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(description="Detect objects in a point cloud.")
    parser.add_argument("cloud", help="a .bin, .npy, .npz or .pcd file")
    parser.add_argument("--folder", default=Path(__file__).parent, help="of model.onnx")
    parser.add_argument("--columns", help="of the file, such as x,y,z,intensity,ring")
    parser.add_argument("--threads", type=int, default=0, help="of the network (default: all)")
    parser.add_argument("--out", help="write the boxes to this .json file")
    options = parser.parse_args(arguments)
    try:
        run(options)
    except (DetectError, OSError) as error:
        sys.exit(f"error: {error}")


def run(options):
    """Detect in one file, print the boxes and how long each stage took."""
    detector = Detector(options.folder, options.threads)
    columns = options.columns.split(",") if options.columns else None
    value = read_points(options.cloud, detector.features, columns)
    times = []
    for stage in (detector.voxelise, detector.run, detector.select):
        start = time.perf_counter()
        value = stage(value)
        times.append((time.perf_counter() - start) * 1000)
    boxes, scores, names = value
    for box, score, name in zip(boxes, scores, names):
        print(f"{name:<12} {score:.2f}  " + " ".join(f"{number:7.2f}" for number in box))
    print(
        f"{len(boxes)} boxes; first run: pillars %.1f ms, network %.1f ms, selection %.1f ms"
        % tuple(times)
    )
    if options.out:
        found = {"boxes": boxes.tolist(), "scores": scores.tolist(), "names": names}
        Path(options.out).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
