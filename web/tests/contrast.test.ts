import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

/** WCAG 2.2 AA: 4.5 for text, 3 for the edges of controls and for marks. */
const PAIRS: [text: string, grounds: string[], least: number][] = [
  ["ink", ["ground", "panel", "hover", "selected", "accent-wash"], 4.5],
  ["ink-quiet", ["ground", "panel", "hover", "selected", "accent-wash"], 4.5],
  ["accent-ink", ["ground", "panel", "hover", "selected", "accent-wash"], 4.5],
  ["on-button", ["button"], 4.5],
  ["amber-ink", ["ground", "panel", "amber-wash"], 4.5],
  ["red-ink", ["ground", "panel", "red-wash"], 4.5],
  ["green-ink", ["ground", "panel"], 4.5],
  ["control", ["ground"], 3],
  ["accent", ["ground", "panel"], 3],
];

const css = readFileSync(join(import.meta.dirname, "../src/ui/tokens.css"), "utf8");

describe.each(["light", "dark"] as const)("in the %s theme", (theme) => {
  it.each(PAIRS.flatMap(([text, grounds, least]) => grounds.map((ground) => [text, ground, least] as const)))(
    "%s on %s has a contrast of at least %d",
    (text, ground, least) => {
      expect(contrast(colour(text, theme), colour(ground, theme))).toBeGreaterThanOrEqual(least);
    },
  );
});

type Rgb = readonly [number, number, number];

function colour(name: string, theme: "light" | "dark"): Rgb {
  const number = String.raw`([\d.]+)`;
  const oklch = `oklch\\(${number}% ${number} ${number}\\)`;
  const match = new RegExp(`--${name}: light-dark\\(${oklch}, ${oklch}\\)`).exec(css);
  if (!match) {
    throw new Error(`tokens.css has no colour --${name}`);
  }
  const [lightness = 0, chroma = 0, hue = 0] = match
    .slice(1)
    .map(Number)
    .slice(theme === "light" ? 0 : 3);
  return linearRgb(lightness / 100, chroma, hue);
}

/** OKLCH to linear sRGB, clipped to what a screen can show. */
function linearRgb(lightness: number, chroma: number, hue: number): Rgb {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const clip = (value: number) => Math.min(1, Math.max(0, value));
  return [
    clip(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    clip(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    clip(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ];
}

function contrast(one: Rgb, other: Rgb): number {
  const [light = 0, dark = 0] = [one, other].map(luminance).sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

function luminance([red, green, blue]: Rgb): number {
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
