import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  EventStreamService,
  type WatchOptions,
  type WatchRequest,
  type WatchResponse,
  WatchResponseSchema,
  type WatchState,
  watch,
} from "../src/index.js";

/** A response, the end of the call, silence without end, or silence for some milliseconds. */
type Step = WatchResponse | ConnectError | "hang" | number;

/** A server that plays one script for each call and keeps the requests. */
function server(...scripts: Step[][]) {
  const requests: WatchRequest[] = [];
  const transport = createRouterTransport(({ service }) => {
    service(EventStreamService, {
      async *watch(request, context) {
        requests.push(request);
        for (const step of scripts[requests.length - 1] ?? []) {
          if (step instanceof ConnectError) {
            throw step;
          }
          if (step === "hang") {
            await new Promise((_, reject) => context.signal.addEventListener("abort", reject));
          } else if (typeof step === "number") {
            await new Promise((resolve) => setTimeout(resolve, step));
          } else {
            yield step;
          }
        }
      },
    });
  });
  return { requests, events: createClient(EventStreamService, transport) };
}

const event = (offset: number) =>
  create(WatchResponseSchema, {
    cursor: `after ${offset}`,
    message: { case: "event", value: { topic: "users.created", offset: BigInt(offset) } },
  });
const caughtUp = create(WatchResponseSchema, { cursor: "end", message: { case: "caughtUp", value: {} } });
const heartbeat = create(WatchResponseSchema, { message: { case: "heartbeat", value: {} } });

/** Reads until the signal aborts, keeping offsets and states. */
function read(events: ReturnType<typeof server>["events"], random = 0.5, options: WatchOptions = {}) {
  const end = new AbortController();
  const offsets: bigint[] = [];
  const states: WatchState["name"][] = [];
  const watching = watch(events, {
    topics: ["users.created"],
    start: { case: "newest", value: 100 },
    signal: end.signal,
    random: () => random,
    onState: (state) => states.push(state.name),
    ...options,
  });
  const done = (async () => {
    for await (const { message } of watching) {
      if (message.case === "event") {
        offsets.push(message.value.offset);
      }
    }
  })();
  done.catch(() => {});
  return { end, offsets, states, watching, done };
}

const settle = () => vi.advanceTimersByTimeAsync(0);

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe("a watch", () => {
  it("begins where asked and goes on after the last cursor", async () => {
    const { requests, events } = server(
      [event(1), event(2), new ConnectError("draining", Code.Unavailable)],
      [event(3), "hang"],
    );
    const { offsets, states, end, done } = read(events);
    await vi.advanceTimersByTimeAsync(500);
    expect(offsets).toEqual([1n, 2n, 3n]);
    expect(requests.map(({ start }) => start)).toEqual([
      { case: "newest", value: 100 },
      { case: "cursor", value: "after 2" },
    ]);
    expect(states).toEqual(["connecting", "catching-up", "waiting", "connecting", "catching-up"]);
    end.abort();
    await done;
  });

  it("is live once it has caught up, and takes a clean end for a reason to return", async () => {
    const { requests, events } = server([caughtUp], [caughtUp, "hang"]);
    const { states, watching, end, done } = read(events);
    await vi.advanceTimersByTimeAsync(500);
    expect(requests).toHaveLength(2);
    expect(states).toEqual(["connecting", "live", "waiting", "connecting", "live"]);
    expect(watching.cursor).toBe("end");
    end.abort();
    await done;
    expect(watching.state.name).toBe("idle");
  });

  it("waits longer after each failure, and starts over after a success", async () => {
    const down = new ConnectError("down", Code.Unavailable);
    const { requests, events } = server([down], [down], [down], [event(1), down], ["hang"]);
    const { end, done } = read(events, 1);
    for (const [delay, calls] of [
      [0, 1],
      [500, 2],
      [1_000, 3],
      [2_000, 4],
      [500, 5],
    ] as const) {
      await vi.advanceTimersByTimeAsync(Math.max(delay - 1, 0));
      await vi.advanceTimersByTimeAsync(delay > 0 ? 1 : 0);
      expect(requests).toHaveLength(calls);
    }
    end.abort();
    await done;
  });

  it("returns at once when told to", async () => {
    const { requests, events } = server([new ConnectError("down", Code.Unavailable)], ["hang"]);
    const { watching, end, done } = read(events, 1);
    await settle();
    expect(watching.state.name).toBe("waiting");
    watching.reconnectNow();
    await settle();
    expect(requests).toHaveLength(2);
    end.abort();
    await done;
  });

  it("throws when another call would fail likewise, and can be read again after the last cursor", async () => {
    const { requests, events } = server(
      [event(7), new ConnectError("token expired", Code.Unauthenticated)],
      [event(8), "hang"],
    );
    const { watching, done } = read(events);
    await expect(done).rejects.toThrow("token expired");
    expect(watching.state.name).toBe("failed");
    const again = watching[Symbol.asyncIterator]();
    await again.next();
    expect(requests[1]?.start).toEqual({ case: "cursor", value: "after 7" });
    await again.return();
  });

  it("goes on with the next token where tokens are renewed, unless that is refused too", async () => {
    const expired = new ConnectError("token expired", Code.Unauthenticated);
    const { requests, events } = server([event(1), expired], [event(2), expired], [expired]);
    const { offsets, done } = read(events, 0.5, { renewsToken: true });
    await expect(done).rejects.toThrow("token expired");
    expect(offsets).toEqual([1n, 2n]);
    expect(requests).toHaveLength(3);
  });

  it("is stale after 30 s of silence, and what it was with the next heartbeat", async () => {
    const { requests, events } = server([caughtUp, 40_000, heartbeat, "hang"]);
    const { states, end, done } = read(events);
    await vi.advanceTimersByTimeAsync(29_999);
    expect(states.at(-1)).toBe("live");
    await vi.advanceTimersByTimeAsync(1);
    expect(states.at(-1)).toBe("stale");
    await vi.advanceTimersByTimeAsync(10_000);
    expect(states.at(-1)).toBe("live");
    expect(requests).toHaveLength(1);
    end.abort();
    await done;
  });

  it("gives a call up that stays silent, and loses nothing", async () => {
    const { requests, events } = server([event(1), "hang"], [event(2), "hang"]);
    const { offsets, states, end, done } = read(events);
    await vi.advanceTimersByTimeAsync(46_000);
    expect(requests[1]?.start).toEqual({ case: "cursor", value: "after 1" });
    expect(offsets).toEqual([1n, 2n]);
    expect(states.slice(2)).toEqual(["stale", "waiting", "connecting", "catching-up"]);
    end.abort();
    await done;
  });

  it("closes the call when its reader stops", async () => {
    const closed = vi.fn();
    const transport = createRouterTransport(({ service }) => {
      service(EventStreamService, {
        async *watch(_, context) {
          context.signal.addEventListener("abort", closed);
          yield event(1);
          await new Promise(() => {});
        },
      });
    });
    for await (const _ of watch(createClient(EventStreamService, transport))) {
      break;
    }
    expect(closed).toHaveBeenCalledOnce();
  });
});
