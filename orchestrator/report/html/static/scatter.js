// OTDD against the ID drop, a point for each set that was tuned on.

function drawDistances() {
  const figure = byId("scatter");
  const all = data.distances.points;
  const own = all.filter((one) => one.model === state.model && one.method === state.method);
  const points = own.filter((one) => isKnown(one.drop));
  if (!points.length) {
    figure.replaceChildren(html("p", { class: "empty" }, "No drop of this model and method is known yet."));
    return;
  }
  const width = Math.max(300, Math.min(680, figure.clientWidth || 680));
  const height = Math.round(Math.max(280, width * 0.58));
  const [left, right, top, bottom] = [46, 60, 14, 44];
  const padded = (values, least) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = Math.max(0.08 * (high - low), least);
    return [low - room, high + room];
  };
  const [x0, x1] = padded(points.map((one) => one.otdd), 1e-9);
  const [y0, y1] = padded([0, ...points.map((one) => one.drop)], 0.1);
  const x = (value) => round(left + ((value - x0) / (x1 - x0)) * (width - left - right));
  const y = (value) => round(top + (1 - (value - y0) / (y1 - y0)) * (height - top - bottom));
  const parts = [];
  const steps = (values) => Math.max(0, -Math.floor(Math.log10(values[1] - values[0] || 1)));
  const [across, up] = [ticks(x0, x1, 5), ticks(y0, y1, 5)];
  for (const tick of up) {
    parts.push(svg("line", { class: tick === 0 ? "axis" : "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
    parts.push(svg("text", { class: "quiet", x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, written(tick, steps(up))));
  }
  for (const tick of across) {
    parts.push(svg("text", { class: "quiet", x: x(tick), y: height - bottom + 18, "text-anchor": "middle" }, written(tick, steps(across))));
  }
  parts.push(svg("text", { class: "quiet", x: width - right, y: height - 4, "text-anchor": "end" }, `OTDD to ${data.id}`));
  const names = points.map(({ downstream }) => data.short[data.sets.indexOf(downstream)]
    + ((data.contaminated[downstream] || []).includes(data.id) ? "†" : ""));
  const labels = placed(points.map(({ otdd, drop }, k) => ({ x: x(otdd), y: y(drop), width: 7 * names[k].length })), left);
  for (const { downstream, otdd, drop } of points) {
    parts.push(titled(svg("circle", { class: "mark", cx: x(otdd), cy: y(drop), r: 4.5, "--colour": setLook(downstream).colour }),
      `${downstream}: OTDD ${otdd.toPrecision(4)}, drop ${signed(drop)} points`));
  }
  labels.forEach((at, k) => parts.push(svg("text", { class: "halo", x: round(at.x), y: round(at.y + 4) }, names[k])));
  const label = `OTDD and drop of accuracy on ${data.id} for ${points.length} sets, ${state.method} on ${state.model}`;
  figure.replaceChildren(
    html("h3", {}, `Drop on ${data.id} (points)`),
    picture(width, height, label, ...parts),
    html("figcaption", {}, correlationText()));
  figure.querySelector(":scope > svg").style.maxWidth = `${width}px`;
}

// Where labels go: beside their points, below or above, wherever they cover no other first.
function placed(points, least) {
  const taken = points.map((one) => ({ left: one.x - 5, right: one.x + 5, top: one.y - 5, bottom: one.y + 5 }));
  return points.map((one) => {
    const places = [[8, 0], [-8 - one.width, 0], [-one.width / 2, 15], [-one.width / 2, -15], [8, 14], [8, -14]];
    const boxes = places.map(([dx, dy]) => ({
      left: one.x + dx, right: one.x + dx + one.width, top: one.y + dy - 7, bottom: one.y + dy + 7,
    }));
    const free = boxes.find((box) => box.left >= least && !taken.some((other) => box.left < other.right
      && box.right > other.left && box.top < other.bottom && box.bottom > other.top)) || boxes[0];
    taken.push(free);
    return { x: free.left, y: (free.top + free.bottom) / 2 };
  });
}

function correlationText() {
  const found = data.distances.correlations.find((one) => one.model === state.model && one.method === state.method);
  const features = `OTDD in the features of ${data.distances.model}.`;
  if (!found || found.refusal) return `${features} No correlation is given: ${found ? found.refusal : "nothing is known"}.`;
  const told = ([value, low, high]) => `${signed(value)} (95% interval ${signed(low)} to ${signed(high)})`;
  return `${features} Over ${found.n} sets: Pearson’s r ${told(found.pearson)}, Spearman’s ρ ${told(found.spearman)}.`;
}
