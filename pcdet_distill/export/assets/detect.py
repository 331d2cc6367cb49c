"""Detect objects in a point cloud, with numpy and onnxruntime alone.

    python detect.py cloud.bin      # or .npy, .npz, .pcd, .ply; --out boxes.json keeps the boxes

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

try:
    import onnxruntime
except ImportError:
    onnxruntime = None

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first one that is there runs
MARGIN_M = 0.01  # a corner this close to a box lies in it, as in the model's training
CORNERS = np.array([-0.5 - 0.5j, 0.5 - 0.5j, 0.5 + 0.5j, -0.5 + 0.5j])  # counterclockwise
FEW_OVER_ONE = 0.01  # share of intensities; retroreflectors may exceed a scale of 0..1


class DetectError(ValueError):
    """One sentence that says what is wrong with the input."""


class Detector:
    """The model of a folder: call it with points (N, C), whose columns ``features`` names."""

    def __init__(self, folder=Path(__file__).parent, threads=0):
        """``threads`` of the network; 0: one for each core."""
        self.config, network = read_folder(Path(folder))
        self.features = self.config["points"]["features"]
        if onnxruntime is None:
            raise DetectError("onnxruntime is missing: pip install onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        available = onnxruntime.get_available_providers()
        providers = [name for name in PROVIDERS if name in available]
        try:
            self.session = onnxruntime.InferenceSession(network, options, providers=providers)
        except Exception as error:  # its errors have no base class
            raise DetectError(f"onnxruntime cannot load model.onnx: {error}") from None

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
        low = np.float32(self.config["points"]["range_m"][:3])
        cells = np.floor((points[:, :3] - low) / np.float32(settings["size_m"]))
        if is_dynamic:
            cells[:, 2] = 0
        in_grid = ((cells >= 0) & (cells < settings["grid"])).all(axis=1)
        points, cells = points[in_grid], cells[in_grid].astype(np.int32)
        number = np.ravel_multi_index(cells.T[::-1], settings["grid"][::-1])
        _, first, pillar = np.unique(number, return_index=True, return_inverse=True)
        opens = np.sort(first)  # the points that open a pillar
        pillar = np.searchsorted(opens, first)[pillar]
        coords = np.ascontiguousarray(cells[opens[: settings["max_voxels"]], ::-1])
        if is_dynamic:
            row = pillar.astype(np.int32)
            return {"points": points, "point_pillar": row, "voxel_coords": coords}
        # Sorted by pillar, a point's place in its pillar is its distance from the pillar's start.
        order = np.argsort(pillar, kind="stable")
        pillar, count = pillar[order], np.bincount(pillar)
        place = np.arange(len(pillar)) - (np.cumsum(count) - count)[pillar]
        kept = (place < settings["max_points"]) & (pillar < len(coords))
        voxels = np.zeros((len(coords), settings["max_points"], points.shape[1]), np.float32)
        voxels[pillar[kept], place[kept]] = points[order[kept]]
        num_points = np.minimum(count[: len(coords)], settings["max_points"]).astype(np.int32)
        return {"voxels": voxels, "voxel_num_points": num_points, "voxel_coords": coords}

    def checked(self, points):
        """The finite points in the range from above, as float32, in the network's units."""
        points = np.asarray(points, np.float32)
        if points.ndim != 2 or points.shape[1] != len(self.features):
            expected = f"(N, {len(self.features)}): {', '.join(self.features)}"
            raise DetectError(f"points have the shape {points.shape}, the model reads {expected}")
        points = points * np.float32(self.config["points"]["scale"])
        points = points[np.isfinite(points).all(axis=1)]
        learnt = self.config["points"].get("largest_intensity")
        if learnt is not None and len(points):
            doubt_intensities(points[:, self.features.index("intensity")], learnt)
        low, high = np.float32(self.config["points"]["range_m"]).reshape(2, 3)[:, :2]
        return points[((points[:, :2] >= low) & (points[:, :2] <= high)).all(axis=1)]

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
        found = []
        for nms in self.config["post_processing"]["nms"]:
            heads = [self.config["heads"][number] for number in nms["heads"]]
            columns = zip(*[self.candidates(head, nms["label"], outputs) for head in heads])
            boxes, scores, labels = map(np.concatenate, columns)
            kept = keep_best(boxes, scores, nms)
            found.append((boxes[kept], scores[kept], labels[kept]))
        boxes, scores, labels = map(np.concatenate, zip(*found))
        order = np.argsort(-scores, kind="stable")
        names = [self.config["class_names"][label - 1] for label in labels[order]]
        return boxes[order], scores[order], names

    def candidates(self, head, label, outputs):
        """Boxes, scores and labels of one head that NMS chooses from; ``label``: of this class."""
        settings = self.config["post_processing"]
        is_above = np.greater_equal if settings["keeps_equal"] else np.greater
        threshold = np.float32(settings["score_threshold"])
        compared = outputs[head["filter_scores"] or head["scores"]]
        rows = np.unique(np.nonzero(is_above(compared, threshold))[0])
        boxes, scores = outputs[head["boxes"]][rows], outputs[head["scores"]][rows]
        compared = compared[rows]
        if head["labels"]:
            labels = outputs[head["labels"]][rows]
        else:
            of_columns = np.array(head["column_labels"])
            columns = np.flatnonzero((of_columns == label) | (label is None))
            labels = of_columns[columns][scores[:, columns].argmax(axis=1)]
            compared = scores = scores[:, columns].max(axis=1)
        limits = np.float32(settings["centre_range_m"] or [-np.inf] * 3 + [np.inf] * 3)
        inside = ((boxes[:, :3] >= limits[:3]) & (boxes[:, :3] <= limits[3:])).all(axis=1)
        kept = inside & is_above(compared, threshold) & ((labels == label) | (label is None))
        return boxes[kept], scores[kept], labels[kept]


def read_folder(folder):
    """What config.json says, and the network that it describes."""
    place = folder / "config.json"
    try:
        network = (folder / "model.onnx").read_bytes()
        config = json.loads(place.read_text())
        runs_here = config["format_version"] == 1 and config["layout"] == "boxes"
        runs_here = runs_here and not config["stages_outside"]
        expected_hash = config["model_sha256"]
    except FileNotFoundError as error:
        raise DetectError(f"{error.filename}: no such file; copy the whole folder") from None
    except (ValueError, LookupError, TypeError) as error:
        raise DetectError(f"{place} is damaged: {error}") from None
    if not runs_here:
        raise DetectError(f"{place} describes a model that this program cannot run alone")
    if hashlib.sha256(network).hexdigest() != expected_hash:
        raise DetectError(f"{place} belongs to another model.onnx; copy the whole folder")
    return config, network


def doubt_intensities(values, learnt):
    """Warn if intensities (N,) have another scale than the learnt one, 0..``learnt``."""
    found = 1
    if (values > 1).mean() >= FEW_OVER_ONE:
        found = 255 if values.max() <= 255 else 65535
    if found != learnt:
        warnings.warn(
            f"intensities look like 0..{found}, but the model learnt 0..{learnt:g}, which makes "
            f"detections wrong; multiply them by {learnt / found:.6g}",
            stacklevel=4,
        )


def keep_best(boxes, scores, nms):
    """Rows that non-maximum suppression keeps, the best first; equal scores in their order."""
    order = np.argsort(-scores, kind="stable")[: nms["pre_maxsize"]]
    most = len(order) if nms["post_maxsize"] is None else nms["post_maxsize"]
    kept = []
    while len(order) and len(kept) < most:
        best, order = order[0], order[1:]
        kept.append(best)
        with np.errstate(all="ignore"):  # a box without finite numbers suppresses none
            order = order[~is_suppressed(boxes[order], boxes[best], nms)]
    return np.array(kept, np.int64)


def is_suppressed(boxes, best, nms):
    """Which boxes (M, 7) a better box (7,) suppresses: (M,) bool."""
    if nms["kind"] == "circle":
        offset = boxes[:, :2].astype(np.float64) - best[:2]
        return np.hypot(offset[:, 0], offset[:, 1]) <= nms["threshold"]
    if nms["kind"] == "rotated":  # only boxes whose bounding circles meet can overlap
        radius = np.hypot(boxes[:, 3], boxes[:, 4]) / 2 + 2 * MARGIN_M
        distance = np.hypot(boxes[:, 0] - best[0], boxes[:, 1] - best[1])
        near = distance <= radius + np.hypot(best[3], best[4]) / 2 + 2 * MARGIN_M
        overlap = np.zeros(len(boxes), np.float32)
        overlap[near] = rotated_overlap(boxes[near], best)
    else:  # from above, with the headings ignored
        low = np.maximum(best[:2] - best[3:5] / 2, boxes[:, :2] - boxes[:, 3:5] / 2)
        high = np.minimum(best[:2] + best[3:5] / 2, boxes[:, :2] + boxes[:, 3:5] / 2)
        overlap = np.maximum(high - low, 0).prod(axis=1)
    union = boxes[:, 3] * boxes[:, 4] + best[3] * best[4] - overlap
    return overlap / np.maximum(union, np.float32(1e-8)) > np.float32(nms["threshold"])


def rotated_overlap(boxes, best):
    """Common area (M,) of boxes (M, 7) and a box (7,) from above.

    The corners of the common polygon are the crossings of the two outlines, and the corners of each
    box that lie in the other. Sorted by angle around their mean, the shoelace formula applies.
    Points are complex numbers x + iy in the frame of ``best``: a product with ``turn`` turns them.
    """
    boxes, best = boxes.astype(np.float64), best.astype(np.float64)
    centre = (boxes[:, :1] - best[0] + 1j * (boxes[:, 1:2] - best[1])) * np.exp(-1j * best[6])
    turn = np.exp(1j * (boxes[:, 6:7] - best[6]))
    ours = best[3] * CORNERS.real[None] + 1j * best[4] * CORNERS.imag[None]
    theirs = (boxes[:, 3:4] * CORNERS.real + 1j * boxes[:, 4:5] * CORNERS.imag) * turn + centre
    # Edges a and b cross at the share t of a and u of b: start_a + t a = start_b + u b.
    edge_a = (np.roll(ours, -1, axis=1) - ours)[:, :, None]
    edge_b = (np.roll(theirs, -1, axis=1) - theirs)[:, None]
    offset = theirs[:, None] - ours[:, :, None]
    t, u = (cross(offset, edge) / cross(edge_a, edge_b) for edge in (edge_b, edge_a))
    crosses = ((t > 0) & (t < 1) & (u > 0) & (u < 1)).reshape(-1, 16)
    crossings = (ours[:, :, None] + t * edge_a).reshape(-1, 16)
    is_ours_in = is_inside((ours - centre) / turn, boxes[:, 3:4], boxes[:, 4:5])
    is_theirs_in = is_inside(theirs, best[3], best[4])
    valid = np.concatenate([crosses, is_theirs_in, is_ours_in], axis=1)
    vertices = np.concatenate([crossings, theirs, np.tile(ours, (len(boxes), 1))], axis=1)
    vertices = np.where(valid, vertices, 0)
    mean = vertices.sum(axis=1, keepdims=True) / np.maximum(valid.sum(axis=1, keepdims=True), 1)
    angle = np.where(valid, np.angle(vertices - mean), np.inf)
    order = np.argsort(angle, axis=1)
    ring = np.take_along_axis(vertices - mean, order, axis=1)
    # Vertices that do not exist come last; moved onto the first, they add no area.
    ring = np.where(np.take_along_axis(valid, order, axis=1), ring, ring[:, :1])
    return np.abs(cross(ring, np.roll(ring, -1, axis=1)).sum(axis=1)) / 2


def is_inside(points, length, width):
    """Whether points lie in a box of this size around zero, along the axes."""
    within = np.abs(points.real) < length / 2 + MARGIN_M
    return within & (np.abs(points.imag) < width / 2 + MARGIN_M)


def cross(a, b):
    """Cross product of plane vectors: twice the signed area of the triangle that they span."""
    return (np.conj(a) * b).imag


def main(arguments=None):
    """The command line: detect in one file, print the boxes and how long each stage took."""
    try:  # here, because a caller of Detector reads no files
        from cloud_file import CloudFileError, read_points
    except ImportError:
        sys.exit("error: cloud_file.py is missing beside detect.py; copy the whole folder")
    parser = argparse.ArgumentParser(description="Detect objects in a point cloud.")
    parser.add_argument("cloud", help="a .bin, .npy, .npz, .pcd or .ply file")
    parser.add_argument("--folder", default=Path(__file__).parent, help="of model.onnx")
    parser.add_argument("--columns", help="of the file, such as x,y,z,intensity,ring")
    parser.add_argument("--threads", type=int, default=0, help="of the network (default: all)")
    parser.add_argument("--out", help="write the boxes to this .json file")
    options = parser.parse_args(arguments)
    columns = options.columns.split(",") if options.columns else None
    try:
        detector = Detector(options.folder, options.threads)
        value = read_points(options.cloud, detector.features, columns)
        spent = []
        for stage in (detector.voxelise, detector.run, detector.select):
            start = time.perf_counter()
            value = stage(value)
            spent.append(f"{(time.perf_counter() - start) * 1000:.1f}")
        boxes, scores, names = value
        for box, score, name in zip(boxes, scores, names):
            print(f"{name:<12} {score:.2f}  " + " ".join(f"{number:7.2f}" for number in box))
        print(
            f"{len(boxes)} boxes; first run, ms: pillars %s, network %s, selection %s" % (*spent,)
        )
        if options.out:
            found = {"boxes": boxes.tolist(), "scores": scores.tolist(), "names": names}
            Path(options.out).write_text(json.dumps(found, indent=1) + "\n")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {place}{error.strerror}")
    except (DetectError, CloudFileError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    main()
