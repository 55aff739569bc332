// Elements and numbers. Text goes in as text, never as markup: names and messages come from stores.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const html = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);

// A chart with what it shows in words, for those who do not see it.
function picture(width, height, label, ...children) {
  return svg("svg", { viewBox: `0 0 ${round(width)} ${round(height)}`, role: "img", "aria-label": label }, ...children);
}

// A picture's text with what a pointer that rests on it is told.
const titled = (element, text) => { element.prepend(svg("title", {}, text)); return element; };

const round = (value) => Math.round(value * 100) / 100;
const isKnown = (value) => value !== null && value !== undefined;
// As Python rounds, which takes the even one of two that are equally near, so that a number reads
// the same wherever it stands.
const written = (value, decimals) => {
  const size = Math.abs(value);
  const halves = size * 2 * 10 ** decimals;
  const isTie = Number.isInteger(size * 2 ** (decimals + 1)) && halves % 2 === 1;
  const text = isTie && Math.floor(halves / 2) % 2 === 0
    ? (Math.floor(halves / 2) / 10 ** decimals).toFixed(decimals)
    : size.toFixed(decimals);
  return Number(text) === 0 ? text : (value < 0 ? "−" : "") + text;
};
const grouped = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, "\u202f");
const percent = (value) => (isKnown(value) ? written(value, 1) : "—");
const signed = (value, decimals = 2) => {
  if (!isKnown(value)) return "—";
  const text = written(value, decimals);
  return text.startsWith("−") ? text : `+${text}`;
};

// Round values that cut a range into about `count` steps of 1, 2 or 5 times a power of ten.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((one) => one >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, k) => Number(((first + k) * step).toPrecision(12)));
}

const unique = (values) => [...new Set(values)];
const options = (select, names, chosen) => {
  select.replaceChildren(...names.map((name) => html("option", { value: name, selected: name === chosen }, name)));
  select.closest("label").hidden = names.length < 2;
};
