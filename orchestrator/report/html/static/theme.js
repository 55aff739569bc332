// Before anything is painted: the theme that was chosen in this tab, or else on this machine. What
// is kept for all tabs reaches a page that is loaded anew at once only most of the time.
try {
  const chosen = sessionStorage.getItem("rib-theme") || localStorage.getItem("rib-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* a browser that keeps nothing shows the system's theme */ }
