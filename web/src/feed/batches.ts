/** Calls back soon, and never twice within a frame. */
export type Schedule = (flush: () => void) => void;

/** The shortest time between two flushes, in milliseconds: 20 a second. */
export const FLUSH_INTERVAL_MS = 50;

/** Collects items and hands them over in batches, so that a burst costs one render. */
export class Batches<T> {
  readonly #deliver: (batch: readonly T[]) => void;
  readonly #schedule: Schedule;
  #batch: T[] = [];

  constructor(deliver: (batch: readonly T[]) => void, schedule: Schedule = onFrames()) {
    this.#deliver = deliver;
    this.#schedule = schedule;
  }

  add(item: T): void {
    this.#batch.push(item);
    if (this.#batch.length === 1) {
      this.#schedule(() => {
        const batch = this.#batch;
        this.#batch = [];
        this.#deliver(batch);
      });
    }
  }
}

/** At most once a frame and `FLUSH_INTERVAL_MS` apart; the first item after a quiet time goes with the next frame. */
export function onFrames(): Schedule {
  let flushedAt = 0;
  return (flush) => {
    const run = () => {
      flushedAt = performance.now();
      flush();
    };
    // A hidden page has no frames, and its batches must not grow for hours.
    const next = () => (document.hidden ? run() : requestAnimationFrame(run));
    const early = flushedAt + FLUSH_INTERVAL_MS - performance.now();
    if (early > 0) {
      setTimeout(next, early);
    } else {
      next();
    }
  };
}
