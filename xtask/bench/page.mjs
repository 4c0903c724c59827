// Opens the page in headless Chromium, signs in, and notes when each row first stands in the document.
//
//   node page.mjs URL       prints `live` when it watches, and at the end of its input all rows as one line of JSON
//
// The page itself is left as it is: an observer of the document looks at the rows it shows.

import { createRequire } from "node:module";
import { join } from "node:path";

const web = join(import.meta.dirname, "../../web/package.json");
const { chromium } = createRequire(web)("playwright-core");
const { TAILRACE_CHROMIUM: executablePath = "/usr/bin/chromium" } = process.env;
const [url] = process.argv.slice(2);

const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
});
const page = await browser.newPage();
await page.addInitScript(() => {
  const seen = new Map();
  const look = () => {
    const now = performance.timeOrigin + performance.now();
    for (const row of document.querySelectorAll(".row[data-key]")) {
      if (!seen.has(row.dataset.key)) {
        seen.set(row.dataset.key, now);
      }
    }
  };
  new MutationObserver(look).observe(document, { childList: true, subtree: true });
  globalThis.rowsSeen = () => [...seen].map(([key, seenMs]) => ({ key, seenMs }));
});
await page.goto(url);
await page.getByRole("button", { name: "Use demo account" }).click();
await page.locator(".connection").filter({ hasText: "Live" }).waitFor();
console.log("live");

process.stdin.resume();
process.stdin.once("end", async () => {
  console.log(JSON.stringify(await page.evaluate(() => globalThis.rowsSeen())));
  await browser.close();
});
