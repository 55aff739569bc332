// What the reader has chosen; kept over a reload, so that a page that loads itself anew stays put.

const state = {
  model: null, method: null, shown: "difference", barsMethod: null, curvesMethod: null,
  hiddenMethods: null, hiddenSets: [], sort: null, beside: false, filter: { text: "", model: "", method: "" },
};
const KEPT = `rib ${location.pathname}`;

function restore() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) || "{}");
    for (const key of Object.keys(state)) if (key in kept) state[key] = kept[key];
    return kept;
  } catch { return {}; }
}

// Where the reader is: how far below the top of the last section that begins above the window's
// middle. What stands above may have grown or shrunk when the page comes back.
function place() {
  const sections = [...document.querySelectorAll("section:not([hidden])")];
  const passed = sections.filter((one) => one.getBoundingClientRect().top < innerHeight / 2);
  const last = passed[passed.length - 1];
  return last ? { section: last.id, below: -last.getBoundingClientRect().top } : { below: scrollY };
}

function keep() {
  const boxes = [...document.querySelectorAll(".scroll")].map((box) => [box.scrollLeft, box.scrollTop]);
  const open = [...document.querySelectorAll("details")].map((one) => one.open);
  const focus = document.activeElement && document.activeElement.name === "text";
  try {
    sessionStorage.setItem(KEPT, JSON.stringify({ ...state, place: place(), boxes, open, focus }));
  } catch { /* then a reload begins at the top */ }
}

// Put the reader back where they were; rows may have come or gone since.
function goBack(kept) {
  document.querySelectorAll("details").forEach((one, k) => { one.open = Boolean(kept.open && kept.open[k]); });
  document.querySelectorAll(".scroll").forEach((box, k) => {
    if (kept.boxes && kept.boxes[k]) [box.scrollLeft, box.scrollTop] = kept.boxes[k];
  });
  if (kept.focus) {
    const field = document.querySelector("#filters [name=text]");
    field.focus({ preventScroll: true });
    field.setSelectionRange(field.value.length, field.value.length);
  }
  if (kept.place) {
    const section = kept.place.section && byId(kept.place.section);
    scrollTo(0, kept.place.below + (section ? section.getBoundingClientRect().top + scrollY : 0));
  }
}

// Load the page anew while a grid runs, but never under the reader's hands.
function watchFile(seconds) {
  let touched = 0;
  for (const kind of ["pointerdown", "keydown", "wheel", "touchmove"]) {
    addEventListener(kind, () => { touched = Date.now(); }, { passive: true });
  }
  const look = () => {
    const isBusy = document.hidden || Date.now() - touched < 1500;
    if (isBusy) setTimeout(look, 500);
    else {
      keep(); // "pagehide" may come when the new page has already looked
      location.reload();
    }
  };
  setTimeout(look, seconds * 1000);
}

function setUpTheme() {
  const root = document.documentElement;
  const button = byId("theme");
  const names = ["auto", "light", "dark"];
  const current = () => root.dataset.theme || "auto";
  const label = () => { button.textContent = `Theme: ${current()}`; };
  button.addEventListener("click", () => {
    const next = names[(names.indexOf(current()) + 1) % names.length];
    if (next === "auto") delete root.dataset.theme;
    else root.dataset.theme = next;
    try {
      for (const storage of [sessionStorage, localStorage]) storage.setItem("rib-theme", next);
    } catch { /* then it holds until the page goes */ }
    label();
  });
  label();
}
