import { type Event as StreamEvent, UserCreatedSchema } from "@tailrace/sdk";
import { decodePayload } from "../feed/payload";

/** What a row says about a created user. */
export function describeUser({ payload, type }: StreamEvent): string {
  return decodePayload(UserCreatedSchema, payload)?.displayName || type;
}
