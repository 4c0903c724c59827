// A browser to try the page in, and what every step needs: expectations with a deadline, pictures, the axe.

import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

const SCREENSHOTS = join(import.meta.dirname, ".screenshots");
const DEADLINE_MS = 30_000;
const CHROMIUM_FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Starts Chromium; `close` ends it. */
export async function raise({ url, executablePath }) {
  await mkdir(SCREENSHOTS, { recursive: true });
  const axeSource = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  const browser = await chromium.launch({ executablePath, headless: true, args: CHROMIUM_FLAGS });
  const problems = [];

  /** A page of its own, with nothing stored; `config` takes the place of /config.json. */
  async function open({ theme = "light", width = 1280, height = 800, config } = {}) {
    const context = await browser.newContext({
      colorScheme: theme,
      viewport: { width, height },
      // The policy names the true addresses of the services, and nothing else may be called.
      bypassCSP: config !== undefined,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(DEADLINE_MS);
    page.on("pageerror", (error) => problems.push(`the page threw: ${error.message}`));
    if (config) {
      await page.route("**/config.json", (route) => route.fulfill({ json: config }));
    }
    await page.goto(url);
    return page;
  }

  const picture = (page, name) =>
    page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), animations: "disabled" });

  /** The accessibility rules, WCAG 2.2 AA. */
  async function axe(page, where) {
    await page.evaluate(axeSource);
    // Half faded in, a text has half its contrast; and a notice may come at any moment.
    await page.emulateMedia({ reducedMotion: "reduce" });
    await page.evaluate(() => Promise.allSettled(document.getAnimations().map(({ finished }) => finished)));
    const { violations } = await page.evaluate(() =>
      axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }),
    );
    await page.emulateMedia({ reducedMotion: null });
    for (const { id, nodes } of violations) {
      problems.push(`axe, ${where}: ${id} at ${nodes.map(({ target }) => target).join(", ")}`);
    }
  }

  return { open, picture, axe, problems, close: () => browser.close() };
}

export function expect(truth, what) {
  if (!truth) {
    throw new Error(`expected ${what}`);
  }
}
