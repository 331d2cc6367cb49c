// Mouse, touch and keys: what they do to the camera, and what counts as a click.

const TURN_RAD_PER_PIXEL = 0.006;
const KEY_TURN_RAD = 0.08;
const KEY_MOVE = 0.05;       // of the distance
const KEY_ZOOM = 1.12;
const CLICK_PIXELS = 5;      // a longer way is a drag

/** Let a canvas steer a camera. changed() is called after a movement, clicked(x, y) in pixels. */
function steer(canvas, camera, changed, clicked) {
  const pointers = new Map();  // id -> where it is
  let travelled = 0;

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (pointers.size === 1) travelled = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.offsetX, event.offsetY];
    const way = [now[0] - before[0], now[1] - before[1]];
    travelled += Math.hypot(...way);
    if (pointers.size === 2) {
      pinch(pointers, event.pointerId, now);
    } else if (camera.fromAbove || event.shiftKey || event.buttons & 6) {
      drag(...way);
    } else {
      camera.turn(-way[0] * TURN_RAD_PER_PIXEL, way[1] * TURN_RAD_PER_PIXEL);
    }
    pointers.set(event.pointerId, now);
    changed();
  });
  canvas.addEventListener("pointerup", (event) => {
    const isClick = pointers.size === 1 && travelled < CLICK_PIXELS && event.button === 0;
    pointers.delete(event.pointerId);
    if (isClick) clicked(event.offsetX, event.offsetY);
  });
  canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    camera.zoom(Math.exp(event.deltaY * lines * 0.0012));
    changed();
  }, { passive: false });

  /** Move the ground with the pointer. */
  function drag(x, y) {
    const metres = 2 * camera.halfHeight() / canvas.clientHeight;
    camera.move(-x * metres, y * metres);
  }

  /** Two fingers: the way between them zooms, their middle moves. */
  function pinch(places, moved, now) {
    const [other] = [...places].filter(([id]) => id !== moved).map(([, place]) => place);
    const before = places.get(moved);
    const gap = (place) => Math.max(10, Math.hypot(place[0] - other[0], place[1] - other[1]));
    camera.zoom(gap(before) / gap(now));
    drag((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
  }
}

/** What the keys do to a camera. */
function cameraKeys(camera) {
  const step = () => KEY_MOVE * camera.distance;
  return {
    ArrowLeft: () => camera.turn(KEY_TURN_RAD, 0),
    ArrowRight: () => camera.turn(-KEY_TURN_RAD, 0),
    ArrowUp: () => camera.turn(0, KEY_TURN_RAD),
    ArrowDown: () => camera.turn(0, -KEY_TURN_RAD),
    w: () => camera.move(0, step()),
    s: () => camera.move(0, -step()),
    a: () => camera.move(-step(), 0),
    d: () => camera.move(step(), 0),
    "+": () => camera.zoom(1 / KEY_ZOOM),
    "=": () => camera.zoom(1 / KEY_ZOOM),
    "-": () => camera.zoom(KEY_ZOOM),
  };
}

/** Call the action of a key, except where something that reads keys itself has the focus. */
function listenToKeys(actions, changed) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const name = event.target.tagName;
    if (name === "SELECT" || name === "INPUT" || name === "SUMMARY") return;
    if (name === "BUTTON" && (event.key === " " || event.key === "Enter")) return;
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
    changed();
  });
}
