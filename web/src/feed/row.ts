import type { WatchResponse_Gap as Gap, Event as StreamEvent } from "@tailrace/sdk";

/** An event as it lies in a lane. Its key is the same on every page and after every reconnect. */
export interface EventRow {
  readonly kind: "event";
  readonly key: string;
  readonly event: StreamEvent;
  /** When the browser got it, in `Date.now()` milliseconds with a fraction. */
  readonly arrivedAt: number;
  /** Whether it happened while the page watched; what is older tells nothing about latency. */
  readonly live: boolean;
}

/** A seam: events that the stream could not serve. */
export interface GapRow {
  readonly kind: "gap";
  readonly key: string;
  readonly gap: Gap;
}

export type Row = EventRow | GapRow;

export function eventRow(event: StreamEvent, arrivedAt: number, live: boolean): EventRow {
  return { kind: "event", key: eventKey(event), event, arrivedAt, live };
}

export function gapRow(gap: Gap): GapRow {
  return { kind: "gap", key: `gap/${gap.topic}/${gap.partition}/${gap.firstOffset}`, gap };
}

export function eventKey({ topic, partition, offset }: StreamEvent): string {
  return `${topic}/${partition}/${offset}`;
}
