import { OrderCreatedSchema, type Event as StreamEvent } from "@tailrace/sdk";
import { decodePayload } from "../feed/payload";
import { formatAmount } from "./money";

/** What a row says about a created order: its total and its first line. */
export function describeOrder({ payload, type }: StreamEvent): string {
  const order = decodePayload(OrderCreatedSchema, payload);
  const [first, ...rest] = order?.lines ?? [];
  if (!order?.total || !first) {
    return type;
  }
  const more = rest.length > 0 ? ` + ${rest.length} more` : "";
  return `${formatAmount(order.total)} ${order.total.currencyCode} · ${first.quantity} × ${first.product}${more}`;
}
