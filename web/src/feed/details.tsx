import type { ReactNode } from "react";
import { useEffect, useRef } from "react";
import { count } from "../format";
import { Button } from "../ui/button";
import { bytesText } from "./payload";
import { Payload } from "./payload-view";
import type { EventRow } from "./row";
import { hops, instant } from "./times";

export interface DetailsProps {
  readonly row: EventRow;
  readonly onClose: () => void;
  /** What a feature knows about the event beyond the record. */
  readonly children?: ReactNode;
}

/** Everything about one event: what it says, where it lies, how it came here. */
export function Details({ row, onClose, children }: DetailsProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  const { event } = row;
  // Another event is another reading: the focus goes along.
  useEffect(() => {
    heading.current?.focus({ preventScroll: true });
  }, [row.key]);
  return (
    <aside
      className="details"
      aria-label="Event details"
      onKeyDown={({ key }) => key === "Escape" && onClose()}
    >
      <header className="details-head">
        <h2 ref={heading} tabIndex={-1}>
          {event.type}
        </h2>
        <Button kind="bare" onClick={onClose}>
          Close
        </Button>
      </header>
      <p className="data details-subject">{event.subject}</p>
      {children}
      <Way row={row} />
      <Payload key={row.key} title="Payload" payload={event.payload} />
      <Attributes row={row} />
      <Headers row={row} />
    </aside>
  );
}

function Way({ row }: { row: EventRow }) {
  return (
    <section aria-label="Way of the event">
      <h3>Way</h3>
      <ol className="way">
        {hops(row).map(({ from, to, text }) => (
          <li key={from}>
            <span className="way-hop">
              {from} <span aria-hidden="true">→</span> <span className="hidden-label">to</span> {to}
            </span>
            <span className="data">{text}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}

function Attributes({ row: { event, arrivedAt } }: { row: EventRow }) {
  const position = event.headers.find(({ name }) => name === "tailrace_position");
  const arrival = new Date(arrivedAt).toISOString();
  const attributes: [string, string][] = [
    ["Key", bytesText(event.key)],
    ["Topic", event.topic],
    ["Partition", String(event.partition)],
    ["Offset", count(event.offset)],
    ["Position", position ? bytesText(position.value) : "unknown"],
    ["Event id", event.id],
    ["Source", event.source],
    ["Content type", event.contentType],
    ["Commit", instant(event.commitTime)],
    ["Relay", instant(event.relayTime)],
    ["Gateway", instant(event.gatewayTime)],
    ["Arrival", arrival],
  ];
  return (
    <section aria-label="Record">
      <h3>Record</h3>
      <dl className="attributes">
        {attributes.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd className="data">{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function Headers({ row: { event } }: { row: EventRow }) {
  return (
    <section aria-label="Headers">
      <div className="details-row">
        <h3>Headers</h3>
        <span className="quiet data">{event.headers.length}</span>
      </div>
      <dl className="attributes">
        {event.headers.map(({ name, value }, index) => (
          <div key={index}>
            <dt className="data">{name}</dt>
            <dd className="data">{bytesText(value)}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
