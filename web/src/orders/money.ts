/** Amounts as people type them, exact: units as a bigint and nanos, as in google.type.Money. */
export interface Amount {
  readonly units: bigint;
  readonly nanos: number;
}

const NANOS = 1_000_000_000n;

/** Parses `12`, `12.`, `12.5` or `12,50`; undefined when it is no amount with at most nine decimals. */
export function parseAmount(text: string): Amount | undefined {
  const match = /^(\d{1,18})(?:[.,](\d{0,9}))?$/.exec(text.trim());
  if (!match?.[1]) {
    return undefined;
  }
  return { units: BigInt(match[1]), nanos: Number((match[2] ?? "").padEnd(9, "0")) };
}

/** The sum of quantity times price. */
export function total(lines: readonly { quantity: number; price: Amount }[]): Amount {
  const nanos = lines.reduce(
    (sum, { quantity, price }) => sum + BigInt(quantity) * (price.units * NANOS + BigInt(price.nanos)),
    0n,
  );
  return { units: nanos / NANOS, nanos: Number(nanos % NANOS) };
}

/** At least two decimals, and as many more as there are. */
export function formatAmount({ units, nanos }: Amount): string {
  const decimals = String(nanos).padStart(9, "0").replace(/0+$/, "").padEnd(2, "0");
  return `${units}.${decimals}`;
}
