import { Code, ConnectError } from "@connectrpc/connect";
import type { Tailrace, WatchResponse, WatchState } from "@tailrace/sdk";
import { Watch } from "@tailrace/sdk";
import { type Readable, Value } from "../value";
import { Batches, type Schedule } from "./batches";
import { Lane } from "./lane";
import { eventRow, gapRow, type Row } from "./row";

export const USERS_TOPIC = "users.created";
export const ORDERS_TOPIC = "orders.created";
export const DEAD_LETTER_TOPIC = "dead-letter";

/** The topics that share a lane, because they tell about one kind of thing. The first names the lane. */
const USERS_LANE = [USERS_TOPIC, "users.updated", "users.deleted"];
const ORDERS_LANE = [ORDERS_TOPIC, "orders.cancelled"];

/** How many events of each topic the page begins with. */
const START_NEWEST = 100;

export interface FeedOptions {
  readonly events: Tailrace["events"];
  readonly operator: boolean;
  /** The server takes the token no longer. */
  readonly onSignedOut: () => void;
  readonly schedule?: Schedule;
  readonly now?: () => number;
}

/**
 * Everything that one person watches: one stream, one lane for each kind of thing. The only part of the page that opens the
 * stream; how the stream lives through broken connections is the SDK's.
 */
export class Feed {
  /** The lane of each topic. */
  readonly lanes: ReadonlyMap<string, Lane>;
  readonly #options: FeedOptions;
  readonly #watch: Watch;
  readonly #state = new Value<WatchState>({ name: "idle" });
  readonly #loaded = new Value(false);
  readonly #batches: Batches<{ topic: string; row: Row }>;
  readonly #end = new AbortController();
  #reading = false;

  constructor(options: FeedOptions) {
    const lanes = [USERS_LANE, ORDERS_LANE, ...(options.operator ? [[DEAD_LETTER_TOPIC]] : [])];
    const topics = lanes.flat();
    this.#options = options;
    this.lanes = new Map(
      lanes.flatMap((together) => {
        const lane = new Lane();
        return together.map((topic): [string, Lane] => [topic, lane]);
      }),
    );
    this.#batches = new Batches((batch) => this.#deliver(batch), options.schedule);
    this.#watch = new Watch(options.events, {
      topics,
      start: { case: "newest", value: START_NEWEST },
      signal: this.#end.signal,
      onState: (state) => this.#enter(state),
    });
  }

  get state(): Readable<WatchState> {
    return this.#state;
  }

  /** Whether the topics were once read to their end. */
  get loaded(): Readable<boolean> {
    return this.#loaded;
  }

  lane(topic: string): Lane | undefined {
    return this.lanes.get(topic);
  }

  /** Reads the stream until it is closed; after a failure it goes on behind the last event. */
  async open(): Promise<void> {
    if (this.#reading) {
      return;
    }
    this.#reading = true;
    try {
      for await (const response of this.#watch) {
        this.#take(response);
      }
    } catch (error) {
      if (ConnectError.from(error).code === Code.Unauthenticated) {
        this.#options.onSignedOut();
      }
    } finally {
      this.#reading = false;
    }
  }

  reconnectNow(): void {
    if (this.#state.current.name === "failed") {
      void this.open();
    } else {
      this.#watch.reconnectNow();
    }
  }

  close(): void {
    this.#end.abort();
  }

  #enter(state: WatchState): void {
    this.#state.set(state);
    if (state.name === "live") {
      this.#loaded.set(true);
    }
  }

  #take({ message }: WatchResponse): void {
    if (message.case === "event") {
      const { now = clock } = this.#options;
      const live = this.#state.current.name === "live";
      this.#batches.add({ topic: message.value.topic, row: eventRow(message.value, now(), live) });
    } else if (message.case === "gap") {
      this.#batches.add({ topic: message.value.topic, row: gapRow(message.value) });
    }
  }

  #deliver(batch: readonly { topic: string; row: Row }[]): void {
    for (const lane of new Set(this.lanes.values())) {
      lane.append(batch.filter(({ topic }) => this.lanes.get(topic) === lane).map(({ row }) => row));
    }
  }
}

/** `Date.now()` with a fraction. */
function clock(): number {
  return performance.timeOrigin + performance.now();
}
