import { Value } from "../value";

export type Theme = "system" | "light" | "dark";

const STORAGE_KEY = "tailrace.theme";
const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };

/** The theme in use. `public/theme.js` applies a stored one before the first paint. */
export const theme = new Value<Theme>(stored());

export function toggleTheme(): void {
  const next = NEXT[theme.current];
  if (next === "system") {
    localStorage.removeItem(STORAGE_KEY);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(STORAGE_KEY, next);
    document.documentElement.dataset.theme = next;
  }
  theme.set(next);
}

function stored(): Theme {
  const name = localStorage.getItem(STORAGE_KEY);
  return name === "light" || name === "dark" ? name : "system";
}
