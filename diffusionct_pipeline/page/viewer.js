"use strict";
/* Slices before and after, side by side, as their difference, and under one swipe line; all panels move together.
   No library, nothing loaded: the page of `standardize --page` holds this file, `diffusionct app` serves it. */

const PANELS = ["before", "after", "difference", "swipe"];
const WINDOWS = { lung: [-600, 1500], "soft tissue": [40, 400], bone: [500, 2000] }; // level and width in HU
const MOST_ZOOM = 16;
const KEYS = [
  ["Up, Down, Page Up, Page Down", "slice"],
  ["Home, End", "first and last slice"],
  ["Left, Right", "swipe line"],
  ["Shift and an arrow", "move the image"],
  ["+ and −", "zoom"],
  ["0", "whole image"],
  ["L, S, B", "lung, soft tissue, bone"],
  ["A, 1, 2, 3, 4", "all panels, or one"],
];

/** Make an element: its tag, attributes ("text" is its text, "on…" a listener) and children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value);
const hounsfield = (value) => String(value).replace("-", "−");

/** The viewer of one series.
 *
 * series: { count, rows, columns, spacing_mm, numbers: [of each slice in the whole series], slices: how many that has,
 *           kernels: [before, after], load: async index => { before, after } as Int16Array of HU, row by row }
 */
class Viewer {
  constructor(root, series) {
    Object.assign(this, { series, index: series.count >> 1, level: -600, width: 1500, range: 300, swipe: 0.5, view: "all" });
    this.zoom = 1;
    this.centre = [series.columns / 2, series.rows / 2]; // pixel in the middle of each panel
    this.pointer = null; // pixel under the mouse; the middle counts where there is none
    this.touches = new Map();
    this.overlay = null; // (context, toPanel) => draws more on a panel
    this.onslice = null;
    this.images = PANELS.slice(0, 3).map(() => Object.assign(document.createElement("canvas"), { width: series.columns, height: series.rows }));
    this.build(root);
    this.show(this.index);
  }

  build(root) {
    const button = (text, title, action) => make("button", { type: "button", text, title, onclick: action });
    this.windowButtons = Object.fromEntries(Object.keys(WINDOWS).map((name) => [name,
      button(name, `key ${name[0].toUpperCase()}`, () => this.setWindow(...WINDOWS[name]))]));
    const number = (label, value, change) => {
      const input = make("input", { type: "number", step: 10, value, "aria-label": label, onchange: () => change(+input.value) });
      return input;
    };
    this.levelInput = number("level in HU", this.level, (v) => this.setWindow(v, this.width));
    this.widthInput = number("width in HU", this.width, (v) => this.setWindow(this.level, v));
    this.rangeInput = number("range of the difference in HU", this.range, (v) => { this.range = Math.max(1, v); this.paint(); });
    this.viewButtons = Object.fromEntries(["all", ...PANELS].map((name, i) => [name,
      button(name, `key ${i || "A"}`, () => this.setView(name))]));
    this.slider = make("input", { type: "range", min: 0, max: this.series.count - 1, step: 1, "aria-label": "slice",
      oninput: () => this.show(+this.slider.value) });
    this.sliceText = make("output", { class: "slice" });
    this.zoomText = make("output", { class: "zoom" });
    const group = (name, ...children) => make("div", { class: `group ${children[0].tagName.toLowerCase()}s`, role: "group", "aria-label": name },
      make("span", { text: name }), ...children);
    this.reading = make("p", { class: "reading", "aria-live": "polite" });
    const keys = make("dl", {}, ...KEYS.flatMap(([key, what]) => [make("dt", { text: key }), make("dd", { text: what })]));
    this.figures = PANELS.map((name) => this.panel(name));
    this.canvases = this.figures.map((figure) => figure.querySelector("canvas"));
    this.panels = make("div", { class: "panels" }, ...this.figures);
    this.element = make("div", { class: "viewer" },
      make("div", { class: "tools" },
        group("slice", this.slider, this.sliceText),
        group("window", ...Object.values(this.windowButtons)),
        group("level, width", this.levelInput, this.widthInput),
        group("difference ±", this.rangeInput),
        group("zoom", button("−", "key −", () => this.zoomBy(1 / 1.5)), this.zoomText, button("+", "key +", () => this.zoomBy(1.5)),
          button("whole image", "key 0", () => this.reset())),
        group("show", ...Object.values(this.viewButtons))),
      this.reading, this.panels,
      make("details", { class: "keys" }, make("summary", { text: "keyboard and mouse" }), keys,
        make("p", { text: "Wheel: slice. Ctrl and wheel, or two fingers: zoom. Drag: move the image, or the swipe line on its panel. Double click: whole image." })));
    root.replaceChildren(this.element);
    document.addEventListener("keydown", (event) => {
      if (event.target === document.body || this.element.contains(event.target)) this.key(event);
    });
    new ResizeObserver(() => this.paint()).observe(this.panels);
    this.setWindow(this.level, this.width);
    this.setView("all");
  }

  panel(name) {
    const [before, after] = this.series.kernels;
    const captions = { before: `before: ${before}`, after: `after: ${after}`, swipe: "before | after" };
    const caption = make("figcaption");
    if (name === "difference") caption.append("difference ", make("b", { class: "less", text: "less" }), " ", make("b", { class: "more", text: "more" }));
    else caption.textContent = captions[name];
    const canvas = make("canvas", { tabindex: 0, role: "img", "aria-label": name });
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.press(event, name));
    canvas.addEventListener("pointermove", (event) => this.move(event, name));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.touches.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => { this.pointer = null; this.paint(); });
    canvas.addEventListener("dblclick", () => this.reset());
    return make("figure", { class: name }, caption, canvas);
  }

  /** Show a slice; while it is loaded the earlier one stays. */
  async show(index) {
    this.index = index = clamp(index, 0, this.series.count - 1);
    this.slider.value = index;
    const { numbers, slices } = this.series;
    this.sliceText.value = this.slider.ariaValueText = `${numbers[index]} of ${slices}`;
    const loaded = await this.series.load(index);
    if (index !== this.index) return;
    this.loaded = loaded;
    this.paintImages();
    if (this.onslice) this.onslice(index);
  }

  setWindow(level, width) {
    [this.level, this.width] = [level, Math.max(1, width)];
    [this.levelInput.value, this.widthInput.value] = [this.level, this.width];
    for (const [name, of] of Object.entries(WINDOWS)) this.windowButtons[name].setAttribute("aria-pressed", of[0] === level && of[1] === width);
    this.paintImages();
  }

  setView(name) {
    this.view = name;
    for (const [of, button] of Object.entries(this.viewButtons)) button.setAttribute("aria-pressed", of === name);
    this.panels.classList.toggle("one", name !== "all");
    PANELS.forEach((of, i) => { this.figures[i].hidden = name !== "all" && of !== name; });
    this.paint();
  }

  /** HU -> grey, and differences -> blue and orange; then the panels. */
  paintImages() {
    if (!this.loaded) return;
    const { before, after } = this.loaded, low = this.level - this.width / 2;
    const grey = (hu) => { const g = clamp(((hu - low) * 255) / this.width, 0, 255) | 0; return 0xff000000 | (g << 16) | (g << 8) | g; };
    const table = new Uint32Array(65536);
    for (let hu = -32768; hu < 32768; hu++) table[hu & 0xffff] = grey(hu);
    const fill = (image, value) => {
      const context = image.getContext("2d"), data = context.createImageData(image.width, image.height), cells = new Uint32Array(data.data.buffer);
      for (let i = 0; i < cells.length; i++) cells[i] = value(i);
      context.putImageData(data, 0, 0);
    };
    fill(this.images[0], (i) => table[before[i] & 0xffff]);
    fill(this.images[1], (i) => table[after[i] & 0xffff]);
    this.paint();
  }

  paintDifference() {
    const { before, after } = this.loaded, context = this.images[2].getContext("2d");
    const data = context.createImageData(this.images[2].width, this.images[2].height), bytes = data.data;
    for (let i = 0; i < before.length; i++) {
      const share = clamp((after[i] - before[i]) / this.range, -1, 1), [r, g, b] = share < 0 ? [70, 165, 255] : [255, 150, 30], size = Math.abs(share);
      bytes.set([r * size, g * size, b * size, 255], 4 * i);
    }
    context.putImageData(data, 0, 0);
  }

  /** Pixels of the slice that a panel shows: left, top, width, height. */
  seen() {
    const { rows, columns } = this.series, size = [columns / this.zoom, rows / this.zoom];
    this.centre = this.centre.map((c, axis) => clamp(c, size[axis] / 2, (axis ? rows : columns) - size[axis] / 2));
    return [this.centre[0] - size[0] / 2, this.centre[1] - size[1] / 2, ...size];
  }

  /** Pixel (column, row), with fractions, at a place on the screen. */
  pixelAt(canvas, x, y) {
    const box = canvas.getBoundingClientRect(), [left, top, width, height] = this.seen();
    return [left + ((x - box.left) / box.width) * width, top + ((y - box.top) / box.height) * height];
  }

  paint() {
    if (!this.loaded) return;
    const { rows, columns } = this.series, [left, top, width, height] = this.seen();
    const key = `${this.index} ${this.range}`;
    if (!this.figures[2].hidden && this.painted !== key) { this.paintDifference(); this.painted = key; }
    this.zoomText.value = `${this.zoom.toFixed(1)} ×`;
    this.canvases.forEach((canvas, i) => {
      if (this.figures[i].hidden) return;
      const side = Math.round(canvas.clientWidth * devicePixelRatio);
      if (!side) return;
      canvas.width = side;
      canvas.height = Math.round((side * rows) / columns);
      const context = canvas.getContext("2d"), toPanel = ([x, y]) => [((x - left) / width) * canvas.width, ((y - top) / height) * canvas.height];
      context.imageSmoothingEnabled = side < width;
      const draw = (image) => context.drawImage(image, left, top, width, height, 0, 0, canvas.width, canvas.height);
      if (i < 3) draw(this.images[i]);
      else {
        const line = this.swipe * canvas.width;
        draw(this.images[1]);
        context.save();
        context.beginPath();
        context.rect(0, 0, line, canvas.height);
        context.clip();
        draw(this.images[0]);
        context.restore();
        context.fillStyle = "#ffb000";
        context.fillRect(line - devicePixelRatio, 0, 2 * devicePixelRatio, canvas.height);
      }
      if (this.overlay) this.overlay(context, toPanel);
      if (this.pointer) {
        const [x, y] = toPanel(this.pointer.map((c) => Math.floor(c) + 0.5)), arm = 9 * devicePixelRatio, gap = 3 * devicePixelRatio;
        context.strokeStyle = "#ffb000";
        context.lineWidth = devicePixelRatio;
        context.beginPath();
        for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) { context.moveTo(x + dx * gap, y + dy * gap); context.lineTo(x + dx * arm, y + dy * arm); }
        context.stroke();
      }
    });
    this.read();
  }

  /** HU under the pointer, or in the middle. */
  read() {
    const { rows, columns } = this.series, [x, y] = (this.pointer || this.centre).map(Math.floor);
    if (x < 0 || y < 0 || x >= columns || y >= rows) { this.reading.textContent = "\u00a0"; return; }
    const i = y * columns + x, before = this.loaded.before[i], after = this.loaded.after[i];
    this.reading.textContent = `${this.pointer ? "at" : "in the middle, at"} column ${x}, row ${y}: ${hounsfield(before)} → ${hounsfield(after)} HU (${signed(after - before)})`;
  }

  zoomBy(factor, around = this.centre) {
    const before = this.zoom;
    this.zoom = clamp(before * factor, 1, MOST_ZOOM);
    this.centre = this.centre.map((c, axis) => around[axis] + ((c - around[axis]) * before) / this.zoom);
    this.paint();
  }

  reset() {
    this.zoom = 1;
    this.paint();
  }

  moveBy(columns, rows) {
    this.centre = [this.centre[0] + columns, this.centre[1] + rows];
    this.paint();
  }

  setSwipe(share) {
    this.swipe = clamp(share, 0, 1);
    this.paint();
  }

  wheel(event) {
    event.preventDefault();
    if (event.ctrlKey) this.zoomBy(1.2 ** -Math.sign(event.deltaY), this.pixelAt(event.target, event.clientX, event.clientY));
    else this.show(this.index + Math.sign(event.deltaY));
  }

  press(event, name) {
    this.touches.set(event.pointerId, [event.clientX, event.clientY]);
    event.target.setPointerCapture(event.pointerId);
    if (name === "swipe" && this.touches.size === 1) this.swipeTo(event);
  }

  move(event, name) {
    const last = this.touches.get(event.pointerId), now = [event.clientX, event.clientY];
    this.pointer = this.pixelAt(event.target, ...now);
    if (!last) { this.paint(); return; }
    const [, , width] = this.seen(), pixel = width / event.target.clientWidth;
    if (this.touches.size === 2) {
      const other = [...this.touches.entries()].find(([id]) => id !== event.pointerId)[1];
      const distance = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
      this.zoomBy(distance(now) / Math.max(distance(last), 1), this.pixelAt(event.target, (now[0] + other[0]) / 2, (now[1] + other[1]) / 2));
    } else if (name === "swipe") this.swipeTo(event);
    else this.moveBy((last[0] - now[0]) * pixel, (last[1] - now[1]) * pixel);
    this.touches.set(event.pointerId, now);
  }

  swipeTo(event) {
    const box = event.target.getBoundingClientRect();
    this.setSwipe((event.clientX - box.left) / box.width);
  }

  key(event) {
    if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = this.seen()[2] / 16;
    const moves = { ArrowUp: [0, -step], ArrowDown: [0, step], ArrowLeft: [-step, 0], ArrowRight: [step, 0] };
    const actions = {
      ArrowUp: () => this.show(this.index + 1), PageUp: () => this.show(this.index + 1),
      ArrowDown: () => this.show(this.index - 1), PageDown: () => this.show(this.index - 1),
      Home: () => this.show(0), End: () => this.show(this.series.count - 1),
      ArrowLeft: () => this.setSwipe(this.swipe - 0.02), ArrowRight: () => this.setSwipe(this.swipe + 0.02),
      "+": () => this.zoomBy(1.5), "=": () => this.zoomBy(1.5), "-": () => this.zoomBy(1 / 1.5), 0: () => this.reset(),
      l: () => this.setWindow(...WINDOWS.lung), s: () => this.setWindow(...WINDOWS["soft tissue"]), b: () => this.setWindow(...WINDOWS.bone),
      a: () => this.setView("all"), 1: () => this.setView(PANELS[0]), 2: () => this.setView(PANELS[1]), 3: () => this.setView(PANELS[2]), 4: () => this.setView(PANELS[3]),
    };
    const action = event.shiftKey && moves[event.key] ? () => this.moveBy(...moves[event.key]) : actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}
