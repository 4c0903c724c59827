/**
 * Against a running system, whose addresses and operator the environment names. The `CUT_` ones lead there over links
 * that break all the time.
 */
import { describe, expect, it } from "vitest";
import { connect, type Endpoints, failureOf, newRequestId, pages, type Tailrace } from "../src/index.js";

const ORDERS = 20;

function setting(name: string): string {
  const value = process.env[`TAILRACE_${name}`];
  if (value === undefined) {
    throw new Error(`TAILRACE_${name} is not set: cargo xtask test sets it`);
  }
  return value;
}

const endpoints: Endpoints = {
  users: setting("USERS_URL"),
  orders: setting("ORDERS_URL"),
  relay: setting("RELAY_URL"),
  gateway: setting("GATEWAY_URL"),
};
const cut: Endpoints = {
  ...endpoints,
  orders: setting("CUT_ORDERS_URL"),
  gateway: setting("CUT_GATEWAY_URL"),
};

/** Somebody new. */
async function customer(to = endpoints): Promise<{ tailrace: Tailrace; name: string; etag: string }> {
  const account = { email: `${newRequestId()}@sdk.tailrace.localhost`, password: "a password of the tests" };
  const { name, etag } = await connect(endpoints).users.createUser({
    user: { displayName: "SDK", email: account.email },
    password: account.password,
  });
  return { tailrace: connect(to, account), name, etag };
}

const order = (product: string, quantity = 1) => ({
  order: {
    lines: [{ product, quantity, unitPrice: { currencyCode: "EUR", units: 12n, nanos: 500_000_000 } }],
  },
});

async function failure(call: Promise<unknown>) {
  return failureOf(
    await call.then(
      () => null,
      (error) => error,
    ),
  );
}

describe("a customer", () => {
  it("lists by pages what was ordered, newest first", async () => {
    const { tailrace } = await customer();
    const placed: string[] = [];
    for (let number = 0; number < 5; number++) {
      placed.unshift((await tailrace.orders.createOrder(order(`Sluice ${number}`))).name);
    }
    const sizes: number[] = [];
    const listed: string[] = [];
    for await (const { orders } of pages(tailrace.orders.listOrders, { pageSize: 2 })) {
      sizes.push(orders.length);
      listed.push(...orders.map(({ name }) => name));
    }
    expect(sizes).toEqual([2, 2, 1]);
    expect(listed).toEqual(placed);
  });

  it("reads why a call failed", async () => {
    const { tailrace, name, etag } = await customer();
    const invalid = await failure(tailrace.orders.createOrder(order("Sluice", 0)));
    expect(invalid.reason).toBe("INVALID_FIELDS");
    expect([...invalid.fields.keys()]).toEqual(["order.lines[0].quantity"]);
    const placed = await tailrace.orders.createOrder(order("Sluice"));
    await tailrace.orders.cancelOrder({ name: placed.name });
    expect((await failure(tailrace.orders.cancelOrder({ name: placed.name }))).reason).toBe(
      "ORDER_NOT_PLACED",
    );
    const changed = await tailrace.users.updateUser({ user: { name, displayName: "First", etag } });
    const stale = await failure(tailrace.users.updateUser({ user: { name, displayName: "Second", etag } }));
    expect(stale.reason).toBe("ETAG_MISMATCH");
    expect((await tailrace.users.getUser({ name })).displayName).toBe(changed.displayName);
  });

  it("stays signed in by refreshing, and signs out", async () => {
    const { tailrace, name } = await customer();
    for (let round = 0; round < 3; round++) {
      await Promise.all([tailrace.renew(), tailrace.renew()]);
      expect((await tailrace.users.getUser({ name })).name).toBe(name);
    }
    await tailrace.signOut();
  });

  it("places each order once and sees it once, over links that break", async () => {
    const { tailrace } = await customer(cut);
    const seen: string[] = [];
    const states = new Set<string>();
    const watching = tailrace.watch({
      topics: ["orders.created"],
      start: { case: "newest", value: 1000 },
      backoff: { baseMs: 50, capMs: 200 },
      onState: ({ name }) => states.add(name),
    });
    const placed: string[] = [];
    const placing = (async () => {
      for (let number = 0; number < ORDERS; number++) {
        placed.push((await tailrace.orders.createOrder(order(`Wheel ${number}`))).name);
      }
    })();
    for await (const { message } of watching) {
      if (message.case === "event") {
        seen.push(message.value.subject);
      }
      if (seen.length === ORDERS && states.has("waiting")) {
        break;
      }
    }
    await placing;
    // Orders lie in several partitions, so only each order's own events have an order.
    expect(seen.sort()).toEqual([...placed].sort());
    const listed: string[] = [];
    for await (const { orders } of pages(tailrace.orders.listOrders, {})) {
      listed.unshift(...orders.map(({ name }) => name).reverse());
    }
    expect(listed).toEqual(placed);
  });
});
