/** How long to wait before the next attempt. Pure: the random number is an argument. */
export interface Backoff {
  /** The bound of the first wait, in milliseconds. */
  readonly baseMs: number;
  /** The bound that no wait exceeds, in milliseconds. */
  readonly capMs: number;
}

export const DEFAULT_BACKOFF: Backoff = { baseMs: 500, capMs: 30_000 };

/**
 * The wait before attempt `attempt` (0 is the first retry), with full jitter: anywhere between nothing and a bound
 * that doubles, so that many clients of one restarted server do not return at the same moment.
 *
 * @param random a number in [0, 1)
 */
export function delayMs(
  attempt: number,
  random: number,
  { baseMs, capMs }: Backoff = DEFAULT_BACKOFF,
): number {
  return Math.round(random * Math.min(capMs, baseMs * 2 ** attempt));
}
