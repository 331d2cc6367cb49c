"""Whether a cloud lies in the frame, the unit and the range that a network learnt.

A network gives boxes for any numbers. These checks look at a sample of the points, and say in one
sentence what seems wrong and what would mend it. They never change the points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.readers import read_cloud_file
from ..datasets.readers.model_points import FRAMES_OF_DATASET
from ..errors import DataError
from ..types import ConfigDict

SAMPLE = 8_000  # points that are looked at
FEWEST = 200  # points below which nothing can be said

# Height of the ground in the frames of a data set, from the mounting of its LiDAR. Argoverse 2 has
# its origin at the rear axle.
GROUND_OF_DATASET = {"KittiDataset": -1.73, "NuScenesDataset": -1.84, "Argo2Dataset": -0.33}
# A car stands within a metre of the usual ground; a LiDAR on another roof is off by more.
FAR_FROM_GROUND_M = 1.0
# Where the ground is seen from the roof of a car; further away a slope changes its height.
GROUND_NEAR_M = 3.0
GROUND_FAR_M = 30.0
CELL_M = 2.0
FEWEST_IN_CELL = 2
FEWEST_CELLS = 10

# Half of the points of a LiDAR are nearer to each other than this.
FAR_MEDIAN_M = 300.0
MILLIMETRES_MEDIAN = 4000.0
# A cloud that ends here was scaled.
NEAR_MAXIMUM_M = 2.0
# A scene is wide and flat: its heights spread over less than half of its width.
MOST_UPRIGHT = 2.0
UPRIGHT_SPREAD_M = 5.0
FEW_IN_RANGE = 0.2
MOST_IN_RANGE = 0.9
AXES = ("x", "y", "z")


@dataclass(frozen=True)
class SceneChecks:
    """What a network learnt about the place of its points.

    Attributes:
        point_cloud_range: (6,) minimum of x, y, z, then maximum, in metres.
        ground_m: height of the ground in its training data; None if nothing is known.
    """

    point_cloud_range: np.ndarray
    ground_m: float | None = None

    def doubts(self, points: np.ndarray) -> list[str]:
        """What looks wrong about points (N, 3 or more), one sentence for the first cause."""
        if len(points) < FEWEST:
            return []
        step = -(-len(points) // SAMPLE)
        places = points[::step, :3]
        for check in (self._unit, self._axes, self._front, self._range, self._ground):
            doubt = check(places)
            if doubt:
                return [doubt]
        return []

    def _unit(self, places: np.ndarray) -> str:
        """Millimetres, centimetres, or a cloud that was scaled to a unit cube."""
        middle = np.median(places[:, :2], axis=0)
        distance = np.linalg.norm(places[:, :2] - middle, axis=1)
        median = float(np.median(distance))
        farthest = float(np.quantile(distance, 0.99))
        if median > FAR_MEDIAN_M:
            unit, factor = ("centimetres", 100)
            if median > MILLIMETRES_MEDIAN:
                unit, factor = ("millimetres", 1000)
            return (
                f"half of its points are more than {median:.0f} m from their middle; expected "
                f"metres: are they {unit}? Divide x, y, z by {factor}"
            )
        if farthest < NEAR_MAXIMUM_M:
            return (
                f"all its points are within {farthest:.2g} m of their middle; expected metres of a "
                "scene"
            )
        return ""

    def _axes(self, places: np.ndarray) -> str:
        """A camera's frame, or another one whose z is not up."""
        low, high = np.quantile(places, [0.05, 0.95], axis=0)
        spread = high - low
        upright = int(np.argmin(spread))
        if upright == 2 or spread[2] < UPRIGHT_SPREAD_M:
            return ""
        if spread[2] < MOST_UPRIGHT * spread[upright]:
            return ""
        hint = ""
        if upright == 1 and low[2] > 0:
            hint = " (a camera's frame? Its z is our x, -x our y, -y our z)"
        return (
            f"its z spreads over {spread[2]:.0f} m and its {AXES[upright]} over "
            f"{spread[upright]:.1f} m, so {AXES[upright]} seems to be the height; expected x "
            f"forward, y left, z up{hint}"
        )

    def _front(self, places: np.ndarray) -> str:
        """A turned frame: the network sees few points, and would see most if x and y were turned.

        Of a full turn of a LiDAR every direction has as many points, so nothing is said.
        """
        inside = self._share_inside(places[:, 0], places[:, 1])
        x, y = places[:, 0], places[:, 1]
        turned = {
            "y seems to point forward: use (y, -x, z)": (y, -x),
            "-y seems to point forward: use (-y, x, z)": (-y, x),
            "-x seems to point forward: use (-x, -y, z)": (-x, -y),
        }
        shares = {advice: self._share_inside(*axes) for advice, axes in turned.items()}
        best = max(shares, key=lambda advice: shares[advice])
        if shares[best] < MOST_IN_RANGE or inside > MOST_IN_RANGE - 0.3:
            return ""
        return (
            f"{inside:.0%} of its points are in the range of the detector, but {shares[best]:.0%} "
            f"would be if the cloud were turned; {best}"
        )

    def _range(self, places: np.ndarray) -> str:
        """Hardly a point inside of the range."""
        x, y, z = places.T
        inside = self._share_inside(x, y)
        if inside < FEW_IN_RANGE:
            return (
                f"{inside:.0%} of its points are in the range of the detector, x "
                f"{self._limits(0)} m and y {self._limits(1)} m; its own are x {_reach(x)} m and "
                f"y {_reach(y)} m"
            )
        low = self.point_cloud_range[2]
        high = self.point_cloud_range[5]
        in_height = float(((z >= low) & (z <= high)).mean())
        if in_height < FEW_IN_RANGE:
            return (
                f"{in_height:.0%} of its points are in the detector's range of heights, "
                f"{self._limits(2)} m; its own are {_reach(z)} m{self._shift(places)}"
            )
        return ""

    def _ground(self, places: np.ndarray) -> str:
        """The ground at another height than where the network learnt it."""
        if self.ground_m is None:
            return ""
        ground_m = ground_of(places)
        if ground_m is None or abs(ground_m - self.ground_m) <= FAR_FROM_GROUND_M:
            return ""
        return (
            f"its ground seems to be at z {round(ground_m, 1) + 0.0} m, but the detector learnt a "
            f"ground at {self.ground_m:.1f} m{self._shift(places)}"
        )

    def _shift(self, places: np.ndarray) -> str:
        """The end of a message about heights: what would mend them."""
        lows = lowest_of_cells(places)
        if self.ground_m is None or len(lows) < FEWEST_CELLS:
            return ""
        # The ground is flat, and the tops of what stands on it are not.
        highs = -lowest_of_cells(places * [1, 1, -1])
        if np.std(highs) < np.std(lows):
            return "; z seems to point down: use (x, -y, -z)"
        shift_m = self.ground_m - float(np.median(lows))
        return f"; add {shift_m:+.1f} m to z if the sensor stands at another height"

    def _share_inside(self, x: np.ndarray, y: np.ndarray) -> float:
        """Share of the points inside of the range in x and y."""
        limits = self.point_cloud_range
        inside_x = (x >= limits[0]) & (x <= limits[3])
        inside_y = (y >= limits[1]) & (y <= limits[4])
        return float((inside_x & inside_y).mean())

    def _limits(self, axis: int) -> str:
        low = self.point_cloud_range[axis]
        high = self.point_cloud_range[axis + 3]
        return f"{low:.4g} to {high:.4g}"


def ground_of(places: np.ndarray) -> float | None:
    """Height of the ground in metres around the sensor; None where too little of it is seen."""
    lows = lowest_of_cells(places)
    return float(np.median(lows)) if len(lows) >= FEWEST_CELLS else None


def lowest_of_cells(places: np.ndarray) -> np.ndarray:
    """(K,) the lowest height in each cell of 2 m x 2 m that holds some points.

    In most cells near the sensor the lowest point is on the ground.
    """
    distance = np.linalg.norm(places[:, :2], axis=1)
    near = places[(distance > GROUND_NEAR_M) & (distance < GROUND_FAR_M)]
    cells = np.floor(near[:, :2] / CELL_M).astype(np.int64)
    cells_a_side = int(2 * GROUND_FAR_M / CELL_M) + 1
    cell = cells[:, 0] * cells_a_side + cells[:, 1]
    order = np.lexsort((near[:, 2], cell))
    _, first, count = np.unique(cell[order], return_index=True, return_counts=True)
    return near[order[first[count >= FEWEST_IN_CELL]], 2]


def expected_ground_m(
    dataset: str,
    data_path: Path | None,
    features: Sequence[str],
    model: ConfigDict | None = None,
) -> float | None:
    """Height of the ground in the training data; None if nothing is known of it.

    One of its frames shows it, if they are there. Otherwise it is that of the data set, or where
    the anchors of ``model``, a MODEL block, stand.
    """
    pattern = FRAMES_OF_DATASET.get(dataset)
    if data_path is not None and pattern is not None:
        for frame in data_path.glob(pattern):
            try:
                return ground_of(read_cloud_file(frame, features).points[:, :3])
            except DataError:
                break
    if dataset in GROUND_OF_DATASET:
        return GROUND_OF_DATASET[dataset]
    return _ground_of_anchors(model or {})


def _ground_of_anchors(model: ConfigDict) -> float | None:
    """Median height of the bottoms of the anchors."""
    head = model.get("DENSE_HEAD") or {}
    bottoms: list[float] = []
    for anchors in head.get("ANCHOR_GENERATOR_CONFIG") or ():
        bottoms += anchors.get("anchor_bottom_heights", [])
    return float(np.median(bottoms)) if bottoms else None


def _reach(values: np.ndarray) -> str:
    low, high = np.quantile(values, [0.01, 0.99])
    return f"{low:.4g} to {high:.4g}"
