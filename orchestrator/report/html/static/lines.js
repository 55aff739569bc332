// Line charts over epochs.

// Lines over epochs; `low` and `high` bound the vertical axis, `unit` says what it counts.
function lineChart(label, unit, lines, low, high, decimals) {
  const [width, height] = [440, 260];
  const [left, right, top, bottom] = [40, 12, 10, 36];
  const epochs = unique(lines.flatMap((line) => line.points.map(([epoch]) => epoch))).sort((a, b) => a - b);
  const [first, last] = [epochs[0], epochs[epochs.length - 1]];
  const x = (epoch) => round(left + ((epoch - first) / (last - first || 1)) * (width - left - right));
  const y = (value) => round(top + (1 - (value - low) / (high - low || 1)) * (height - top - bottom));
  const parts = [];
  for (const tick of ticks(low, high, 5)) {
    parts.push(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
    parts.push(svg("text", { class: "quiet", x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, written(tick, decimals)));
  }
  const marks = epochs.length <= 10 ? epochs : ticks(first, last, 6).filter(Number.isInteger);
  for (const epoch of marks) {
    parts.push(svg("text", { class: "quiet", x: x(epoch), y: height - bottom + 18, "text-anchor": "middle" }, `${epoch}`));
  }
  parts.push(svg("line", { class: "axis", x1: left, x2: width - right, y1: y(low), y2: y(low) }));
  parts.push(svg("text", { class: "quiet", x: width - right, y: height - 2, "text-anchor": "end" }, "epoch"));
  for (const { name, look, points } of lines) {
    const path = points.map(([epoch, value], k) => `${k ? "L" : "M"}${x(epoch)} ${y(value)}`).join("");
    const group = svg("g", { "--colour": look.colour }, svg("path", { class: "series", d: path, "stroke-dasharray": look.dash }));
    if (points.length <= 12) {
      for (const [epoch, value] of points) {
        group.append(titled(svg("circle", { class: "mark", cx: x(epoch), cy: y(value), r: 2.75 }), `${name}, epoch ${epoch}: ${written(value, decimals + 1)} ${unit}`));
      }
    }
    parts.push(titled(group, name));
  }
  return html("figure", {}, html("h3", {}, label), picture(width, height, `${label} by epoch: ${lines.map((line) => line.name).join(", ")}`, ...parts));
}

function drawCurves() {
  const box = byId("curves");
  const own = data.training.filter((one) => one.model === state.model && one.method === state.curvesMethod);
  const sets = data.sets.slice(1).filter((name) => own.some((one) => one.downstream === name));
  legend(byId("epochs-legend"), sets, "hiddenSets", setLook, drawCurves);
  if (!own.length) {
    box.replaceChildren(html("p", { class: "empty" }, "No training of this model and method is recorded."));
    return;
  }
  const lines = (column, records = own) => sets.filter((name) => !state.hiddenSets.includes(name)).map((name) => {
    const one = records.find((record) => record.downstream === name) || { epoch: [] };
    const points = one.epoch.map((epoch, k) => [epoch, one[column][k]]).filter(([, value]) => isKnown(value));
    return { name, look: setLook(name), points };
  }).filter((line) => line.points.length);
  const most = Math.max(...own.flatMap((one) => one.loss.filter(isKnown)), 1e-9);
  const steps = ticks(0, most, 4);
  const high = steps[steps.length - 1] >= most ? most : steps[steps.length - 1] + steps[1] - steps[0];
  const along = data.curves.filter((one) => one.model === state.model && one.method === state.curvesMethod);
  const evaluated = [
    ["tuned", "Accuracy on the set that was tuned on (%)"],
    ["id", `Accuracy on ${data.id} (%)`],
    ["ood", "Mean accuracy on the other OOD sets (%)"],
  ].map(([column, label]) => [label, lines(column, along)]).filter(([, drawn]) => drawn.length);
  box.replaceChildren(
    lineChart("Training accuracy (%)", "%", lines("accuracy"), 0, 100, 0),
    lineChart("Training loss", "", lines("loss"), 0, high, high < 2 ? 1 : 0),
    ...evaluated.map(([label, drawn]) => lineChart(label, "%", drawn, 0, 100, 0)));
}
