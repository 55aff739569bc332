// The leaderboard: sorting, filtering, tints. Its rows come with the page.

function setUpBoard() {
  const table = byId("board");
  const heads = [...table.tHead.rows[0].cells];
  const bodies = [...table.tBodies];
  const rows = bodies.flatMap((body) => [...body.rows]).filter((row) => row.dataset.method !== undefined);
  tint(rows);
  drawIntervals(rows);
  if (rows.length > 30) byId("board-box").classList.add("tall");

  const valueIn = (row, column, kind) => {
    const cell = row.cells[column];
    if (kind === "text") return (column === 1 ? row.dataset.method : row.dataset.model).toLowerCase();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  const sort = () => {
    const { key, descending } = state.sort;
    const column = heads.findIndex((head) => head.dataset.key === key);
    if (column < 0) return;
    heads.forEach((head, k) => {
      if (k === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const kind = heads[column].dataset.kind;
    const sign = descending ? -1 : 1;
    const compare = (a, b) => {
      const [x, y] = [valueIn(a, column, kind), valueIn(b, column, kind)];
      if (x === null || y === null) return (x === null) - (y === null); // what is missing stands last
      return sign * (kind === "text" ? x.localeCompare(y, undefined, { numeric: true }) : x - y);
    };
    for (const body of bodies) {
      body.append(...[...body.rows].filter((row) => row.dataset.method !== undefined).sort(compare));
    }
  };
  heads.filter((head) => head.dataset.kind).forEach((head) => head.querySelector("button").addEventListener("click", () => {
    const { key, kind } = head.dataset;
    const isFirst = !state.sort || state.sort.key !== key;
    const wantsMost = kind === "number" && key !== "rank" && key !== "ID drop";
    state.sort = { key, descending: isFirst ? wantsMost : !state.sort.descending };
    sort();
  }));

  const filters = byId("filters");
  const count = filters.querySelector("output");
  const filter = () => {
    const words = state.filter.text.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.dataset.words.toLowerCase();
      const fits = words.every((word) => text.includes(word))
        && (!state.filter.model || row.dataset.model === state.filter.model)
        && (!state.filter.method || row.dataset.method === state.filter.method);
      row.hidden = !fits;
      shown += fits;
    }
    for (const divider of table.querySelectorAll(".divider")) {
      divider.hidden = ![...divider.parentElement.rows].some((row) => row !== divider && !row.hidden);
    }
    const all = `${grouped(rows.length)} ${rows.length === 1 ? "entry" : "entries"}`;
    count.textContent = shown === rows.length ? all : `${grouped(shown)} of ${all}`;
  };
  for (const name of ["model", "method"]) {
    const select = filters.elements[name];
    select.closest("label").hidden = select.options.length < 3;
    if ([...select.options].some((one) => one.value === state.filter[name])) select.value = state.filter[name];
    else state.filter[name] = "";
  }
  filters.elements.text.value = state.filter.text;
  const besides = filters.elements.beside;
  if (besides) besides.checked = state.beside;
  const showBesides = () => table.classList.toggle("beside", state.beside);
  filters.addEventListener("input", () => {
    for (const name of Object.keys(state.filter)) state.filter[name] = filters.elements[name].value;
    state.beside = Boolean(besides && besides.checked);
    showBesides();
    filter();
  });
  filters.addEventListener("submit", (event) => event.preventDefault());

  if (!state.sort) state.sort = { key: "rank", descending: false };
  sort();
  filter();
  showBesides();
}

// Draw mRI with its interval on one scale for all entries, 0 included.
function drawIntervals(rows) {
  const cells = rows.map((row) => row.querySelector(".range")).filter((cell) => cell && cell.dataset.low !== "");
  if (!cells.length) return;
  const ends = cells.flatMap((cell) => [Number(cell.dataset.low), Number(cell.dataset.high)]);
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const x = (value) => round(4 + ((value - low) / (high - low || 1)) * 112);
  for (const cell of cells) {
    const [from, to] = [Number(cell.dataset.low), Number(cell.dataset.high)];
    const value = Number(cell.parentElement.querySelector(".mri").dataset.value);
    cell.replaceChildren(picture(120, 20, `95% interval of mRI from ${signed(from)} to ${signed(to)}`,
      svg("title", {}, `${signed(from)} to ${signed(to)}`),
      svg("line", { class: "axis", x1: x(0), x2: x(0), y1: 0, y2: 20 }),
      svg("line", { class: "whisker", x1: x(from), x2: x(to), y1: 10, y2: 10 }),
      svg("circle", { class: "dot", cx: x(value), cy: 10, r: 3 })));
  }
}

// Colour the RI of every entry by one scale.
function tint(rows) {
  const cells = rows.flatMap((row) => [...row.querySelectorAll(".tint")]).filter((cell) => cell.dataset.value !== "");
  const values = cells.map((cell) => Number(cell.dataset.value));
  const end = farEnd(values);
  cells.forEach((cell, k) => paintDifference(cell, values[k], end));
}
