// Puts the page together.

const data = JSON.parse(byId("payload").textContent);
const methodNames = unique(data.entries.map((entry) => entry.method)).sort();
data.methods = methodNames;
const entryOf = (model, method) => data.entries.find((entry) => entry.model === model && entry.method === method);
const modelOf = (name) => data.models.find((model) => model.name === name);
data.differenceEnd = farEnd(data.entries.flatMap((entry) => {
  const model = modelOf(entry.model);
  return entry.matrix.flatMap((row) => row.map((value, at) => difference(value, model.baseline[at])).filter(isKnown));
}));

// ---------------------------------------------------------------- looks and legends

const DASHES = [null, "6 3", "2 3", "8 3 2 3"];
const COLOURS = 8;
const lookAt = (k) => ({ colour: `var(--series-${k % COLOURS})`, dash: DASHES[Math.floor(k / COLOURS) % DASHES.length] });
const lookOf = (method) => (method === "pretrained" ? { colour: "var(--before)", dash: "4 3" } : lookAt(methodNames.indexOf(method)));
const colourOf = (method) => lookOf(method).colour;
const setLook = (name) => lookAt(data.sets.indexOf(name) - 1);

const swatch = (look) => svg("svg", { viewBox: "0 0 22 10", "aria-hidden": "true" },
  svg("line", { class: "series", x1: 1, x2: 21, y1: 5, y2: 5, "--colour": look.colour, "stroke-dasharray": look.dash }));
const key = (name, colour) => html("span", { class: "swatch" }, html("i", { "--colour": colour }), name);

// Buttons that show and hide series; `hidden` names the part of the state that lists the latter.
function legend(box, names, hidden, look, redraw) {
  box.replaceChildren(...names.map((name) => {
    const isHidden = state[hidden].includes(name);
    const button = html("button", { type: "button", "aria-pressed": String(!isHidden) }, swatch(look(name)), name);
    button.addEventListener("click", () => {
      state[hidden] = isHidden ? state[hidden].filter((one) => one !== name) : [...state[hidden], name];
      redraw();
      [...box.children][names.indexOf(name)].focus();
    });
    return button;
  }));
}

// ---------------------------------------------------------------- one choice of model and method

const CONTROLS = ["entry-controls", "radar-controls", "epochs-controls", "scatter-controls"].map(byId).filter(Boolean);

function choose(model, method) {
  state.model = model;
  state.method = method;
  for (const form of CONTROLS) {
    options(form.elements.model, unique(data.entries.map((entry) => entry.model)), model);
  }
  for (const form of CONTROLS.filter((one) => ["entry-controls", "scatter-controls"].includes(one.id))) {
    options(form.elements.method, methodNames, method);
  }
  drawHeatMap();
  drawRadars();
  if (data.distances) drawDistances();
  chooseCurves(trained().includes(method) ? method : state.curvesMethod);
}

// The methods of the chosen model that train at all.
const trained = () => unique(data.training.filter((one) => one.model === state.model).map((one) => one.method));

function chooseCurves(method) {
  const names = trained();
  state.curvesMethod = names.includes(method) ? method : names[0];
  options(byId("epochs-controls").elements.method, names, state.curvesMethod);
  drawCurves();
}

function setUpCharts() {
  const hasEntry = state.model !== null && entryOf(state.model, state.method);
  const first = data.entries[0];
  if (!first) {
    for (const section of document.querySelectorAll(".drawn")) section.hidden = true;
    return;
  }
  if (!hasEntry) [state.model, state.method] = [first.model, first.method];
  byId("epochs").hidden = !data.training.length;
  for (const form of CONTROLS) {
    form.addEventListener("change", (event) => {
      const { name, value } = event.target;
      if (name === "shown") { state.shown = value; drawHeatMap(); }
      else if (name === "model") choose(value, state.method);
      else if (form.id === "epochs-controls") chooseCurves(value);
      else choose(state.model, value);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
  }
  byId("entry-controls").elements.shown.value = state.shown;
  for (const link of document.querySelectorAll("#board .entry")) {
    link.addEventListener("click", () => {
      const row = link.closest("tr");
      choose(row.dataset.model, row.dataset.method);
    });
  }
  choose(state.model, state.method);

  const bars = byId("bars-controls").elements.method;
  if (!methodNames.includes(state.barsMethod)) state.barsMethod = methodNames.includes("ft") ? "ft" : methodNames[0];
  options(bars, methodNames, state.barsMethod);
  bars.addEventListener("change", () => { state.barsMethod = bars.value; drawBars(); });
  drawBars();
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    drawBars();
    if (data.distances) drawDistances();
  });
}

// Paper has no way to open what is folded away.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll(".missing:not([open]), .failures details:not([open])")];
  for (const one of folded) one.open = true;
});
addEventListener("afterprint", () => { for (const one of folded) one.open = false; });

history.scrollRestoration = "manual";
const kept = restore();
setUpTheme();
setUpBoard();
setUpCharts();
goBack(kept);
addEventListener("pagehide", keep);
if (document.body.dataset.every) watchFile(Number(document.body.dataset.every));
document.documentElement.dataset.ready = "";
