import { type Event as StreamEvent, UserCreatedSchema, UserUpdatedSchema } from "@tailrace/sdk";
import { decodePayload } from "../feed/payload";

/** What a row says about a change of a user. */
export function describeUser({ payload, type }: StreamEvent): string {
  if (type.startsWith("users.deleted.")) {
    return "Deleted";
  }
  if (type.startsWith("users.updated.")) {
    const name = decodePayload(UserUpdatedSchema, payload)?.displayName;
    return name ? `Changed · ${name}` : type;
  }
  return decodePayload(UserCreatedSchema, payload)?.displayName || type;
}
