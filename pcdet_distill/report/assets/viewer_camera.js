// The camera: from metres (x forward, y left, z up) to the picture, and rays back from a pixel.
// Matrices are column-major arrays of 16 numbers, as WebGL reads them.

const FIELD_OF_VIEW_RAD = 0.8;
const STEEPEST_RAD = Math.PI / 2 - 0.01;
const CLOSEST_M = 0.5;

function dot(a, b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

function cross(a, b) {
  return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}

/** a + factor * b */
function along(a, b, factor) {
  return [a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2]];
}

/** The product of two matrices. */
function multiply(a, b) {
  const product = new Float32Array(16);
  for (let column = 0; column < 4; column++) {
    for (let row = 0; row < 4; row++) {
      let sum = 0;
      for (let k = 0; k < 4; k++) sum += a[4 * k + row] * b[4 * column + k];
      product[4 * column + row] = sum;
    }
  }
  return product;
}

/** A camera that circles around a target; from above it is parallel, so that lengths compare. */
class Camera {
  /** home: {target: [x, y, z], distance} in metres, what reset() shows. */
  constructor(home) {
    this.home = home;
    this.fromAbove = false;
    this.reset();
  }

  reset() {
    this.target = [...this.home.target];
    this.distance = this.home.distance;
    this.yaw = 0;
    this.pitch = 0.6;
  }

  /** Right, up and forward of the camera, as unit vectors. */
  axes() {
    const pitch = this.fromAbove ? Math.PI / 2 : this.pitch;
    const flat = Math.cos(pitch);
    const forward = [flat * Math.cos(this.yaw), flat * Math.sin(this.yaw), -Math.sin(pitch)];
    const right = [Math.sin(this.yaw), -Math.cos(this.yaw), 0];
    return { right, up: cross(right, forward), forward };
  }

  eye() { return along(this.target, this.axes().forward, -this.distance); }

  /** Half the height of the picture at the target, in metres. */
  halfHeight() { return this.distance * Math.tan(FIELD_OF_VIEW_RAD / 2); }

  /** From metres to clip coordinates. aspect: width / height; reach: metres to the farthest point. */
  matrix(aspect, reach) {
    const { right, up, forward } = this.axes();
    const eye = this.eye();
    const view = new Float32Array([
      right[0], up[0], -forward[0], 0,
      right[1], up[1], -forward[1], 0,
      right[2], up[2], -forward[2], 0,
      -dot(right, eye), -dot(up, eye), dot(forward, eye), 1,
    ]);
    const far = this.distance + reach;
    return multiply(this.fromAbove ? this.parallel(aspect, far) : this.perspective(aspect, far), view);
  }

  perspective(aspect, far) {
    const near = Math.max(0.1, this.distance / 200);
    const scale = 1 / Math.tan(FIELD_OF_VIEW_RAD / 2);
    const depth = 1 / (near - far);
    return [scale / aspect, 0, 0, 0, 0, scale, 0, 0,
      0, 0, (far + near) * depth, -1, 0, 0, 2 * far * near * depth, 0];
  }

  parallel(aspect, far) {
    const half = this.halfHeight();
    return [1 / (half * aspect), 0, 0, 0, 0, 1 / half, 0, 0, 0, 0, -1 / far, 0, 0, 0, 0, 1];
  }

  /** The ray through a place of the picture, x and y from -1 (left, bottom) to 1. */
  ray(x, y, aspect) {
    const { right, up, forward } = this.axes();
    const half = this.halfHeight();
    const origin = this.eye();
    if (this.fromAbove) {
      const start = along(along(origin, right, x * half * aspect), up, y * half);
      return { origin: start, direction: forward };
    }
    const slope = Math.tan(FIELD_OF_VIEW_RAD / 2);
    return { origin, direction: along(along(forward, right, x * slope * aspect), up, y * slope) };
  }

  turn(yaw, pitch) {
    this.yaw += yaw;
    if (!this.fromAbove) {
      this.pitch = Math.min(STEEPEST_RAD, Math.max(-STEEPEST_RAD, this.pitch + pitch));
    }
  }

  /** Move the target over the ground, by metres to the right and forward in the picture. */
  move(right, forward) {
    const side = this.axes().right;
    const ahead = [Math.cos(this.yaw), Math.sin(this.yaw), 0];
    this.target = along(along(this.target, side, right), ahead, forward);
  }

  zoom(factor) {
    const farthest = 20 * this.home.distance;
    this.distance = Math.min(farthest, Math.max(CLOSEST_M, this.distance * factor));
  }
}

/** Where metres land: pixels from the top left, or null behind the camera. */
function project(matrix, place, width, height) {
  const [x, y, z] = place;
  const w = matrix[3] * x + matrix[7] * y + matrix[11] * z + matrix[15];
  if (w <= 0) return null;
  const right = (matrix[0] * x + matrix[4] * y + matrix[8] * z + matrix[12]) / w;
  const up = (matrix[1] * x + matrix[5] * y + matrix[9] * z + matrix[13]) / w;
  return [(right + 1) / 2 * width, (1 - up) / 2 * height];
}
