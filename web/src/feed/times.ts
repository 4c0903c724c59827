import type { Event as StreamEvent } from "@tailrace/sdk";
import type { EventRow } from "./row";

type Timestamp = NonNullable<StreamEvent["commitTime"]>;

/** One hop of an event's way. */
export interface Hop {
  readonly from: string;
  readonly to: string;
  readonly text: string;
}

/** Milliseconds since 1970, with the fraction that a double still holds (about a quarter of a microsecond). */
export function epochMs(time: Timestamp): number {
  return Number(time.seconds) * 1_000 + time.nanos / 1e6;
}

/** The way of an event, hop by hop. The last is told only for an event that happened while the page watched. */
export function hops({ event, arrivedAt, live }: EventRow): Hop[] {
  const relay = event.relayTime && epochMs(event.relayTime);
  const gateway = event.gatewayTime && epochMs(event.gatewayTime);
  return [
    { from: "Postgres", to: "relay", text: latency(event.commitTime && epochMs(event.commitTime), relay) },
    { from: "relay", to: "gateway", text: latency(relay, gateway) },
    { from: "gateway", to: "you", text: live ? latency(gateway, arrivedAt) : "before you watched" },
  ];
}

/** From commit to this page; empty for an event that was there before. */
export function endToEnd({ event, arrivedAt, live }: EventRow): string {
  return live ? latency(event.commitTime && epochMs(event.commitTime), arrivedAt) : "";
}

/** A span in words. Two clocks can disagree: what they make negative is no latency and is not shown as one. */
export function latency(fromMs: number | undefined, toMs: number | undefined): string {
  if (fromMs === undefined || toMs === undefined) {
    return "unknown";
  }
  const ms = toMs - fromMs;
  if (ms < 0) {
    return "clocks differ";
  }
  if (ms < 1_000) {
    return `${ms.toFixed(1)} ms`;
  }
  return ms < 60_000 ? `${(ms / 1_000).toFixed(2)} s` : `${Math.floor(ms / 60_000)} min`;
}

/** The time of day in the viewer's zone, to the millisecond. */
export function timeOfDay(time: Timestamp | undefined): string {
  if (time === undefined) {
    return "";
  }
  const date = new Date(Math.floor(epochMs(time)));
  const pad = (value: number, width = 2) => String(value).padStart(width, "0");
  const clock = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => pad(part)).join(":");
  return `${clock}.${pad(date.getMilliseconds(), 3)}`;
}

/** RFC 3339 in UTC with microseconds, which is what Postgres keeps. */
export function instant(time: Timestamp | undefined): string {
  if (time === undefined) {
    return "unknown";
  }
  const seconds = new Date(Number(time.seconds) * 1_000).toISOString().slice(0, 19);
  return `${seconds}.${String(Math.floor(time.nanos / 1_000)).padStart(6, "0")}Z`;
}
