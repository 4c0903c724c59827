import { type DeadLetter, DeadLetterSchema, DeadLetter_Reason as Reason } from "@tailrace/sdk";
import { decodePayload } from "../feed/payload";
import type { EventRow } from "../feed/row";

export function deadLetterOf({ event }: EventRow): DeadLetter | undefined {
  return decodePayload(DeadLetterSchema, event.payload);
}

/** What a row says about a dead letter. */
export function describeDeadLetter(row: EventRow): string {
  const letter = deadLetterOf(row);
  return letter ? `${reasonText(letter.reason)} · ${letter.message}` : row.event.type;
}

export function reasonText(reason: Reason): string {
  switch (reason) {
    case Reason.UNSPECIFIED:
      return "No reason given";
    case Reason.UNROUTABLE:
      return "No route";
    case Reason.TOO_LARGE:
      return "Too large";
    case Reason.MALFORMED:
      return "Malformed";
  }
}
