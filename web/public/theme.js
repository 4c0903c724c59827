// Runs before the first paint, so that a stored theme does not flash; src/ui/theme.ts does the rest.
const theme = localStorage.getItem("tailrace.theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
