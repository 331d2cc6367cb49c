// Boxes: corners, edges as lines, the marks of the front, and which box a ray meets first.
// A box is [x, y, z, dx, dy, dz, heading], and vx, vy where it has a velocity.

// The order of ops.boxes: four corners below, from the front left clockwise seen from above, then
// the four above them.
const CORNER_SIGNS = [
  [1, 1, -1], [1, -1, -1], [-1, -1, -1], [-1, 1, -1],
  [1, 1, 1], [1, -1, 1], [-1, -1, 1], [-1, 1, 1],
];
const EDGES = [
  [0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7],
];
const PICK_MARGIN_M = 0.15;  // makes a pedestrian easy to click

/** A place in the box's own axes, from -1 to 1 along each, in metres. */
function inBox(box, [ahead, across, up]) {
  const [x, y, z, dx, dy, dz, heading] = box;
  const forward = ahead * dx / 2;
  const left = across * dy / 2;
  return [
    x + Math.cos(heading) * forward - Math.sin(heading) * left,
    y + Math.sin(heading) * forward + Math.cos(heading) * left,
    z + up * dz / 2,
  ];
}

function cornersOf(box) { return CORNER_SIGNS.map((signs) => inBox(box, signs)); }

/** The twelve edges as pairs of places. */
function edgesOf(box) {
  const corners = cornersOf(box);
  return EDGES.map(([from, to]) => [corners[from], corners[to]]);
}

/** Triangles that mark the front: its face, and on the top a wedge whose tip is at the front. */
function frontOf(box) {
  const [leftBelow, rightBelow, , , leftAbove, rightAbove] = cornersOf(box);
  const face = [leftBelow, rightBelow, rightAbove, leftBelow, rightAbove, leftAbove];
  const wedge = [inBox(box, [1, 0, 1]), inBox(box, [0, 0.5, 1]), inBox(box, [0, -0.5, 1])];
  return { face, wedge };
}

/** Metres along a ray to where it enters a box; null where it misses. */
function entry(ray, box) {
  const [x, y, z, dx, dy, dz, heading] = box;
  const cos = Math.cos(heading);
  const sin = Math.sin(heading);
  const turned = ([a, b, c]) => [cos * a + sin * b, cos * b - sin * a, c];
  const origin = turned(along(ray.origin, [x, y, z], -1));
  const direction = turned(ray.direction);
  let first = 0;
  let last = Infinity;
  for (const [axis, size] of [dx, dy, dz].entries()) {
    const half = size / 2 + PICK_MARGIN_M;
    if (Math.abs(direction[axis]) < 1e-9) {
      if (Math.abs(origin[axis]) > half) return null;
      continue;
    }
    const one = (-half - origin[axis]) / direction[axis];
    const other = (half - origin[axis]) / direction[axis];
    first = Math.max(first, Math.min(one, other));
    last = Math.min(last, Math.max(one, other));
  }
  return first <= last ? first : null;
}

/** The first of the boxes that a ray meets, as an entry of the list; of two it is the smaller. */
function pick(ray, entries) {
  const hits = [];
  for (const candidate of entries) {
    const distance = entry(ray, candidate.box);
    if (distance !== null) hits.push({ candidate, distance });
  }
  if (hits.length === 0) return null;
  const nearest = Math.min(...hits.map((hit) => hit.distance));
  // Boxes of teacher and student overlap: within 2 m a click means the smallest.
  const near = hits.filter((hit) => hit.distance <= nearest + 2);
  const volume = ({ candidate }) => candidate.box[3] * candidate.box[4] * candidate.box[5];
  near.sort((a, b) => volume(a) - volume(b));
  return near[0].candidate;
}

/** Metres from the sensor, along the ground. */
function distanceOf(box) { return Math.hypot(box[0], box[1]); }
