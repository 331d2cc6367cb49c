// The page: the state, the controls, and drawing when something has changed.

const RING_STEP_M = 20;
const RING_CORNERS = 96;
const PLAY_MS = 200;
// A slow computer draws fewer points while the picture moves, and all of them when it rests.
const SLOW_MS = 60;
const FAST_MS = 25;
const MOST_LEFT_OUT = 40;
const REST_MS = 400;
const CLASS_TONES = {
  light: ["#0072b2", "#c75000", "#00805e", "#a8487f", "#8a6d00", "#6f4bc4",
    "#2b8fc9", "#5b5b5b", "#7a3e00", "#b00058", "#3f6b00", "#00595c"],
  dark: ["#4cc9f0", "#ffb703", "#9ef01a", "#f78fc7", "#c77dff", "#ff6b6b",
    "#80ffdb", "#cccccc", "#ffd6a5", "#70a1ff", "#a7c957", "#e0aaff"],
};
const COLOUR_UNITS = { height: " m", intensity: "", distance: " m" };

const byId = (id) => document.getElementById(id);
const scene = JSON.parse(byId("data").textContent);

const state = {
  frame: 0,
  shown: scene.sources.map(() => true),   // whether each source's boxes are drawn
  hidden: new Set(),                      // classes that are not drawn
  score: scene.score,
  colour: "height",
  boxColour: scene.sources.length > 1 ? "source" : "class",
  size: 2,
  labels: true,
  selected: null,
  playing: null,
  theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
};
const camera = new Camera(scene.home);
const overlay = byId("overlay");
const canvas = byId("scene");
let painter = null;
let colours = null;  // of the theme
let shapes = null;   // of the boxes that are drawn now
let isWaiting = false;
let every = 1;       // of so many points one is drawn
let rest = null;     // the timer that ends a movement

// ---- Colours ----

/** Red, green, blue from 0 to 1 of `#rrggbb`. */
function rgb(text) {
  return [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16) / 255);
}

function readColours() {
  document.documentElement.dataset.theme = state.theme;
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  const ofSource = scene.sources.map((source) => read(source.id));
  const tones = CLASS_TONES[state.theme];
  const ofClass = (entry) => tones[entry.kind % tones.length];
  return {
    ground: rgb(read("ground")),
    ring: rgb(read("ring")),
    panel: read("panel"),
    pale: read("pale"),
    ramp: read("ramp").split(",").map((colour) => rgb(colour.trim())),
    ofSource,
    ofKind: (kind) => tones[kind % tones.length],
    of: (entry) => (state.boxColour === "class" ? ofClass(entry) : ofSource[entry.source]),
  };
}

// ---- Boxes ----

/** A row of the data as an entry with names. */
function entryOf(row) {
  return { ...row, name: scene.classes[row.kind] };
}

function boxesOfFrame() {
  const frame = scene.frames[state.frame];
  if (!frame.entries) frame.entries = frame.boxes.map(entryOf);
  return frame.entries;
}

function isShown(entry) {
  const isCertain = entry.score === null || entry.score >= state.score;
  return state.shown[entry.source] && !state.hidden.has(entry.kind) && isCertain;
}

/** The lines and triangles of the boxes, made anew when frame, choice or colours change. */
function makeShapes() {
  const entries = boxesOfFrame().filter(isShown);
  if (!entries.includes(state.selected)) select(null);
  const lines = [];
  const thick = [];
  const fills = [];
  for (const entry of entries) {
    const tone = rgb(colours.of(entry));
    const list = entry === state.selected ? thick : lines;
    for (const [from, to] of edgesOf(entry.box)) list.push({ from, to, tone: [...tone, 1] });
    const { face, wedge } = frontOf(entry.box);
    for (const place of face) fills.push(...place, ...tone, 0.2);
    for (const place of wedge) fills.push(...place, ...tone, 0.7);
  }
  const rings = ringLines().map(([from, to]) => ({ from, to, tone: [...colours.ring, 1] }));
  return {
    entries,
    rings: lineVertices(rings),
    lines: lineVertices(lines),
    thick: lineVertices(thick),
    fills: new Float32Array(fills),
  };
}

function ringRadii() {
  const radii = [];
  for (let radius = RING_STEP_M; radius <= scene.reach; radius += RING_STEP_M) radii.push(radius);
  return radii.slice(0, 10);
}

/** Rings on the ground around the sensor, and an arrow that points forward. */
function ringLines() {
  const lines = [];
  const at = (radius, angle) =>
    [radius * Math.cos(angle), radius * Math.sin(angle), scene.ground];
  for (const radius of ringRadii()) {
    for (let k = 0; k < RING_CORNERS; k++) {
      const step = 2 * Math.PI / RING_CORNERS;
      lines.push([at(radius, k * step), at(radius, (k + 1) * step)]);
    }
  }
  const tip = at(4, 0);
  lines.push([at(0, 0), tip], [tip, at(3, 0.25)], [tip, at(3, -0.25)]);
  return lines;
}

// ---- Drawing ----

/** Draw at the next frame of the browser; several changes before it cost one drawing. */
function redraw() {
  if (isWaiting || painter === null) return;
  isWaiting = true;
  const asked = performance.now();
  requestAnimationFrame(() => {
    isWaiting = false;
    keepPace(performance.now() - asked);
    draw();
  });
}

/** Choose how many points are drawn by how long the browser let this picture wait. */
function keepPace(waited) {
  if (waited > SLOW_MS) every = Math.min(MOST_LEFT_OUT, Math.ceil(1.5 * every));
  if (waited < FAST_MS) every = Math.max(1, every - 1);
  clearTimeout(rest);
  if (every > 1) rest = setTimeout(showAll, REST_MS);
}

function showAll() {
  every = 1;
  draw();
}

/** The boxes that are drawn have changed. */
function refresh() {
  shapes = null;
  redraw();
}

function draw() {
  if (shapes === null) shapes = makeShapes();
  const frame = scene.frames[state.frame];
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  fit(canvas, width * ratio, height * ratio);
  const matrix = camera.matrix(width / height, 4 * scene.reach + 100);
  painter.clear(colours.ground);
  painter.drawLines(shapes.rings, matrix, ratio);
  painter.drawPoints(frame, matrix, {
    range: shaderRange(),
    colour: ["height", "intensity", "distance"].indexOf(state.colour),
    size: state.size * ratio,
    ramp: colours.ramp,
    every,
  });
  painter.drawFills(shapes.fills, matrix);
  painter.drawLines(shapes.lines, matrix, 1.6 * ratio);
  painter.drawLines(shapes.thick, matrix, 3.5 * ratio);
  drawOverlay(matrix, width, height, ratio);
}

/** The range of the colours as the shader reads it: intensities are stored from 0 to 1. */
function shaderRange() {
  return state.colour === "intensity" ? [0, 1] : scene.ranges[state.colour];
}

function drawOverlay(matrix, width, height, ratio) {
  fit(overlay, width * ratio, height * ratio);
  const context = overlay.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  drawRingLabels(context, ringRadii(), scene.ground, matrix, width, height, colours);
  if (!state.labels) return;
  const labels = placeLabels(context, shapes.entries, matrix, width, height, state.selected);
  drawLabels(context, labels, colours);
}

/** Give a canvas as many pixels as it shows. */
function fit(element, width, height) {
  if (element.width !== Math.round(width)) element.width = Math.round(width);
  if (element.height !== Math.round(height)) element.height = Math.round(height);
}

// ---- Choosing a box ----

function clicked(x, y) {
  if (painter === null) return;
  if (shapes === null) shapes = makeShapes();
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  const ray = camera.ray(2 * x / width - 1, 1 - 2 * y / height, width / height);
  select(pick(ray, shapes.entries));
  refresh();
}

function select(entry) {
  state.selected = entry;
  const box = byId("details");
  box.hidden = entry === null;
  box.replaceChildren();
  if (entry === null) return;
  const close = make("button", "×", { type: "button", title: "Close" });
  close.onclick = () => { select(null); refresh(); };
  const table = make("table");
  for (const [name, value] of numbersOf(entry)) {
    const row = table.insertRow();
    row.append(make("td", name), make("td", value));
  }
  box.append(close, make("h2", entry.name), table);
}

/** What a click on a box shows: names and values as text. */
function numbersOf(entry) {
  const [x, y, z, dx, dy, dz, heading, vx, vy] = entry.box;
  const turn = 360;
  const degrees = ((heading * 180 / Math.PI) % turn + turn) % turn;
  const rows = [
    ["from", scene.sources[entry.source].title],
    ["score", entry.score === null ? "" : entry.score.toFixed(3)],
    ["distance", `${distanceOf(entry.box).toFixed(2)} m`],
    ["x, y, z", `${x.toFixed(2)}, ${y.toFixed(2)}, ${z.toFixed(2)} m`],
    ["length, width, height", `${dx.toFixed(2)}, ${dy.toFixed(2)}, ${dz.toFixed(2)} m`],
    ["heading", `${degrees.toFixed(1)}°`],
    ["speed", vx === undefined ? "" : speedText(vx, vy)],
    ["points inside", String(entry.points)],
  ];
  return rows.filter(([, value]) => value !== "");
}

function speedText(vx, vy) {
  return vx === null || vy === null ? "unknown" : `${Math.hypot(vx, vy).toFixed(2)} m/s`;
}

// ---- The panel ----

function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function showFrame(number) {
  const last = scene.frames.length - 1;
  state.frame = Math.min(last, Math.max(0, number));
  const frame = scene.frames[state.frame];
  byId("frame").value = state.frame;
  byId("frame-number").value = `${state.frame + 1} of ${scene.frames.length}`;
  byId("frame-name").textContent = frame.name;
  const points = `${frame.count.toLocaleString("en")} points`;
  byId("frame-notes").textContent = [points, ...frame.notes].join("; ");
  select(null);
  showCounts();
  refresh();
}

/** How many boxes each source has in this frame, and how many of them are drawn. */
function showCounts() {
  scene.sources.forEach((source, number) => {
    const own = boxesOfFrame().filter((entry) => entry.source === number);
    const passed = own.filter((entry) => entry.score === null || entry.score >= state.score);
    const text = passed.length < own.length ? `${passed.length} of ${own.length}` : own.length;
    byId(`count-${source.id}`).textContent = ` ${text}`;
  });
}

function play() {
  const isPlaying = state.playing !== null;
  clearInterval(state.playing);
  const next = () => showFrame((state.frame + 1) % scene.frames.length);
  state.playing = isPlaying ? null : setInterval(next, PLAY_MS);
  byId("play").textContent = isPlaying ? "Play" : "Pause";
}

function lookFrom(fromAbove) {
  camera.fromAbove = fromAbove;
  byId("bev").setAttribute("aria-pressed", fromAbove);
  byId("free").setAttribute("aria-pressed", !fromAbove);
  redraw();
}

/** A box to tick with a swatch of its colour. */
function choice(text, isOn, onChange) {
  const label = make("label");
  const input = make("input", "", { type: "checkbox" });
  input.checked = isOn;
  input.onchange = () => { onChange(input.checked); refresh(); };
  const swatch = make("span", "", { class: "swatch" });
  label.append(input, swatch, text);
  return { label, swatch };
}

const swatches = [];  // {element, colour(): the colour it shows now, or null to hide}

function fillBoxesPanel() {
  byId("boxes").hidden = scene.sources.length === 0;
  scene.sources.forEach((source, number) => {
    const { label, swatch } = choice(source.title, true, (on) => { state.shown[number] = on; });
    label.append(make("span", "", { class: "count", id: `count-${source.id}` }));
    byId("sources").append(label);
    const colour = () => (state.boxColour === "source" ? colours.ofSource[number] : null);
    swatches.push({ element: swatch, colour });
  });
  scene.classes.forEach((name, kind) => {
    const change = (on) => { if (on) state.hidden.delete(kind); else state.hidden.add(kind); };
    const { label, swatch } = choice(name, true, change);
    byId("classes").append(label);
    const colour = () => (state.boxColour === "class" ? colours.ofKind(kind) : null);
    swatches.push({ element: swatch, colour });
  });
  byId("score-line").hidden = !scene.has_scores;
}

/** Take the colours of the theme and of the chosen kind of colouring. */
function showColours() {
  colours = readColours();
  for (const { element, colour } of swatches) {
    element.hidden = colour() === null;
    element.style.background = colour() || "";
  }
  byId("theme").textContent = state.theme === "dark" ? "Light" : "Dark";
  showScale();
  refresh();
}

function showScale() {
  const [low, high] = scene.ranges[state.colour];
  const digits = high - low < 10 ? 1 : 0;
  const unit = COLOUR_UNITS[state.colour];
  byId("scale-low").textContent = `${state.colour} ${low.toFixed(digits)}${unit}`;
  byId("scale-high").textContent = `${high.toFixed(digits)}${unit}`;
}

/** Bind a control: show its value as text, and tell the change. */
function bind(id, value, onInput, text = String) {
  const control = byId(id);
  control.value = value;
  const output = byId(`${id}-value`);
  const show = () => { if (output) output.value = text(Number(control.value)); };
  show();
  control.oninput = () => { show(); onInput(control.value); };
}

function fillPanel() {
  document.title = scene.title;
  byId("title").textContent = scene.title;
  for (const kind of ["height", "intensity", "distance"]) {
    if (scene.ranges[kind]) byId("colour").append(make("option", kind, { value: kind }));
  }
  for (const note of scene.notes) byId("notes").append(make("li", note));
  byId("about").hidden = scene.notes.length === 0;
  byId("frame").max = scene.frames.length - 1;
  for (const id of ["before", "frame", "after", "play"]) {
    byId(id).hidden = scene.frames.length === 1;
  }
  fillBoxesPanel();
  bind("frame", 0, (value) => showFrame(Number(value)));
  bind("colour", state.colour, (value) => { state.colour = value; showScale(); redraw(); });
  bind("size", state.size, (value) => { state.size = Number(value); redraw(); });
  const score = (value) => { state.score = Number(value); showCounts(); refresh(); };
  bind("score", state.score, score, (value) => value.toFixed(2));
  bind("box-colour", state.boxColour, (value) => { state.boxColour = value; showColours(); });
  byId("labels").onchange = (event) => { state.labels = event.target.checked; redraw(); };
}

function bindButtons() {
  const step = (by) => showFrame(state.frame + by);
  const reset = () => { camera.reset(); redraw(); };
  byId("before").onclick = () => step(-1);
  byId("after").onclick = () => step(1);
  byId("play").onclick = play;
  byId("bev").onclick = () => lookFrom(true);
  byId("free").onclick = () => lookFrom(false);
  byId("reset").onclick = reset;
  byId("theme").onclick = () => {
    state.theme = state.theme === "dark" ? "light" : "dark";
    showColours();
  };
  byId("panel-button").onclick = () => { byId("panel").classList.toggle("closed"); redraw(); };
  const keys = {
    ...cameraKeys(camera),
    ",": () => step(-1), ".": () => step(1), " ": play,
    b: () => lookFrom(true), f: () => lookFrom(false), r: reset,
    Escape: () => { select(null); refresh(); },
  };
  listenToKeys(keys, redraw);
}

function start() {
  fillPanel();
  bindButtons();
  try {
    painter = new Painter(canvas);
  } catch (error) {
    byId("problem").textContent =
      "This browser shows no WebGL, which the points need: switch on hardware acceleration or " +
      "WebGL in its settings, or open this file in another browser.";
    byId("problem").hidden = false;
  }
  showColours();
  showFrame(0);
  lookFrom(false);
  steer(canvas, camera, redraw, clicked);
  new ResizeObserver(redraw).observe(canvas);
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", () => {
    painter = new Painter(canvas);
    redraw();
  });
}

start();
