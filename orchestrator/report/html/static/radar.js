// Radar charts: for one model and each set that was tuned on, what every method reaches on all sets.

function drawRadars() {
  const model = modelOf(state.model);
  const entries = data.entries.filter((entry) => entry.model === state.model)
    .sort((a, b) => methodNames.indexOf(a.method) - methodNames.indexOf(b.method));
  if (state.hiddenMethods === null) state.hiddenMethods = tooMany(entries);
  legend(byId("radar-legend"), ["pretrained", ...entries.map((entry) => entry.method)], "hiddenMethods", lookOf, drawRadars);
  const shown = entries.filter((entry) => !state.hiddenMethods.includes(entry.method));
  byId("radars").replaceChildren(...data.sets.slice(1).map((name, k) => html("figure", {},
    html("h3", {}, `tuned on ${name}`), radar(model, shown, k))));
}

// Of more methods than can be told apart, all but those that do best here are hidden at first.
function tooMany(entries) {
  if (entries.length <= COLOURS) return [];
  const ranked = [...entries].sort((a, b) => (isKnown(b.mri) ? b.mri : -Infinity) - (isKnown(a.mri) ? a.mri : -Infinity));
  return ranked.slice(5).map((entry) => entry.method);
}

function radar(model, entries, k) {
  const [width, height] = [300, 236];
  const [cx, cy, radius] = [width / 2, height / 2 + 3, 84];
  const n = data.sets.length;
  const at = (axis, value) => {
    const angle = (2 * Math.PI * axis) / n - Math.PI / 2;
    return [round(cx + (radius * value / 100) * Math.cos(angle)), round(cy + (radius * value / 100) * Math.sin(angle))];
  };
  const outline = (values) => values.map((value, axis) => at(axis, value).join(",")).join(" ");
  const parts = [25, 50, 75, 100].map((value) => svg("polygon", { class: value === 100 ? "axis" : "grid", points: outline(Array(n).fill(value)) }));
  data.short.forEach((name, axis) => {
    const [x, y] = at(axis, 100);
    const [lx, ly] = at(axis, 114);
    const anchor = Math.abs(lx - cx) < 12 ? "middle" : lx < cx ? "end" : "start";
    parts.push(svg("line", { class: "grid", x1: cx, y1: cy, x2: x, y2: y }));
    parts.push(svg("text", { class: axis === k + 1 ? "strong" : "quiet", x: lx, y: ly + 4, "text-anchor": anchor }, shortened(name, 14)));
  });
  parts.push(svg("text", { class: "quiet small", x: at(0, 50)[0] + 3, y: at(0, 50)[1] + 3 }, "50"));
  const area = (values, name, attributes) => {
    if (!values.every(isKnown)) return null; // a shape with a hole in it would mislead
    return titled(svg("polygon", { class: "area", points: outline(values), ...attributes }), name);
  };
  if (!state.hiddenMethods.includes("pretrained")) parts.push(area(model.baseline, "pretrained", { class: "area before" }));
  for (const entry of entries) {
    const look = lookOf(entry.method);
    parts.push(area(entry.matrix[k], entry.method, { "--colour": look.colour, "stroke-dasharray": look.dash }));
  }
  const drawn = parts.filter((part) => part !== null);
  const listed = entries.filter((entry) => entry.matrix[k].every(isKnown)).map((entry) => entry.method).join(", ");
  return picture(width, height, `Accuracy on every set after fine-tuning on ${data.sets[k + 1]}: ${listed || "nothing complete yet"}`, ...drawn);
}
