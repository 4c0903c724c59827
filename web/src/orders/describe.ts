import { OrderCancelledSchema, OrderCreatedSchema, type Event as StreamEvent } from "@tailrace/sdk";
import { decodePayload } from "../feed/payload";
import { formatAmount } from "./money";

/** What a row says about a change of an order. */
export function describeOrder(event: StreamEvent): string {
  return event.type.startsWith("orders.cancelled.") ? describeCancelled(event) : describeCreated(event);
}

/** Which order is meant says the row; here it says how much is called off. */
function describeCancelled({ payload, type }: StreamEvent): string {
  const total = decodePayload(OrderCancelledSchema, payload)?.total;
  return total ? `Cancelled · ${formatAmount(total)} ${total.currencyCode}` : type;
}

/** The total and the first line. */
function describeCreated({ payload, type }: StreamEvent): string {
  const order = decodePayload(OrderCreatedSchema, payload);
  const [first, ...rest] = order?.lines ?? [];
  if (!order?.total || !first) {
    return type;
  }
  const more = rest.length > 0 ? ` + ${rest.length} more` : "";
  return `${formatAmount(order.total)} ${order.total.currencyCode} · ${first.quantity} × ${first.product}${more}`;
}
