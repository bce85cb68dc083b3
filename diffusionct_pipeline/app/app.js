"use strict";
/* The page of `diffusionct app`. All state is the server's; this asks for it and shows it. */

const $ = (id) => document.getElementById(id);
let state = null, viewer = null, shownResult = "", region = null, drawn = null;

// -- asking the server ---------------------------------------------------------------------------------------------------

/** Ask the server; its complaint is shown, and undefined is returned. */
async function ask(path, body, headers = {}) {
  const answer = await fetch(path, body === undefined ? {} : { method: "POST", body: body instanceof Blob ? body : JSON.stringify(body), headers });
  const found = await answer.json();
  if (answer.status === 401) return void enter();
  if (answer.ok) return found;
  complain(found.error);
}

function complain(text) {
  $("error").textContent = text;
}

function enter() {
  $("desk").hidden = true;
  $("door").hidden = false;
  $("code").focus();
}

async function refresh() {
  const found = await ask("api/state");
  if (!found) return;
  $("door").hidden = true;
  $("desk").hidden = false;
  const ended = state && state.task && !found.task;
  state = found;
  if (ended || state.error) complain(state.error);
  paint();
  if (state.task) setTimeout(refresh, 500);
}

/** Begin some work on the server, and watch it. */
async function begin(path, body = {}) {
  complain("");
  if (await ask(path, body)) await refresh();
}

// -- showing what it says ------------------------------------------------------------------------------------------------

const NOISE = { keep: "dose kept", target: "noise of the target" };
const NAMES = { characterise: "measuring", standardize: "standardizing" };
const fixed = (value, digits) => (value === null ? "unknown" : value.toFixed(digits));

function table(heads, rows, numbers = []) {
  const kind = (i) => (numbers.includes(i) ? { class: "number" } : {});
  return make("div", { class: "scroll" }, make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((text, i) => make("th", { text, scope: "col", ...kind(i) })))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((text, i) => make("td", { text, ...kind(i) })))))));
}

function paint() {
  const { files, offered, task, known, result } = state, has = files.scans > 0 || offered;
  $("count").value = files.scans ? `${files.scans} files` : offered ? "the folder that was named on the command line" : `none yet; up to ${(state.limit.bytes / 1e9).toFixed(1)} GB`;
  $("clear").disabled = !files.scans || task;
  $("characterise").disabled = $("run").disabled = !has || task;
  $("reference-count").value = files.reference ? `${files.reference} files` : "";
  $("samples").textContent = state.samples;
  $("work").hidden = !task;
  if (task) {
    $("work-text").textContent = task.total ? `${NAMES[task.name]}: ${task.done} of ${task.total}` : `${NAMES[task.name]} …`;
    if (task.total) $("work-bar").value = task.done / task.total; else $("work-bar").removeAttribute("value");
  }
  if (!$("target").options.length) {
    $("target").append(...state.kernels.map((name) => make("option", { text: name })));
    $("target").value = "Br40";
  }
  $("known").hidden = !known;
  if (known) paintKnown(known);
  $("results").hidden = !result;
  const id = result ? result.id : "";
  if (id !== shownResult) { shownResult = id; if (result) paintResult(result); }
}

function paintKnown(known) {
  const row = (s) => [s.name, s.kernel, s.slices, fixed(s.mtf50, 1), s.noise_hu === null ? "unknown" : s.noise_hu.toFixed(0), s.told_by, s.expected, s.remarks.join("; ")];
  $("known").replaceChildren(
    table(["", "kernel", "slices", "MTF50, lp/cm", "noise, HU", "told by", "to the standard", "remarks"], known.series.map(row), [2, 3, 4]),
    ...[...known.advice, ...known.remarks].map((text) => make("p", { text })));
}

function paintResult(result) {
  const problems = [...result.failures, ...(result.stopped ? [result.stopped] : [])];
  if (problems.length) complain(problems.join("; "));
  $("series").replaceChildren(...result.series.map((s, i) => make("option", { value: i, text: `${i + 1}: ${s.kernels.join(" to ")}` })));
  paintSeries(0);
}

function paintSeries(number) {
  const series = state.result.series[number], loaded = new Map();
  region = null;
  $("features").replaceChildren();
  $("outcome").textContent = [...series.facts, ...(series.noise ? [NOISE[series.noise]] : [])].join(" · ");
  $("remarks").replaceChildren(...[...series.remarks, ...series.unlike_training].map((text) => make("li", { text })));
  if (!series.count) { $("viewer").replaceChildren(); viewer = null; return; }
  const size = series.rows * series.columns, indices = series.numbers.map((n) => n - 1);
  series.load = (index) => {
    if (!loaded.has(index)) loaded.set(index, fetch(`api/slice/${number}/${indices[index]}`).then((answer) => answer.arrayBuffer()).then((data) => {
      const both = new Int16Array(data);
      return { before: both.subarray(0, size), after: both.subarray(size) };
    }));
    if (loaded.size > 60) loaded.delete(loaded.keys().next().value);
    return loaded.get(index);
  };
  viewer = new Viewer($("viewer"), series);
  viewer.overlay = overlay;
  [$("cx").value, $("cy").value] = [series.columns >> 1, series.rows >> 1];
  for (const canvas of viewer.canvases) watchDrawing(canvas);
}

// -- files -----------------------------------------------------------------------------------------------------------------

/** Send [path, File] pairs to a place, one after the other. */
async function send(place, files) {
  if (!files.length) return false;
  complain("");
  $("work").hidden = false;
  let all = true;
  for (const [i, [name, file]] of files.entries()) {
    $("work-text").textContent = `reading file ${i + 1} of ${files.length}`;
    $("work-bar").value = i / files.length;
    if (!(await ask(`api/files/${place}`, file, { "x-file-name": encodeURIComponent(name) }))) { all = false; break; }
  }
  await refresh();
  return all;
}

const chosen = (input) => [...input.files].map((file) => [file.webkitRelativePath || file.name, file]);

/** Files below what was dropped, with their paths. */
async function below(entry, path = "") {
  if (entry.isFile) return [[path + entry.name, await new Promise((done, failed) => entry.file(done, failed))]];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return found;
    for (const inner of some) found.push(...(await below(inner, `${path}${entry.name}/`)));
  }
}

async function takeScans(files) {
  if (await send("scans", files)) await begin("api/characterise");
}

for (const id of ["files", "folder"]) $(id).onchange = async () => { await takeScans(chosen($(id))); $(id).value = ""; };
$("drop").ondragover = (event) => { event.preventDefault(); $("drop").classList.add("over"); };
$("drop").ondragleave = () => $("drop").classList.remove("over");
$("drop").ondrop = async (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  await takeScans((await Promise.all(entries.map((entry) => below(entry)))).flat());
};
$("clear").onclick = () => begin("api/clear/scans");
$("reference").onchange = async () => {
  const files = chosen($("reference"));
  if ((await ask("api/clear/reference", {})) && (await send("reference", files))) document.querySelector("[name=way][value=reference]").checked = true;
  $("reference").value = "";
};

// -- work ------------------------------------------------------------------------------------------------------------------

$("characterise").onclick = () => begin("api/characterise");
$("stop").onclick = () => ask("api/stop", {});
$("options").onsubmit = (event) => {
  event.preventDefault();
  const value = (name) => document.querySelector(`[name=${name}]:checked`).value, noise = value("noise");
  begin("api/standardize", { way: value("way"), target: $("target").value, noise: noise === "hu" ? +$("hu").value : noise, intervals: $("intervals").checked });
};
$("series").onchange = () => paintSeries(+$("series").value);

// -- regions ---------------------------------------------------------------------------------------------------------------

/** Outline of the region that was measured, and of the one that is being drawn. */
function overlay(context, toPanel) {
  context.lineWidth = 1.5 * devicePixelRatio;
  const line = (points, colour, closed) => {
    context.strokeStyle = colour;
    context.beginPath();
    points.forEach((point, i) => context[i ? "lineTo" : "moveTo"](...toPanel(point)));
    if (closed) context.closePath();
    context.stroke();
  };
  const index = viewer.series.numbers[viewer.index] - 1;
  for (const points of (region && region.outlines[index]) || []) line(points, "#3cff8f", true);
  if (drawn) line(drawn, "#ff5a5a", false);
}

/** While "draw a region" is pressed, dragging draws; before the viewer sees it. */
function watchDrawing(canvas) {
  const isOn = () => $("draw").getAttribute("aria-pressed") === "true";
  const take = (event) => { event.stopImmediatePropagation(); event.preventDefault(); };
  const on = (name, action) => canvas.parentElement.addEventListener(name, (event) => { if (event.target === canvas && isOn()) action(event); }, true);
  on("pointerdown", (event) => { take(event); canvas.setPointerCapture(event.pointerId); drawn = [viewer.pixelAt(canvas, event.clientX, event.clientY)]; });
  on("pointermove", (event) => { if (!drawn) return; take(event); drawn.push(viewer.pixelAt(canvas, event.clientX, event.clientY)); viewer.paint(); });
  on("pointerup", (event) => {
    if (!drawn) return;
    take(event);
    const points = drawn;
    drawn = null;
    $("draw").setAttribute("aria-pressed", "false");
    measurePoints(points);
  });
}

$("draw").onclick = () => $("draw").setAttribute("aria-pressed", $("draw").getAttribute("aria-pressed") !== "true");
$("circle").onclick = () => {
  const radius = +$("diameter").value / 2 / viewer.series.spacing_mm, turn = (i) => (2 * Math.PI * i) / 72;
  measurePoints(Array.from({ length: 72 }, (_, i) => [+$("cx").value + 0.5 + radius * Math.cos(turn(i)), +$("cy").value + 0.5 + radius * Math.sin(turn(i))]));
};
$("mask").onchange = async () => {
  const files = chosen($("mask"));
  if ((await ask("api/clear/mask", {})) && (await send("mask", files))) await measureFile();
  $("mask").value = "";
};
$("label").onchange = () => measureFile($("label").value);

async function measurePoints(points) {
  $("label").hidden = true;
  await measure({ series: +$("series").value, slice: viewer.series.numbers[viewer.index] - 1, points });
}

async function measureFile(name) {
  const found = await measure({ series: +$("series").value, name });
  if (!found) return;
  $("label").hidden = found.names.length < 2;
  $("label").replaceChildren(...found.names.map((text) => make("option", { text })));
  $("label").value = found.name;
  const middle = found.slices[found.slices.length >> 1], index = viewer.series.numbers.indexOf(middle);
  if (index >= 0) viewer.show(index);
}

async function measure(request) {
  complain("");
  const found = await ask("api/region", request);
  if (!found) return;
  region = found;
  viewer.paint();
  const few = (value) => (value === null ? "undefined" : String(+value.toPrecision(4)).replace("-", "−"));
  const change = (before, after) => (before && after !== null ? `${after >= before ? "+" : "−"}${Math.abs((100 * (after - before)) / before).toFixed(0)} %` : "");
  const intervals = found.rows.some((row) => row[3]);
  const heads = ["feature", "before", "after", "change", ...(intervals ? ["90 % interval of after"] : [])];
  const rows = found.rows.map(([name, before, after, ends]) => [name, few(before), few(after), change(before, after), ...(ends ? [`${few(ends[0])} to ${few(ends[1])}`] : [])]);
  const first = found.slices[0], last = found.slices[found.slices.length - 1];
  const where = `region "${found.name}": ${found.pixels} pixels on slice${first === last ? ` ${first}` : `s ${first} to ${last}`}; `;
  $("features").replaceChildren(
    make("p", {}, where, make("a", { href: "api/features.csv", download: "features.csv", text: "all 1,401 features as CSV" })),
    make("div", { class: "both" },
      table(heads, rows, [1, 2, 3, 4]),
      table(["class", `changed by less than ${(100 * found.within).toFixed(0)} %`], found.classes.map(([name, kept, all]) => [name, `${kept} of ${all}`]), [1])));
  return found;
}

// -- beginning -------------------------------------------------------------------------------------------------------------

$("door").onsubmit = async (event) => {
  event.preventDefault();
  const answer = await fetch("enter", { method: "POST", body: JSON.stringify({ code: $("code").value }) });
  if (answer.ok) { $("door-error").textContent = ""; await refresh(); } else $("door-error").textContent = (await answer.json()).error;
};
fetch("enter").then((answer) => answer.json()).then(({ entered }) => (entered ? refresh() : enter()));
