import { WatchResponse_Gap_Reason as GapReason } from "@tailrace/sdk";
import { memo } from "react";
import { bytes, count, shortName } from "../format";
import type { EventRow, GapRow, Row } from "./row";
import { endToEnd, instant, timeOfDay } from "./times";

/** How long a row that just arrived stands out, in milliseconds. */
const FRESH_MS = 1_000;

export interface RowViewProps {
  readonly row: Row;
  readonly id: string;
  /** From 1, as `aria-rowindex` counts. */
  readonly position: number;
  readonly top: number;
  readonly selected: boolean;
  readonly active: boolean;
  readonly own: boolean;
  readonly describe: (row: EventRow) => string;
  readonly onSelect: (row: EventRow) => void;
}

/** One line of a pane. Everything in it came from outside and is shown as text. */
export const RowView = memo(function RowView({ row, id, position, top, active, ...rest }: RowViewProps) {
  const fresh = row.kind === "event" && row.live && Date.now() - row.arrivedAt < FRESH_MS;
  return (
    <div
      id={id}
      role="row"
      className="row"
      aria-rowindex={position}
      aria-selected={rest.selected}
      data-active={active || undefined}
      data-fresh={fresh || undefined}
      data-own={rest.own || undefined}
      data-key={row.key}
      style={{ transform: `translateY(${top}px)` }}
      onClick={() => row.kind === "event" && rest.onSelect(row)}
    >
      {row.kind === "event" ? <EventCells row={row} {...rest} /> : <GapCell row={row} />}
    </div>
  );
});

function EventCells({ row, own, describe }: Pick<RowViewProps, "own" | "describe"> & { row: EventRow }) {
  const { event } = row;
  return (
    <>
      <span role="gridcell" className="cell-time data" title={instant(event.commitTime)}>
        {timeOfDay(event.commitTime)}
      </span>
      <span role="gridcell" className="cell-summary">
        <bdi>{describe(row)}</bdi>
        {own && <span className="own-mark">yours</span>}
      </span>
      <span role="gridcell" className="cell-subject data">
        {shortName(event.subject)}
      </span>
      <span role="gridcell" className="cell-size data">
        {bytes(event.payload.length)}
      </span>
      <span role="gridcell" className="cell-latency data">
        {endToEnd(row)}
      </span>
    </>
  );
}

function GapCell({ row: { gap } }: { row: GapRow }) {
  const sentence = `Up to ${count(gap.nextOffset - gap.firstOffset)} events ${gapReason(gap.reason)}`;
  const place = `partition ${gap.partition}, offsets ${count(gap.firstOffset)} to ${count(gap.nextOffset - 1n)}`;
  return (
    <span role="gridcell" className="cell-gap" title={`${sentence}: ${place}`}>
      {sentence} <span className="data">{place}</span>
    </span>
  );
}

function gapReason(reason: GapReason): string {
  switch (reason) {
    case GapReason.RETENTION:
      return "removed by retention";
    case GapReason.TOPIC_RECREATED:
      return "gone with the deleted topic";
    case GapReason.UNSPECIFIED:
      return "not served, the server does not say why";
  }
}
