/** A size in bytes for a narrow column. */
export function bytes(size: number): string {
  if (size < 1_000) {
    return `${size} B`;
  }
  return size < 1_000_000 ? `${(size / 1_000).toFixed(1)} kB` : `${(size / 1_000_000).toFixed(1)} MB`;
}

const GROUPED = new Intl.NumberFormat("en", { useGrouping: true });

/** A whole number with thin spaces between its thousands, as exact as it came. */
export function count(value: number | bigint): string {
  return GROUPED.format(value).replaceAll(",", "\u2009");
}

/**
 * A resource name short enough for a row: the collection and the last eight characters of the id. The first ones of a
 * version 7 UUID are a time, and the same in every row of a minute.
 */
export function shortName(name: string): string {
  return name.replace(/^([a-z]+\/)[0-9a-f-]{28}([0-9a-f]{8})$/, "$1…$2");
}
