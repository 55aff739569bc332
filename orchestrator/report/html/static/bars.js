// Mean OOD accuracy of each model before and after fine-tuning, as in the authors' figure.

function drawBars() {
  const figure = byId("bars");
  const rows = data.models
    .map((model) => ({ model, entry: entryOf(model.name, state.barsMethod) }))
    .filter((row) => row.entry && isKnown(row.model.ood))
    .sort((a, b) => a.model.ood - b.model.ood);
  if (!rows.length) {
    figure.replaceChildren(html("p", { class: "empty" }, "No model has both values yet."));
    return;
  }
  const width = Math.max(300, Math.min(860, figure.clientWidth || 860));
  const right = 92;
  const span = width - right;
  const step = 62;
  const head = 16;
  const foot = head + rows.length * step + 4;
  const height = foot + 40;
  const x = (value) => round((value / 100) * span);
  const colour = colourOf(state.barsMethod);
  const parts = [];
  for (const tick of ticks(0, 100, width < 500 ? 4 : 10)) {
    parts.push(svg("line", { class: tick ? "grid" : "axis", x1: x(tick), x2: x(tick), y1: head, y2: foot }));
    parts.push(svg("text", { class: "quiet", x: x(tick), y: foot + 16, "text-anchor": tick ? "middle" : "start" }, `${tick}`));
  }
  parts.push(svg("text", { class: "quiet", x: x(100), y: height - 4, "text-anchor": "end" }, "mean OOD accuracy (%)"));
  parts.push(svg("text", { class: "quiet", x: width, y: 10, "text-anchor": "end" }, "mRI (points)"));
  rows.forEach(({ model, entry }, k) => {
    const y = head + k * step;
    const label = model.pretraining ? `${model.pretraining} · ${model.name}` : model.name;
    const bar = (value, top, hue) => svg("rect", { class: "mark", x: 0, y: y + top, width: x(value), height: 12, rx: 1.5, "--colour": hue });
    parts.push(svg("text", { class: "strong halo", x: 6, y: y + 17 }, shortened(label, span / 7)));
    parts.push(titled(bar(model.ood, 23, "var(--before)"), `${label}, pre-trained: ${percent(model.ood)} %`));
    parts.push(svg("text", { class: "quiet halo", x: x(model.ood) + 6, y: y + 33 }, percent(model.ood)));
    if (isKnown(entry.ood)) {
      parts.push(titled(bar(entry.ood, 37, colour), `${label}, ${entry.method}: ${percent(entry.ood)} %`));
      parts.push(svg("text", { class: "halo", x: x(entry.ood) + 6, y: y + 47 }, percent(entry.ood)));
      parts.push(svg("text", { class: "strong", x: width, y: y + 40, "text-anchor": "end" }, signed(entry.mri)));
    } else {
      parts.push(svg("text", { class: "quiet", x: 6, y: y + 47 }, `— ${entry.missing} values missing`));
    }
  });
  const label = `Mean OOD accuracy of ${rows.length} models before and after ${state.barsMethod}, in percent`;
  figure.replaceChildren(
    html("div", { class: "legend" }, key("pre-trained", "var(--before)"), key(state.barsMethod, colour)),
    picture(width, height, label, ...parts));
  figure.querySelector(":scope > svg").style.maxWidth = `${width}px`;
}

const shortened = (text, room) => (text.length <= room ? text : `${text.slice(0, Math.max(4, room - 1))}…`);
