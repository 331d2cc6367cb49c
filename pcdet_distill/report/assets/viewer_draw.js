// Drawing with WebGL: points, lines of any width, and triangles.

const POINT_VERTEX = `
attribute vec3 place;      // 0 to 1 of the frame's extent
attribute float intensity; // 0 to 1
uniform mat4 matrix;
uniform vec3 low, extent;
uniform vec2 range;        // of the value that gives the colour
uniform int colour;        // 0 height, 1 intensity, 2 distance
uniform float size;
uniform vec3 ramp[5];
varying vec3 tint;
void main() {
  vec3 metres = low + place * extent;
  float value = colour == 0 ? metres.z : colour == 1 ? intensity : length(metres.xy);
  float share = clamp((value - range.x) / max(range.y - range.x, 1e-6), 0.0, 1.0) * 4.0;
  tint = mix(ramp[0], ramp[1], clamp(share, 0.0, 1.0));
  tint = mix(tint, ramp[2], clamp(share - 1.0, 0.0, 1.0));
  tint = mix(tint, ramp[3], clamp(share - 2.0, 0.0, 1.0));
  tint = mix(tint, ramp[4], clamp(share - 3.0, 0.0, 1.0));
  gl_Position = matrix * vec4(metres, 1.0);
  gl_PointSize = size;
}`;
const POINT_FRAGMENT = `
precision mediump float;
varying vec3 tint;
void main() { gl_FragColor = vec4(tint, 1.0); }`;

// WebGL draws lines one pixel wide. So each is two triangles: every corner knows both ends, and
// moves across the line on the screen. The outermost pixel fades, which smooths the line: the
// browser's own smoothing makes the points six times slower where there is no graphics card.
const LINE_VERTEX = `
attribute vec3 start, end;
attribute vec2 corner;     // x: 0 at the start, 1 at the end; y: -1 or 1, the side
attribute vec4 tone;
uniform mat4 matrix;
uniform vec2 screen;       // pixels
uniform float half_width;  // pixels, with the one that fades
varying vec4 tint;
varying float side;
void main() {
  vec4 a = matrix * vec4(start, 1.0);
  vec4 b = matrix * vec4(end, 1.0);
  float near = 0.01;
  if (a.w < near && b.w >= near) a = mix(a, b, (near - a.w) / (b.w - a.w));
  if (b.w < near && a.w >= near) b = mix(b, a, (near - b.w) / (a.w - b.w));
  vec2 way = (b.xy / b.w - a.xy / a.w) * screen;
  way = length(way) > 1e-6 ? normalize(way) : vec2(1.0, 0.0);
  vec4 here = corner.x < 0.5 ? a : b;
  here.xy += vec2(-way.y, way.x) * corner.y * 2.0 * half_width / screen * here.w;
  gl_Position = here;
  tint = tone;
  side = corner.y;
}`;
const LINE_FRAGMENT = `
precision highp float;
uniform float half_width;
varying vec4 tint;
varying float side;
void main() {
  float inwards = (1.0 - abs(side)) * half_width;
  gl_FragColor = vec4(tint.rgb, tint.a * clamp(inwards, 0.0, 1.0));
}`;
const FILL_VERTEX = `
attribute vec3 place;
attribute vec4 tone;
uniform mat4 matrix;
varying vec4 tint;
void main() { gl_Position = matrix * vec4(place, 1.0); tint = tone; }`;
const FILL_FRAGMENT = `
precision mediump float;
varying vec4 tint;
void main() { gl_FragColor = tint; }`;

const LINE_FLOATS = 12;
const FILL_FLOATS = 7;
const LINE_CORNERS = [[0, -1], [0, 1], [1, 1], [0, -1], [1, 1], [1, -1]];
const BYTES_KEPT = 256e6;  // of frames on the graphics card; beyond it all are loaded anew

/** A shader program with the places of its attributes and uniforms. */
function makeProgram(gl, vertex, fragment) {
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) {
      throw new Error(gl.getShaderInfoLog(shader));
    }
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  const names = { attributes: {}, uniforms: {} };
  for (let k = 0; k < gl.getProgramParameter(program, gl.ACTIVE_ATTRIBUTES); k++) {
    const { name } = gl.getActiveAttrib(program, k);
    names.attributes[name] = gl.getAttribLocation(program, name);
  }
  for (let k = 0; k < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); k++) {
    const name = gl.getActiveUniform(program, k).name.replace("[0]", "");
    names.uniforms[name] = gl.getUniformLocation(program, name);
  }
  return { program, ...names };
}

/** Lines [from, to] with a colour [r, g, b, a] each, as floats for LINE_VERTEX. */
function lineVertices(lines) {
  const floats = new Float32Array(lines.length * LINE_CORNERS.length * LINE_FLOATS);
  let place = 0;
  for (const { from, to, tone } of lines) {
    for (const corner of LINE_CORNERS) {
      floats.set([...from, ...to, ...corner, ...tone], place);
      place += LINE_FLOATS;
    }
  }
  return floats;
}

class Painter {
  /** Throws where the browser has no WebGL. */
  constructor(canvas) {
    const gl = canvas.getContext("webgl", { antialias: false, alpha: false });
    if (!gl) throw new Error("no WebGL");
    this.gl = gl;
    this.canvas = canvas;
    this.points = makeProgram(gl, POINT_VERTEX, POINT_FRAGMENT);
    this.lines = makeProgram(gl, LINE_VERTEX, LINE_FRAGMENT);
    this.fills = makeProgram(gl, FILL_VERTEX, FILL_FRAGMENT);
    this.scratch = gl.createBuffer();
    this.loaded = new Map();
    this.bytes = 0;
  }

  clear(colour) {
    const { gl } = this;
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(...colour, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  }

  /** The points of a frame, or every k-th with style.every = k; loaded when first drawn. */
  drawPoints(frame, matrix, style) {
    const { gl } = this;
    if (frame.count === 0) return;
    const { attributes, uniforms, program } = this.points;
    gl.useProgram(program);
    gl.enable(gl.DEPTH_TEST);
    gl.disable(gl.BLEND);
    const buffer = this.bufferOf(frame);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    this.enable(attributes);
    const { every } = style;
    gl.vertexAttribPointer(attributes.place, 3, gl.UNSIGNED_SHORT, true, 6 * every, 0);
    gl.vertexAttribPointer(
      attributes.intensity, 1, gl.UNSIGNED_BYTE, true, every, 6 * frame.count);
    gl.uniformMatrix4fv(uniforms.matrix, false, matrix);
    gl.uniform3fv(uniforms.low, frame.low);
    gl.uniform3fv(uniforms.extent, frame.step.map((step) => step * 65535));
    gl.uniform2fv(uniforms.range, style.range);
    gl.uniform1i(uniforms.colour, style.colour);
    gl.uniform1f(uniforms.size, style.size);
    gl.uniform3fv(uniforms.ramp, style.ramp.flat());
    gl.drawArrays(gl.POINTS, 0, Math.ceil(frame.count / every));
  }

  bufferOf(frame) {
    const { gl } = this;
    if (!this.loaded.has(frame)) {
      const bytes = bytesOf(frame.points);
      if (this.bytes + bytes.length > BYTES_KEPT) this.forget();
      const buffer = gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, bytes, gl.STATIC_DRAW);
      this.loaded.set(frame, buffer);
      this.bytes += bytes.length;
    }
    return this.loaded.get(frame);
  }

  forget() {
    for (const buffer of this.loaded.values()) this.gl.deleteBuffer(buffer);
    this.loaded.clear();
    this.bytes = 0;
  }

  /** Lines over everything, `width` pixels wide; the floats are those of lineVertices. */
  drawLines(floats, matrix, width) {
    const { gl } = this;
    if (floats.length === 0) return;
    const { attributes, uniforms } = this.begin(this.lines, floats, matrix);
    const stride = 4 * LINE_FLOATS;
    gl.vertexAttribPointer(attributes.start, 3, gl.FLOAT, false, stride, 0);
    gl.vertexAttribPointer(attributes.end, 3, gl.FLOAT, false, stride, 12);
    gl.vertexAttribPointer(attributes.corner, 2, gl.FLOAT, false, stride, 24);
    gl.vertexAttribPointer(attributes.tone, 4, gl.FLOAT, false, stride, 32);
    gl.uniform2f(uniforms.screen, this.canvas.width, this.canvas.height);
    gl.uniform1f(uniforms.half_width, width / 2 + 0.5);
    gl.drawArrays(gl.TRIANGLES, 0, floats.length / LINE_FLOATS);
  }

  /** Triangles over everything; the floats are x, y, z, r, g, b, a of each corner. */
  drawFills(floats, matrix) {
    const { gl } = this;
    if (floats.length === 0) return;
    const { attributes } = this.begin(this.fills, floats, matrix);
    const stride = 4 * FILL_FLOATS;
    gl.vertexAttribPointer(attributes.place, 3, gl.FLOAT, false, stride, 0);
    gl.vertexAttribPointer(attributes.tone, 4, gl.FLOAT, false, stride, 12);
    gl.drawArrays(gl.TRIANGLES, 0, floats.length / FILL_FLOATS);
  }

  /** Use a program for transparent shapes with these numbers. */
  begin(program, floats, matrix) {
    const { gl } = this;
    gl.useProgram(program.program);
    gl.disable(gl.DEPTH_TEST);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.scratch);
    gl.bufferData(gl.ARRAY_BUFFER, floats, gl.DYNAMIC_DRAW);
    this.enable(program.attributes);
    gl.uniformMatrix4fv(program.uniforms.matrix, false, matrix);
    return program;
  }

  /** Programs differ in their number of attributes; those of the one before are switched off. */
  enable(attributes) {
    const { gl } = this;
    for (let k = 0; k < 4; k++) gl.disableVertexAttribArray(k);
    for (const place of Object.values(attributes)) gl.enableVertexAttribArray(place);
  }
}

/** The bytes of base64 text. */
function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let k = 0; k < letters.length; k++) bytes[k] = letters.charCodeAt(k);
  return bytes;
}
