import { create, type MessageInitShape, toJsonString } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { createFetchHandler } from "@connectrpc/connect/protocol";
import {
  AuthService,
  BadRequestSchema,
  type CreateOrderRequest,
  DeadLetterSchema,
  ErrorInfoSchema,
  EventSchema,
  EventStreamService,
  WatchResponse_Gap_Reason as GapReason,
  OrderCreatedSchema,
  OrderSchema,
  OrderService,
  DeadLetter_Reason as Reason,
  type Event as StreamEvent,
  UserCreatedSchema,
  UserService,
  type WatchRequest,
  type WatchResponseSchema,
} from "@tailrace/sdk";

/**
 * The stand-in services of `npm run mock`. They hold their events in memory, follow the contract as far as the page
 * needs, and take their faults from `/mock/fault?...`. They prove nothing about the true services.
 */
export type Handler = (request: Request) => Promise<Response>;

const DEMO = { email: "demo@tailrace.local", password: "tailrace-demo" };
const HEARTBEAT_MS = 10_000;

const log: StreamEvent[] = [];
const waiting = new Set<() => void>();
const fault = { down: false, expired: false, silent: false, gap: false };

function publish(event: MessageInitShape<typeof EventSchema>): void {
  const now = Date.now();
  const offset = BigInt(log.filter(({ topic }) => topic === event.topic).length * 2);
  log.push(
    create(EventSchema, {
      id: crypto.randomUUID(),
      source: `/tailrace/sources/${event.topic?.split(".")[0]}`,
      contentType: "application/json",
      offset,
      key: new TextEncoder().encode(event.subject?.split("/")[1] ?? ""),
      commitTime: timestampFromMs(now - 6),
      relayTime: timestampFromMs(now - 4),
      gatewayTime: timestampFromMs(now - 1),
      headers: headersOf({ ce_type: event.type ?? "", tailrace_position: `0/16B3${offset.toString(16)}/0` }),
      ...event,
    }),
  );
  wake();
}

function headersOf(headers: Record<string, string>) {
  return Object.entries({ ce_specversion: "1.0", ce_id: crypto.randomUUID(), ...headers }).map(
    ([name, value]) => ({
      name,
      value: new TextEncoder().encode(value),
    }),
  );
}

function wake(): void {
  for (const resolve of waiting) {
    resolve();
  }
  waiting.clear();
}

function publishUser(displayName: string, email: string): string {
  const user = `users/${crypto.randomUUID()}`;
  const payload = toJsonString(UserCreatedSchema, create(UserCreatedSchema, { user, displayName, email }));
  publish({
    topic: "users.created",
    type: "users.created.v1",
    subject: user,
    payload: new TextEncoder().encode(payload),
  });
  return user;
}

function publishOrder(lines: NonNullable<CreateOrderRequest["order"]>["lines"]): string {
  const order = `orders/${crypto.randomUUID()}`;
  const currencyCode = lines[0]?.unitPrice?.currencyCode ?? "EUR";
  const units = lines.reduce((sum, line) => sum + BigInt(line.quantity) * (line.unitPrice?.units ?? 0n), 0n);
  const created = create(OrderCreatedSchema, {
    order,
    lines: lines.map(({ product, quantity, unitPrice }) => ({
      product,
      quantity,
      ...(unitPrice && { unitPrice }),
    })),
    total: { units, currencyCode },
  });
  const payload = new TextEncoder().encode(toJsonString(OrderCreatedSchema, created));
  publish({ topic: "orders.created", type: "orders.created.v1", subject: order, payload });
  return order;
}

function publishDeadLetter(): void {
  const letter = create(DeadLetterSchema, {
    reason: Reason.UNROUTABLE,
    message: "no route matches the event type invoices.created.v1",
    source: "sources/orders",
    table: "public.outbox",
    position: "0/16B3748/0",
    eventType: "invoices.created.v1",
    aggregateType: "invoices",
    aggregateId: crypto.randomUUID(),
    payload: new TextEncoder().encode('{"invoice":"invoices/1"}'),
    payloadSize: 24n,
    payloadSha256: "0".repeat(64),
  });
  const payload = new TextEncoder().encode(toJsonString(DeadLetterSchema, letter));
  publish({ topic: "dead-letter", type: "invoices.created.v1", subject: "invoices/1", payload });
}

function invalid(fields: [string, string][]): ConnectError {
  const fieldViolations = fields.map(([field, description]) => ({ field, description }));
  return new ConnectError("the request is not valid", Code.InvalidArgument, undefined, [
    { desc: ErrorInfoSchema, value: { reason: "INVALID_FIELDS", domain: "tailrace" } },
    { desc: BadRequestSchema, value: { fieldViolations } },
  ]);
}

function checkUser(displayName: string, email: string, password: string): void {
  const fields: [string, string][] = [];
  if (displayName === "") fields.push(["user.display_name", "must have 1 to 100 characters"]);
  if (!email.includes("@")) fields.push(["user.email", "is not an e-mail address"]);
  if (password.length < 8) fields.push(["password", "must have 8 to 128 characters"]);
  if (fields.length > 0) throw invalid(fields);
}

function checkOrder(lines: NonNullable<CreateOrderRequest["order"]>["lines"]): void {
  const fields = lines.flatMap(({ product, quantity, unitPrice }, index): [string, string][] => [
    ...(product === ""
      ? [[`order.lines[${index}].product`, "must have 1 to 200 characters"] as [string, string]]
      : []),
    ...(quantity < 1 ? [[`order.lines[${index}].quantity`, "must be 1 to 10000"] as [string, string]] : []),
    ...((unitPrice?.units ?? -1n) < 0n
      ? [[`order.lines[${index}].unit_price.units`, "must be 0 or more"] as [string, string]]
      : []),
  ]);
  if (fields.length > 0) throw invalid(fields);
}

async function* watch(
  { topics, start }: WatchRequest,
  context: HandlerContext,
): AsyncGenerator<MessageInitShape<typeof WatchResponseSchema>> {
  let next = start.case === "cursor" ? Number(start.value) : Math.max(0, log.length - 100);
  let caughtUp = false;
  let gapAt = Number.POSITIVE_INFINITY;
  while (!context.signal.aborted) {
    if (fault.down) throw new ConnectError("draining", Code.Unavailable);
    if (fault.expired) throw new ConnectError("the token has expired", Code.Unauthenticated);
    if (fault.gap) {
      fault.gap = false;
      gapAt = next;
    }
    if (gapAt <= next) {
      gapAt = Number.POSITIVE_INFINITY;
      const gap = {
        topic: "users.created",
        partition: 2,
        firstOffset: 12n,
        nextOffset: 1216n,
        reason: GapReason.RETENTION,
      };
      yield { cursor: String(next), message: { case: "gap", value: gap } };
    }
    const event = fault.silent ? undefined : log[next];
    if (event) {
      next += 1;
      if (topics.includes(event.topic))
        yield { cursor: String(next), message: { case: "event", value: event } };
    } else if (!caughtUp) {
      caughtUp = true;
      yield { cursor: String(next), message: { case: "caughtUp", value: {} } };
    } else if (!(await anything(context.signal)) && !fault.silent) {
      yield {
        cursor: String(next),
        message: { case: "heartbeat", value: { serverTime: timestampFromMs(Date.now()) } },
      };
    }
  }
}

/** Whether anything happened before the next heartbeat is due. */
function anything(signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), HEARTBEAT_MS);
    const woken = () => {
      clearTimeout(timer);
      resolve(true);
    };
    waiting.add(woken);
    signal.addEventListener("abort", woken);
  });
}

const router = createConnectRouter({ grpc: false, connect: false })
  .service(AuthService, {
    login({ email, password }) {
      if (password !== DEMO.password && email === DEMO.email) {
        throw new ConnectError("e-mail address or password is wrong", Code.Unauthenticated);
      }
      fault.expired = false;
      return {
        accessToken: "mock",
        expiresIn: { seconds: 3600n },
        user: "users/demo",
        operator: email === DEMO.email,
      };
    },
  })
  .service(UserService, {
    createUser({ user, password }) {
      checkUser(user?.displayName ?? "", user?.email ?? "", password);
      return { name: publishUser(user?.displayName ?? "", user?.email ?? ""), email: user?.email ?? "" };
    },
  })
  .service(OrderService, {
    createOrder({ order }) {
      checkOrder(order?.lines ?? []);
      return { name: publishOrder(order?.lines ?? []) };
    },
  })
  .service(EventStreamService, { watch });

/** `/mock/fault?down=1&silent=0` sets faults, `?seed=20` adds traffic; the next call or wake-up feels them. */
async function setFault(request: Request): Promise<Response> {
  for (const [name, value] of new URL(request.url).searchParams) {
    if (name === "seed") {
      seed(Number(value));
    } else if (name in fault) {
      fault[name as keyof typeof fault] = value === "1";
    }
  }
  wake();
  return Response.json(fault);
}

async function config(request: Request): Promise<Response> {
  const { origin } = new URL(request.url);
  return Response.json({
    userServiceUrl: origin,
    orderServiceUrl: origin,
    relayUrl: origin,
    gatewayUrl: origin,
    demo: DEMO,
  });
}

const NAMES = [
  "Ada Lovelace",
  "Grace Hopper",
  "Радия Перлман",
  "عمر الخيام",
  "Barbara 🚰 Liskov",
  "<img src=x onerror=alert(1)>",
];
const PRODUCTS = ["Green tea", "Water wheel, oak, 1:20", "Sluice gate", "Fish ladder"];

function seed(size: number): void {
  for (let index = 0; index < size; index++) {
    publishUser(NAMES[index % NAMES.length] ?? "", `user${index}@example.com`);
    const unitPrice = { currencyCode: "EUR", units: BigInt(3 + index), nanos: 0 };
    const product = PRODUCTS[index % PRODUCTS.length] ?? "";
    publishOrder(create(OrderSchema, { lines: [{ product, quantity: 1 + (index % 4), unitPrice }] }).lines);
  }
  publishDeadLetter();
}

export const mock = new Map<string, Handler>([
  ["/config.json", config],
  ["/mock/fault", setFault],
  ...router.handlers.map((handler): [string, Handler] => [handler.requestPath, createFetchHandler(handler)]),
]);
