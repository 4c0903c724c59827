import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  AuthService,
  authorize,
  connectThrough,
  ErrorInfoSchema,
  OrderService,
  pages,
  RelayService,
  RetryInfoSchema,
  retry,
  Session,
} from "../src/index.js";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const away = (seconds?: number) =>
  new ConnectError(
    "away",
    Code.Unavailable,
    undefined,
    seconds === undefined
      ? []
      : [{ desc: RetryInfoSchema, value: { retryDelay: { seconds: BigInt(seconds) } } }],
  );

/** A server whose every method fails with each of these, then answers; it keeps the requests. */
function server(...failures: ConnectError[]) {
  const requestIds: string[] = [];
  let calls = 0;
  const answer = (requestId = "") => {
    requestIds.push(requestId);
    const failure = failures[calls++];
    if (failure !== undefined) {
      throw failure;
    }
    return {};
  };
  const transport = createRouterTransport(
    ({ service }) => {
      service(OrderService, {
        createOrder: ({ requestId }) => answer(requestId),
        getOrder: () => answer(),
      });
      service(RelayService, { redriveDeadLetter: () => answer() });
    },
    { transport: { interceptors: [retry({ random: () => 1 })] } },
  );
  const to = { users: transport, orders: transport, relay: transport, gateway: transport };
  return { ...connectThrough(to), requestIds };
}

describe("a call to a service that is away", () => {
  it("is sent again with one request_id", async () => {
    const { orders, requestIds } = server(away(), away());
    const request = {};
    const done = orders.createOrder(request);
    await vi.advanceTimersByTimeAsync(100 + 200);
    await done;
    expect(requestIds).toHaveLength(3);
    expect(requestIds[0]).toMatch(/^[0-9a-f-]{36}$/);
    expect(new Set(requestIds).size).toBe(1);
    expect(request).toEqual({});
  });

  it("keeps the request_id that it was given", async () => {
    const { orders, requestIds } = server(away());
    const done = orders.createOrder({ requestId: "mine" });
    await vi.advanceTimersByTimeAsync(100);
    await done;
    expect(requestIds).toEqual(["mine", "mine"]);
  });

  it("waits as long as the server asks", async () => {
    const { orders, requestIds } = server(away(7));
    const done = orders.getOrder({});
    await vi.advanceTimersByTimeAsync(7_099);
    expect(requestIds).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    await done;
    expect(requestIds).toHaveLength(2);
  });

  it("is sent again when it was one too many, as soon as the server says", async () => {
    const exhausted = (reason: string) =>
      new ConnectError("too many", Code.ResourceExhausted, undefined, [
        { desc: ErrorInfoSchema, value: { reason, domain: "tailrace" } },
        { desc: RetryInfoSchema, value: { retryDelay: { seconds: 7n } } },
      ]);
    const { orders, requestIds } = server(exhausted("RATE_LIMIT_EXCEEDED"), exhausted("SIGN_IN_THROTTLED"));
    // Other limits are for people to wait for.
    const done = expect(orders.getOrder({})).rejects.toThrow("too many");
    await vi.advanceTimersByTimeAsync(7_099);
    expect(requestIds).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    await done;
    expect(requestIds).toHaveLength(2);
  });

  it("fails in the end", async () => {
    const { orders, requestIds } = server(away(), away(), away(), away(), away());
    const done = expect(orders.getOrder({})).rejects.toThrow("away");
    await vi.advanceTimersByTimeAsync(10_000);
    await done;
    expect(requestIds).toHaveLength(5);
  });

  it("is sent once when it could do harm twice", async () => {
    const { relay, requestIds } = server(away());
    await expect(relay.redriveDeadLetter({})).rejects.toThrow("away");
    expect(requestIds).toHaveLength(1);
  });

  it("is not sent again when it was given up", async () => {
    const { orders, requestIds } = server(away(), away());
    const end = new AbortController();
    const done = expect(orders.getOrder({}, { signal: end.signal })).rejects.toThrow();
    await vi.advanceTimersByTimeAsync(50);
    end.abort();
    await done;
    await vi.advanceTimersByTimeAsync(10_000);
    expect(requestIds).toHaveLength(1);
  });
});

it("a call that failed for another reason is not sent again", async () => {
  const { orders, requestIds } = server(new ConnectError("inside", Code.Internal));
  await expect(orders.getOrder({})).rejects.toThrow("inside");
  expect(requestIds).toHaveLength(1);
});

/** A sign-in server that says what it was asked, and a client of an order service that knows its tokens. */
function account(refresh: "works" | "is refused" = "works") {
  const asked: string[] = [];
  let issued = 0;
  const grant = () => {
    issued++;
    return { accessToken: `a${issued}`, refreshToken: `r${issued}`, expiresIn: { seconds: 900n } };
  };
  const anybody = createRouterTransport(({ service }) => {
    service(AuthService, {
      login: () => {
        asked.push("login");
        return grant();
      },
      refreshToken: ({ refreshToken }) => {
        asked.push(`refresh ${refreshToken}`);
        if (refresh === "is refused") {
          throw new ConnectError("spent", Code.Unauthenticated);
        }
        return grant();
      },
      logout: ({ refreshToken }) => {
        asked.push(`logout ${refreshToken}`);
        return {};
      },
    });
  });
  const session = new Session(createClient(AuthService, anybody), { email: "a@b.c", password: "p" });
  const tokens: (string | null)[] = [];
  const transport = createRouterTransport(
    ({ service }) => {
      service(OrderService, {
        getOrder: (_, { requestHeader }) => {
          tokens.push(requestHeader.get("authorization"));
          return {};
        },
      });
    },
    { transport: { interceptors: [authorize(session)] } },
  );
  const to = { users: transport, orders: transport, relay: transport, gateway: transport };
  return { ...connectThrough(to, session), session, asked, tokens };
}

describe("a session", () => {
  it("signs in once for calls at the same time, and renews once", async () => {
    const { orders, asked, tokens } = account();
    await Promise.all([orders.getOrder({}), orders.getOrder({}), orders.getOrder({})]);
    await vi.advanceTimersByTimeAsync(719_000);
    await orders.getOrder({});
    await vi.advanceTimersByTimeAsync(1_000);
    await Promise.all([orders.getOrder({}), orders.getOrder({})]);
    expect(asked).toEqual(["login", "refresh r1"]);
    expect(tokens).toEqual([...Array(4).fill("Bearer a1"), "Bearer a2", "Bearer a2"]);
  });

  it("signs in anew when the refresh token is not taken", async () => {
    const { orders, renew, asked } = account("is refused");
    await orders.getOrder({});
    await renew();
    expect(asked).toEqual(["login", "refresh r1", "login"]);
  });

  it("ends with a logout", async () => {
    const { orders, signOut, asked } = account();
    await signOut();
    await orders.getOrder({});
    await signOut();
    expect(asked).toEqual(["login", "logout r1"]);
  });
});

it("pages are asked for one after the other, with the same filter", async () => {
  const asked: string[] = [];
  const transport = createRouterTransport(({ service }) => {
    service(OrderService, {
      listOrders: ({ filter, pageToken }) => {
        asked.push(`${filter} ${pageToken}`);
        return { nextPageToken: pageToken === "" ? "second" : "" };
      },
    });
  });
  const { orders } = connectThrough({
    users: transport,
    orders: transport,
    relay: transport,
    gateway: transport,
  });
  for await (const _ of pages(orders.listOrders, { filter: "f" })) {
    asked.push("read");
  }
  expect(asked).toEqual(["f ", "read", "f second", "read"]);
});
