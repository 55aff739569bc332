// The accuracy matrix of one entry, as a table whose cells are coloured.

// Where a scale around 0 ends: a round number that 98 of 100 values are within. One method that
// breaks a model would otherwise leave no colour to all the others.
function farEnd(values) {
  const sizes = values.map(Math.abs).sort((a, b) => a - b);
  const most = sizes.length ? sizes[Math.floor(0.98 * (sizes.length - 1))] : 0;
  return [1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 75].find((one) => one >= most) || 100;
}

function paintDifference(cell, value, end) {
  cell.dataset.side = value < 0 ? "below" : "above";
  cell.style.setProperty("--share", `${round(Math.min(Math.abs(value) / end, 1) * 100)}%`);
}

function paintAccuracy(cell, value) {
  cell.dataset.side = "amount";
  cell.style.setProperty("--share", `${round(value)}%`);
}

const limits = (entry, k, at) => (isKnown(entry.low[k][at])
  ? ` (95% interval ${percent(entry.low[k][at])} to ${percent(entry.high[k][at])})` : "");

const difference = (value, before) => (isKnown(value) && isKnown(before) ? value - before : null);

function drawHeatMap() {
  const entry = entryOf(state.model, state.method);
  const model = modelOf(state.model);
  if (!entry || !model) {
    byId("heat-map").replaceChildren(html("p", { class: "empty" }, "This method is not asked for on this model."));
    return;
  }
  const isDifference = state.shown === "difference";
  const end = data.differenceEnd;
  const before = model.baseline;

  const cell = (downstream, at, value, interval = "") => {
    const name = data.sets[at];
    const isOwn = downstream === name;
    const mark = (data.contaminated[downstream] || []).includes(name) ? "†" : "";
    const shown = isDifference ? difference(value, before[at]) : value;
    const one = html("td", { class: `tint${isOwn ? " own" : ""}${at === 1 ? " apart" : ""}` });
    if (!isKnown(shown)) {
      one.classList.replace("tint", "hole");
      one.textContent = "—";
      one.title = "missing";
      return one;
    }
    one.textContent = (isDifference ? signed(shown, 1) : percent(shown)) + mark;
    one.title = `${downstream ? `tuned on ${downstream}` : "pre-trained"}, tested on ${name}: ${percent(value)} %${interval}`
      + (downstream ? `, ${signed(difference(value, before[at]))} points` : "") + (mark ? "; contaminated" : "");
    if (isDifference) paintDifference(one, shown, end);
    else paintAccuracy(one, shown);
    return one;
  };
  const total = (value, downstream) => {
    const others = data.sets.slice(1);
    const mark = (data.contaminated[downstream] || []).some((name) => others.includes(name)) ? "†" : "";
    const one = html("td", { class: "tint total apart" }, signed(value) + (isKnown(value) ? mark : ""));
    if (isKnown(value)) paintDifference(one, value, end);
    else one.classList.replace("tint", "hole");
    return one;
  };
  const head = html("tr", {}, html("th", { scope: "col" }, "tuned on"),
    ...data.short.map((name, at) => html("th", { scope: "col", class: at === 1 ? "apart" : null, title: data.sets[at] },
      name, at === 0 ? html("small", {}, "ID") : null)),
    html("th", { scope: "col", class: "apart" }, "RI"));
  const first = html("tr", { class: "first" }, html("th", { scope: "row" }, "nothing"),
    ...before.map((value, at) => cell(null, at, value)), html("td", { class: "apart" }));
  const rows = entry.matrix.map((values, k) => html("tr", {},
    html("th", { scope: "row", title: data.sets[k + 1] }, data.short[k + 1]),
    ...values.map((value, at) => cell(data.sets[k + 1], at, value, limits(entry, k, at))),
    total(entry.ri[k], data.sets[k + 1])));
  const seeds = entry.seeds > 1 ? `, mean over ${entry.seeds} seeds` : "";
  const caption = html("caption", {}, html("b", {}, entry.method), ` on ${entry.model}: mRI `,
    html("b", {}, signed(entry.mri)), seeds, entry.missing ? html("span", { class: "quiet" }, ` (${entry.missing} values missing)`) : null);
  const table = html("table", { class: "heat" }, caption, html("thead", {}, head),
    html("tbody", {}, ...(isDifference ? [] : [first]), ...rows));
  const scale = isDifference
    ? html("div", { class: "scale" }, html("span", {}, `−${end}`), html("i", { "data-scale": "difference" }), html("span", {}, `+${end} points`),
      html("span", {}, "What lies beyond has the colour of the end."))
    : html("div", { class: "scale" }, html("span", {}, "0"), html("i", { "data-scale": "accuracy" }), html("span", {}, "100 % accuracy"));
  byId("heat-map").replaceChildren(
    html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Accuracy matrix" }, table), scale);
}
