// Before anything is painted: the theme that was chosen on this machine, if any.
try {
  const chosen = localStorage.getItem("rib-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* a browser that keeps nothing shows the system's theme */ }
