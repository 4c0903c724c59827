// What a person does with the page, against a running stack. Each journey begins with a page of its own.

import { openLink } from "./link.mjs";
import { expect } from "./stage.mjs";
import * as standIns from "./stand-ins.mjs";

const row = (page, pane, text) =>
  page.getByRole("region", { name: pane }).getByRole("row").filter({ hasText: text }).first();
const status = (page, text) => page.locator(".connection").filter({ hasText: text }).waitFor();

export async function signIn(page, account) {
  await page.getByLabel("E-mail").fill(account.email);
  await page.getByLabel("Password").fill(account.password);
  await page.getByRole("button", { name: "Sign in" }).click();
}

async function signedIn(stage, account, options) {
  const page = await stage.open(options);
  await signIn(page, account);
  return page;
}

/** Sign in, make a user and an order, see both arrive, look at one. */
export async function createAndWatch(stage, account, theme) {
  const page = await stage.open({ theme });
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await stage.picture(page, `sign-in-${theme}`);
  await stage.axe(page, `sign-in, ${theme}`);
  await signIn(page, account);
  await status(page, "Live");

  const name = `Ada ${theme} ${Date.now()}`;
  await createUser(stage, page, name, theme);
  await row(page, "Users", name).waitFor();
  const product = `Tea ${theme} ${Date.now()}`;
  await createOrder(stage, page, product, theme);
  await row(page, "Orders", product).waitFor();
  expect(await row(page, "Users", name).getByText("yours").isVisible(), "the own user to be marked");
  await stage.picture(page, `live-${theme}`);
  await stage.axe(page, `live, ${theme}`);

  await openDetails(stage, page, row(page, "Orders", product), product, theme);
  await page.context().close();
}

async function createUser(stage, page, name, theme) {
  await page.getByRole("button", { name: "New user" }).click();
  const form = page.getByRole("dialog", { name: "New user" });
  await form.getByRole("button", { name: "Create user" }).click();
  await form.locator(".field-error").first().waitFor();
  await stage.picture(page, `field-errors-${theme}`);
  await stage.axe(page, `field errors, ${theme}`);
  await page.keyboard.press("Escape");
  await form.waitFor({ state: "hidden" });
  await fillUser(page, name);
}

async function fillUser(page, name) {
  await page.getByRole("button", { name: "New user" }).click();
  const form = page.getByRole("dialog", { name: "New user" });
  await form.getByLabel("Name").fill(name);
  await form.getByLabel("E-mail").fill(`${name.replaceAll(" ", ".").toLowerCase()}@example.com`);
  await form.getByLabel("Password").fill("correct horse battery");
  await form.getByRole("button", { name: "Create user" }).click();
  await form.waitFor({ state: "hidden" });
}

async function createOrder(stage, page, product, theme) {
  await page.getByRole("button", { name: "New order" }).click();
  const form = page.getByRole("dialog", { name: "New order" });
  await form.getByLabel("Product").fill(product);
  await form.getByLabel("Quantity").fill("3");
  await form.getByLabel("Unit price").fill("12.50");
  expect(await form.getByText("37.50 EUR").isVisible(), "the total of the order");
  await stage.picture(page, `new-order-${theme}`);
  await form.getByRole("button", { name: "Create order" }).click();
  await form.waitFor({ state: "hidden" });
}

async function openDetails(stage, page, target, product, theme) {
  await target.click();
  const details = page.getByRole("complementary", { name: "Event details" });
  await details.getByText(product).first().waitFor();
  const text = await details.textContent();
  for (const fact of ["orders.created.v1", "orders.created", "Partition", "Offset", "Position", "ce_id"]) {
    expect(text.includes(fact), `the details to show ${fact}`);
  }
  expect(!/-\d+(\.\d+)? ms/.test(text), "no latency to be negative");
  expect(page.url().includes("event=orders.created/"), "the address to name the event");
  await stage.picture(page, `details-${theme}`);
  await stage.axe(page, `details, ${theme}`);
  await page.keyboard.press("Escape");
  await details.waitFor({ state: "hidden" });
}

/** The list by keyboard alone. */
export async function keyboard(stage, account) {
  const page = await signedIn(stage, account);
  const grid = page.getByRole("grid", { name: "Users" });
  await grid.focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowUp");
  await stage.picture(page, "keyboard");
  await page.keyboard.press("Enter");
  await page.getByRole("complementary", { name: "Event details" }).waitFor();
  await page.keyboard.press("Escape");
  expect(await grid.evaluate((element) => element === document.activeElement), "the focus back on the list");
  await page.context().close();
}

/** Users are created while the page's connection is cut again and again: each arrives once, in order. */
export async function cuts(stage, account, config) {
  const link = await openLink(config.gatewayUrl);
  const page = await signedIn(stage, account, { config: { ...config, gatewayUrl: link.url } });
  await status(page, "Live");
  const names = Array.from({ length: 4 }, (_, index) => `Cut ${index} ${Date.now()}`);
  for (const name of names) {
    link.cut();
    await status(page, /Reconnecting|Connecting/);
    await fillUser(page, name);
    link.mend();
    await row(page, "Users", name).waitFor({ timeout: 40_000 });
  }
  const rows = await page.getByRole("region", { name: "Users" }).getByRole("row").allInnerTexts();
  const seen = rows.map((text) => names.findIndex((name) => text.includes(name))).filter((at) => at >= 0);
  expect(seen.join() === "3,2,1,0", `each user once and the newest first, not ${seen}`);
  await page.context().close();
  await link.close();
}

/** Dead letters, for an operator. */
export async function deadLetters(stage, account, theme) {
  const page = await signedIn(stage, account, { theme });
  await page.getByRole("link", { name: /Dead letters/ }).click();
  await page.getByRole("region", { name: "Dead letters" }).waitFor();
  await status(page, "Live");
  await stage.picture(page, `dead-letters-${theme}`);
  await stage.axe(page, `dead letters, ${theme}`);
  await page.context().close();
}

/** One column on a telephone. */
export async function narrow(stage, account, theme) {
  const page = await signedIn(stage, account, { theme, width: 360, height: 740 });
  await status(page, "Live");
  await stage.picture(page, `narrow-${theme}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  expect(!wide, "nothing wider than 360 px");
  await page.getByRole("region", { name: "Users" }).getByRole("row").first().click();
  await page.getByRole("complementary", { name: "Event details" }).waitFor();
  await stage.picture(page, `narrow-details-${theme}`);
  await page.context().close();
}

/** The states that trouble brings, and the way back. */
export async function trouble(stage, account, theme) {
  const state = async (name, prepare, shows) => {
    const page = await stage.open({ theme });
    await page.clock.install();
    await prepare(page);
    await signIn(page, account);
    await shows(page);
    await stage.picture(page, `${name}-${theme}`);
    await stage.axe(page, `${name}, ${theme}`);
    return page;
  };
  const done = (page) => page.context().close();

  await done(await state("empty", standIns.empty, (page) => page.getByText("No user yet").waitFor()));
  await done(await state("gap", standIns.gap, (page) => page.getByText("Up to").waitFor()));
  await done(
    await state("stale", standIns.silence, async (page) => {
      await status(page, "Connecting");
      await page.clock.fastForward(31_000);
      await status(page, "Stale");
    }),
  );
  const refused = (page) => standIns.refuse(page, 16, "the token has expired");
  await done(await state("expired", refused, (page) => page.getByText("sign-in has expired").waitFor()));

  const page = await state("reconnecting", standIns.cut, (cut) => status(cut, "Reconnecting in"));
  await standIns.restore(page);
  await page.clock.resume();
  // The wait may be over before the button is pressed.
  const live = page.locator('.connection[data-state="live"]');
  await page.getByRole("button", { name: "Now" }).or(live).first().click();
  await live.waitFor();
  await done(page);
}
