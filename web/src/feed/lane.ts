import { type Readable, Value } from "../value";
import { Ring } from "./ring";
import type { EventRow, Row } from "./row";

/** How many rows of one lane the page keeps. */
export const LANE_ROWS_MAX = 5_000;

/** What a list shows: it changes by being replaced. */
export interface LaneView {
  /** Newest first. */
  readonly rows: readonly Row[];
  readonly paused: boolean;
  /** How many rows came while paused. */
  readonly waiting: number;
}

/**
 * The rows of one topic, or of some that are watched together. A pause holds the view still and loses nothing: rows go on into the buffer, and a resume
 * shows them. Beyond `LANE_ROWS_MAX` the oldest leave.
 */
export class Lane {
  readonly #ring: Ring<Row>;
  readonly #view = new Value<LaneView>({ rows: [], paused: false, waiting: 0 });
  readonly #nextOffset = new Map<string, bigint>();

  constructor(capacity = LANE_ROWS_MAX) {
    this.#ring = new Ring(capacity);
  }

  get view(): Readable<LaneView> {
    return this.#view;
  }

  /** Adds rows, oldest first, and shows them at once unless paused. */
  append(rows: readonly Row[]): void {
    const fresh = rows.filter((row) => this.#isNew(row));
    for (const row of fresh) {
      this.#ring.push(row);
    }
    const { current } = this.#view;
    if (current.paused) {
      this.#view.set({ ...current, waiting: current.waiting + fresh.length });
    } else if (fresh.length > 0) {
      this.#show();
    }
  }

  pause(): void {
    if (!this.#view.current.paused) {
      this.#view.set({ ...this.#view.current, paused: true });
    }
  }

  resume(): void {
    if (this.#view.current.paused) {
      this.#show();
    }
  }

  /** A row by its key, also one that a pause hides. */
  find(key: string): EventRow | undefined {
    const isIt = (row: Row): row is EventRow => row.kind === "event" && row.key === key;
    const { rows, paused } = this.#view.current;
    return rows.find(isIt) ?? (paused ? this.#ring.newestFirst().find(isIt) : undefined);
  }

  #show(): void {
    this.#view.set({ rows: this.#ring.newestFirst(), paused: false, waiting: 0 });
  }

  // A cursor resumes without repeats; a watch that began anew (no cursor yet) may send what is already here.
  #isNew(row: Row): boolean {
    if (row.kind === "gap") {
      return true;
    }
    const { topic, partition, offset } = row.event;
    const place = `${topic}/${partition}`;
    if (offset < (this.#nextOffset.get(place) ?? 0n)) {
      return false;
    }
    this.#nextOffset.set(place, offset + 1n);
    return true;
  }
}
