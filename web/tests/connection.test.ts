import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import {
  connectThrough,
  EventStreamService,
  type LoginResponse,
  LoginResponseSchema,
  type WatchRequest,
  WatchResponseSchema,
} from "@tailrace/sdk";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { OwnItems } from "../src/api/own-items";
import { Session } from "../src/api/session";
import { ownConnection } from "../src/feed/connection";

const login = (user: string, operator = false): LoginResponse =>
  create(LoginResponseSchema, {
    accessToken: `token of ${user}`,
    user,
    operator,
    expiresIn: { seconds: 60n },
  });

/** A gateway whose streams send a cursor, and stay open until `fail` or the caller ends them. */
function gateway() {
  const requests: WatchRequest[] = [];
  const ended: string[] = [];
  let fail = (_: ConnectError) => {};
  const transport = createRouterTransport(({ service }) => {
    service(EventStreamService, {
      async *watch(request, { signal }) {
        requests.push(request);
        yield create(WatchResponseSchema, {
          cursor: `cursor ${requests.length}`,
          message: { case: "caughtUp", value: {} },
        });
        await new Promise((_, reject) => {
          fail = reject;
          signal.addEventListener("abort", () => {
            ended.push("by the caller");
            reject(signal.reason);
          });
        });
      },
    });
  });
  const session = new Session(sessionStorage);
  const owned = ownConnection({
    session,
    own: new OwnItems(sessionStorage),
    tailrace: connectThrough({ users: transport, orders: transport, relay: transport, gateway: transport }),
    config: { userServiceUrl: "", orderServiceUrl: "", relayUrl: "", gatewayUrl: "", demo: null },
  });
  const live = () => vi.waitFor(() => expect(owned.current?.state.current.name).toBe("live"));
  return { session, owned, requests, ended, live, fail: (error: ConnectError) => fail(error) };
}

beforeEach(() => sessionStorage.clear());

describe("the connection", () => {
  it("is one stream, opened by the sign-in and closed by the sign-out", async () => {
    const { session, owned, requests, ended, live } = gateway();
    expect(owned.current).toBeNull();
    session.signIn("ada@example.com", login("users/1"));
    await live();
    session.signOut();
    await vi.waitFor(() => expect(ended).toEqual(["by the caller"]));
    expect(owned.current).toBeNull();
    expect(requests).toHaveLength(1);
  });

  it("asks for dead letters for an operator only", async () => {
    const { session, requests, live } = gateway();
    session.signIn("ada@example.com", login("users/1"));
    await live();
    session.signIn("op@example.com", login("users/2", true));
    await vi.waitFor(() => expect(requests).toHaveLength(2));
    expect(requests.map(({ topics }) => topics.includes("dead-letter"))).toEqual([false, true]);
  });

  it("keeps the feed of an expired sign-in, and goes on after its cursor for the same person", async () => {
    const { session, owned, requests, live, fail } = gateway();
    session.signIn("ada@example.com", login("users/1"));
    await live();
    const feed = owned.current;
    fail(new ConnectError("the token has expired", Code.Unauthenticated));
    await vi.waitFor(() => expect(session.state.current.name).toBe("expired"));
    expect(owned.current).toBe(feed);
    session.signIn("ada@example.com", login("users/1"));
    await live();
    expect(owned.current).toBe(feed);
    expect(requests[1]?.start).toEqual({ case: "cursor", value: "cursor 1" });
  });

  it("begins with nothing for another person", async () => {
    const { session, owned, requests, live, fail } = gateway();
    session.signIn("ada@example.com", login("users/1"));
    await live();
    const feed = owned.current;
    fail(new ConnectError("the token has expired", Code.Unauthenticated));
    await vi.waitFor(() => expect(session.state.current.name).toBe("expired"));
    session.signIn("eve@example.com", login("users/2"));
    await live();
    expect(owned.current).not.toBe(feed);
    expect(requests[1]?.start).toEqual({ case: "newest", value: 100 });
  });
});
