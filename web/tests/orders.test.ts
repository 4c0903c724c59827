import { create, toJsonString } from "@bufbuild/protobuf";
import { EventSchema, OrderCancelledSchema, OrderCreatedSchema } from "@tailrace/sdk";
import { describe, expect, it } from "vitest";
import { describeOrder } from "../src/orders/describe";
import { formatAmount, parseAmount, total } from "../src/orders/money";

describe("an amount", () => {
  it.each([
    ["12", "12.00"],
    ["12.", "12.00"],
    ["12.5", "12.50"],
    ["0,05", "0.05"],
    ["9007199254740993.01", "9007199254740993.01"],
    ["1.005", "1.005"],
  ])("typed as %s is %s", (text, expected) => {
    const amount = parseAmount(text);
    expect(amount && formatAmount(amount)).toBe(expected);
  });

  it.each(["", "-1", "1e3", "12 EUR", "1.0000000001", "Infinity"])("is not %j", (text) => {
    expect(parseAmount(text)).toBeUndefined();
  });

  it("adds up without a rounding error", () => {
    const price = parseAmount("0.10");
    expect(price && formatAmount(total([{ quantity: 3, price }]))).toBe("0.30");
  });
});

describe("a row", () => {
  const total = { currencyCode: "EUR", units: 12n };
  const say = (type: string, json: string) =>
    describeOrder(create(EventSchema, { type, payload: new TextEncoder().encode(json) }));

  it("says what was ordered", () => {
    const lines = [{ product: "Tea", quantity: 2 }, { product: "Cup" }];
    const created = create(OrderCreatedSchema, { lines, total });
    const text = say("orders.created.v1", toJsonString(OrderCreatedSchema, created));
    expect(text).toBe("12.00 EUR · 2 × Tea + 1 more");
  });

  it("says that an order was cancelled", () => {
    const cancelled = create(OrderCancelledSchema, { total });
    const text = say("orders.cancelled.v1", toJsonString(OrderCancelledSchema, cancelled));
    expect(text).toBe("Cancelled · 12.00 EUR");
  });

  it("names the type of what it cannot read", () => {
    expect(say("orders.cancelled.v1", "not JSON")).toBe("orders.cancelled.v1");
  });
});
