import type { Lane } from "../feed/lane";
import { Pane } from "../feed/pane";
import { Payload } from "../feed/payload-view";
import type { EventRow } from "../feed/row";
import { count } from "../format";
import { deadLetterOf, describeDeadLetter, reasonText } from "./describe";

interface DeadLettersProps {
  readonly lane: Lane;
  readonly loaded: boolean;
  readonly selectedKey: string | null;
  readonly onSelect: (row: EventRow) => void;
}

const NONE: ReadonlySet<string> = new Set();

/** Events that could not be published, for operators. */
export function DeadLetters({ lane, loaded, selectedKey, onSelect }: DeadLettersProps) {
  return (
    <Pane
      lane={lane}
      title="Dead letters"
      shape="cross"
      loaded={loaded}
      selectedKey={selectedKey}
      own={NONE}
      describe={describeDeadLetter}
      onSelect={onSelect}
      empty={
        <>
          <h3>No dead letters</h3>
          <p className="quiet">
            An event that cannot be published (no route, too large, unreadable) comes here with its reason,
            and the others flow on.
          </p>
        </>
      }
    />
  );
}

/** What is particular to a dead letter, above the record's own details. */
export function DeadLetterSummary({ row }: { row: EventRow }) {
  const letter = deadLetterOf(row);
  if (!letter) {
    return (
      <p className="form-error">The record is no dead letter of this version. Its payload stands below.</p>
    );
  }
  const facts: [string, string][] = [
    ["Reason", reasonText(letter.reason)],
    ["Source", letter.source],
    ["Table", letter.table],
    ["Position", letter.position],
    ["Meant for", letter.topic || "no topic"],
    ["Aggregate", `${letter.aggregateType}/${letter.aggregateId}`],
    ["Size", `${count(letter.payloadSize)} B`],
    ["SHA-256", letter.payloadSha256],
  ];
  return (
    <>
      <section aria-label="Dead letter">
        <p className="form-error">{letter.message}</p>
        <dl className="attributes">
          {facts.map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd className="data">{value}</dd>
            </div>
          ))}
        </dl>
      </section>
      <Payload title="Payload of the event" payload={letter.payload} />
    </>
  );
}
