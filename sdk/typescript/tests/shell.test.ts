import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import {
  BadRequestSchema,
  bearer,
  connectThrough,
  DEFAULT_BACKOFF,
  delayMs,
  ErrorInfoSchema,
  failureOf,
  newRequestId,
  UserService,
} from "../src/index.js";

describe("the wait before a retry", () => {
  it.each([
    [0, 0, 0],
    [0, 1, 500],
    [3, 0.5, 2_000],
    [6, 1, 30_000],
    [1_000, 1, 30_000],
  ])("attempt %i with random %d is %i ms", (attempt, random, expected) => {
    expect(delayMs(attempt, random, DEFAULT_BACKOFF)).toBe(expected);
  });
});

describe("a failure", () => {
  it("names its reason and its fields", () => {
    const error = new ConnectError("the user is not valid", Code.InvalidArgument, undefined, [
      { desc: ErrorInfoSchema, value: { reason: "INVALID_FIELDS", domain: "tailrace" } },
      {
        desc: BadRequestSchema,
        value: { fieldViolations: [{ field: "user.email", description: "is not an e-mail address" }] },
      },
    ]);
    expect(failureOf(error)).toEqual({
      code: Code.InvalidArgument,
      reason: "INVALID_FIELDS",
      message: "the user is not valid",
      fields: new Map([["user.email", "is not an e-mail address"]]),
    });
  });

  it("that is about one field says so at that field", () => {
    const taken = new ConnectError("the e-mail address is taken", Code.AlreadyExists, undefined, [
      { desc: ErrorInfoSchema, value: { reason: "EMAIL_TAKEN", metadata: { field: "user.email" } } },
    ]);
    expect(failureOf(taken).fields).toEqual(new Map([["user.email", "the e-mail address is taken"]]));
  });

  it("is made of anything that was thrown", () => {
    expect(failureOf(new TypeError("failed to fetch"))).toMatchObject({ reason: "", fields: new Map() });
  });
});

describe("a client", () => {
  it("sends the current token with each call", async () => {
    const seen: (string | null)[] = [];
    const transport = createRouterTransport(
      ({ service }) => {
        service(UserService, {
          getUser(_, context) {
            seen.push(context.requestHeader.get("authorization"));
            return {};
          },
        });
      },
      { transport: { interceptors: [bearer(() => current)] } },
    );
    const { users } = connectThrough({
      users: transport,
      orders: transport,
      relay: transport,
      gateway: transport,
    });
    let current: string | undefined;
    await users.getUser({});
    current = "t1";
    await users.getUser({});
    expect(seen).toEqual([null, "Bearer t1"]);
  });
});

it("a request id is a version 4 UUID, and never the same", () => {
  const ids = Array.from({ length: 100 }, newRequestId);
  expect(new Set(ids).size).toBe(100);
  for (const id of ids) {
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  }
});
