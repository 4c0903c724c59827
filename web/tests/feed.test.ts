import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import {
  EventSchema,
  EventStreamService,
  type WatchResponse,
  WatchResponse_CaughtUpSchema,
  WatchResponse_GapSchema,
  WatchResponseSchema,
} from "@tailrace/sdk";
import { describe, expect, it, vi } from "vitest";
import { Batches } from "../src/feed/batches";
import { Feed, ORDERS_TOPIC, USERS_TOPIC } from "../src/feed/feed";
import { Lane } from "../src/feed/lane";
import { Ring } from "../src/feed/ring";
import { eventRow, gapRow } from "../src/feed/row";

const event = (offset: number, topic = USERS_TOPIC, partition = 0) =>
  create(EventSchema, { topic, partition, offset: BigInt(offset) });
const row = (offset: number, partition = 0) => eventRow(event(offset, USERS_TOPIC, partition), 0, true);
const keys = (lane: Lane) => lane.view.current.rows.map(({ key }) => key);

describe("a ring", () => {
  it.each([
    [[], []],
    [
      [1, 2],
      [2, 1],
    ],
    [
      [1, 2, 3],
      [3, 2, 1],
    ],
    [
      [1, 2, 3, 4, 5],
      [5, 4, 3],
    ],
  ])("of three after %j holds %j", (pushed, expected) => {
    const ring = new Ring<number>(3);
    for (const item of pushed) {
      ring.push(item);
    }
    expect(ring.newestFirst()).toEqual(expected);
  });
});

describe("a lane", () => {
  it("shows the newest first under stable keys", () => {
    const lane = new Lane();
    lane.append([row(1), row(2)]);
    lane.append([row(1, 3)]);
    expect(keys(lane)).toEqual(["users.created/3/1", "users.created/0/2", "users.created/0/1"]);
  });

  it("drops the oldest beyond its capacity", () => {
    const lane = new Lane(2);
    lane.append([row(1), row(2), row(3)]);
    expect(keys(lane)).toEqual(["users.created/0/3", "users.created/0/2"]);
  });

  it("shows an offset once, however often it is sent", () => {
    const lane = new Lane();
    lane.append([row(1), row(2)]);
    lane.append([row(1), row(2), row(3)]);
    expect(keys(lane)).toHaveLength(3);
  });

  it("stands still while paused, counts, and shows all on resume", () => {
    const lane = new Lane();
    lane.append([row(1)]);
    lane.pause();
    lane.append([row(2), row(3)]);
    expect(lane.view.current).toMatchObject({
      paused: true,
      waiting: 2,
      rows: [{ key: "users.created/0/1" }],
    });
    expect(lane.find("users.created/0/3")?.event.offset).toBe(3n);
    lane.resume();
    expect(lane.view.current).toMatchObject({ paused: false, waiting: 0 });
    expect(keys(lane)).toHaveLength(3);
  });

  it("keeps a gap as a seam at its place", () => {
    const lane = new Lane();
    const gap = create(WatchResponse_GapSchema, { topic: USERS_TOPIC, firstOffset: 2n, nextOffset: 9n });
    lane.append([row(1), gapRow(gap), row(9)]);
    expect(lane.view.current.rows.map(({ kind }) => kind)).toEqual(["event", "gap", "event"]);
  });
});

it("a burst is delivered as one batch", () => {
  const delivered: number[][] = [];
  let flush = () => {};
  const batches = new Batches<number>(
    (batch) => delivered.push([...batch]),
    (run) => {
      flush = run;
    },
  );
  batches.add(1);
  batches.add(2);
  expect(delivered).toEqual([]);
  flush();
  batches.add(3);
  flush();
  expect(delivered).toEqual([[1, 2], [3]]);
});

describe("a feed", () => {
  const respond = (message: WatchResponse["message"], cursor: string) =>
    create(WatchResponseSchema, { message, cursor });

  function feedOf(script: (call: number) => AsyncIterable<WatchResponse>, onSignedOut = () => {}) {
    const starts: unknown[] = [];
    const topics: string[][] = [];
    const transport = createRouterTransport(({ service }) => {
      service(EventStreamService, {
        watch(request) {
          starts.push(request.start);
          topics.push(request.topics);
          return script(starts.length);
        },
      });
    });
    const events = createClient(EventStreamService, transport);
    const feed = new Feed({
      events,
      operator: false,
      onSignedOut,
      schedule: (flush) => flush(),
      now: () => 5,
    });
    return { feed, starts, topics };
  }

  it("sorts one stream into a lane for each topic, and tells old from live", async () => {
    const { feed, topics } = feedOf(async function* () {
      yield respond({ case: "event", value: event(1) }, "a");
      yield respond({ case: "caughtUp", value: create(WatchResponse_CaughtUpSchema) }, "b");
      yield respond({ case: "event", value: event(1, ORDERS_TOPIC) }, "c");
      throw new ConnectError("no", Code.PermissionDenied);
    });
    await feed.open();
    expect(topics).toEqual([
      [USERS_TOPIC, "users.updated", "users.deleted", ORDERS_TOPIC, "orders.cancelled"],
    ]);
    expect(feed.lane(USERS_TOPIC)?.view.current.rows).toMatchObject([{ live: false, arrivedAt: 5 }]);
    expect(feed.lane(ORDERS_TOPIC)?.view.current.rows).toMatchObject([{ live: true }]);
  });

  it("says when the sign-in is over, keeps its rows, and goes on behind the last event", async () => {
    const signedOut = vi.fn();
    const { feed, starts } = feedOf(async function* (call) {
      yield respond({ case: "event", value: event(call) }, `after ${call}`);
      throw new ConnectError("token expired", Code.Unauthenticated);
    }, signedOut);
    await feed.open();
    expect(signedOut).toHaveBeenCalledOnce();
    await feed.open();
    expect(starts).toEqual([
      { case: "newest", value: 100 },
      { case: "cursor", value: "after 1" },
    ]);
    expect(feed.lane(USERS_TOPIC)?.view.current.rows).toHaveLength(2);
  });
});
