// Text over the picture: a label above each box, and the metres of the rings. Labels do not cover
// each other; where there is no room, the less certain and the farther ones give way.

const MOST_LABELS = 150;
const LABEL_FONT = "600 12px system-ui, sans-serif";
const RING_FONT = "11px system-ui, sans-serif";
const LABEL_HEIGHT = 16;
const LABEL_PLACES = [-24, -41, -58, 8];  // pixels from a box's top: teacher's over student's

/** `Car 0.87, 23 m` */
function labelText(entry) {
  const score = entry.score === null ? "" : ` ${entry.score.toFixed(2)}`;
  return `${entry.name}${score}, ${distanceOf(entry.box).toFixed(0)} m`;
}

/** The more certain before the less certain, labels first of all, then the nearer. */
function byImportance(a, b) {
  const certainty = (entry) => (entry.score === null ? 1 : entry.score);
  return certainty(b) - certainty(a) || distanceOf(a.box) - distanceOf(b.box);
}

/** Where labels go: [{entry, text, left, top, width}], in pixels. */
function placeLabels(context, entries, matrix, width, height, selected) {
  const order = [...entries].sort(byImportance);
  if (selected) order.unshift(...order.splice(order.indexOf(selected), 1));
  const placed = [];
  context.font = LABEL_FONT;
  for (const entry of order) {
    if (placed.length >= MOST_LABELS) break;
    const [x, y, z, , , dz] = entry.box;
    const above = project(matrix, [x, y, z + dz / 2], width, height);
    if (!above) continue;
    const text = labelText(entry);
    const size = context.measureText(text).width + 8;
    const isInside = above[0] > 0 && above[0] < width && above[1] > 0 && above[1] < height;
    const labels = LABEL_PLACES.map((offset) =>
      ({ entry, text, left: above[0] - size / 2, top: above[1] + offset, width: size }));
    const free = labels.find((label) => placed.every((other) => !collide(label, other)));
    if (isInside && free) placed.push(free);
  }
  return placed;
}

function collide(a, b) {
  const isBeside = a.left + a.width < b.left || b.left + b.width < a.left;
  return !isBeside && Math.abs(a.top - b.top) < LABEL_HEIGHT;
}

function drawLabels(context, labels, colours) {
  context.font = LABEL_FONT;
  context.textBaseline = "middle";
  context.textAlign = "left";
  for (const label of labels) {
    context.globalAlpha = 0.8;
    context.fillStyle = colours.panel;
    context.fillRect(label.left, label.top, label.width, LABEL_HEIGHT);
    context.globalAlpha = 1;
    context.fillStyle = colours.of(label.entry);
    context.fillText(label.text, label.left + 4, label.top + LABEL_HEIGHT / 2 + 0.5);
  }
}

/** The radius of each ring, in front of the sensor. */
function drawRingLabels(context, rings, ground, matrix, width, height, colours) {
  context.font = RING_FONT;
  context.textAlign = "center";
  context.fillStyle = colours.pale;
  for (const radius of rings) {
    const place = project(matrix, [radius, 0, ground], width, height);
    if (place) context.fillText(`${radius} m`, place[0], place[1] - 7);
  }
}
