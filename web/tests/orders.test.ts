import { describe, expect, it } from "vitest";
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
