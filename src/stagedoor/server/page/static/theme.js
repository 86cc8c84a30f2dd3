// Runs before anything is painted, so that nobody sees the other theme flash. The switch is in settings.js.
try {
  const theme = localStorage.getItem("stagedoor.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is forbidden: the system's theme it is.
}
