// `npm run e2e`: the page in Chromium against a running stack. Exits 1 when anything was not as expected.
//
//   TAILRACE_WEB_URL        where the page is, default http://127.0.0.1:3000
//   TAILRACE_DEMO_EMAIL     an operator's account; default: the demo account of /config.json
//   TAILRACE_DEMO_PASSWORD
//   TAILRACE_CHROMIUM       default /usr/bin/chromium
//
// Screenshots of every state, light and dark, go to e2e/.screenshots.

import * as journeys from "./journeys.mjs";
import { raise } from "./stage.mjs";

const {
  TAILRACE_WEB_URL: url = "http://127.0.0.1:3000",
  TAILRACE_CHROMIUM: executablePath = "/usr/bin/chromium",
  TAILRACE_DEMO_EMAIL: email,
  TAILRACE_DEMO_PASSWORD: password,
} = process.env;

const config = await fetch(new URL("/config.json", url))
  .then((response) => response.json())
  .catch(({ cause }) => {
    console.error(
      `no page at ${url} (${cause?.code ?? "no settings"}): start the stack first, or set TAILRACE_WEB_URL`,
    );
    process.exit(1);
  });
const account = email && password ? { email, password } : config.demo;
if (!account) {
  console.error("no account: set TAILRACE_DEMO_EMAIL and TAILRACE_DEMO_PASSWORD");
  process.exit(1);
}

const stage = await raise({ url, executablePath });
const trials = [
  ...["light", "dark"].flatMap((theme) => [
    [`create and watch, ${theme}`, () => journeys.createAndWatch(stage, account, theme)],
    [`dead letters, ${theme}`, () => journeys.deadLetters(stage, account, theme)],
    [`narrow, ${theme}`, () => journeys.narrow(stage, account, theme)],
    [`trouble, ${theme}`, () => journeys.trouble(stage, account, theme)],
  ]),
  ["cuts", () => journeys.cuts(stage, account, config)],
  ["keyboard", () => journeys.keyboard(stage, account)],
];

let failed = 0;
for (const [name, trial] of trials) {
  try {
    await trial();
    stage.problems.splice(0).forEach((problem) => {
      throw new Error(problem);
    });
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    stage.problems.length = 0;
    console.log(`FAILED  ${name}: ${error.message}`);
  }
}
await stage.close();
console.log(`${trials.length - failed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
