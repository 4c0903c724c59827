import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { type Backoff, DEFAULT_BACKOFF, delayMs } from "./backoff.js";
import { isPassing, retryAfterMs } from "./failure.js";
import type {
  EventStreamService,
  WatchRequestSchema,
  WatchResponse,
} from "./gen/tailrace/stream/v1/event_stream_service_pb.js";

/** Where a watch begins when it has no cursor yet. */
export type WatchStart = NonNullable<MessageInitShape<typeof WatchRequestSchema>["start"]>;

/** Where a watch stands. Times are `Date.now()` milliseconds. */
export type WatchState =
  /** Not begun, or its reader stopped reading. */
  | { readonly name: "idle" }
  /** A call is under way and nothing has arrived yet. */
  | { readonly name: "connecting"; readonly attempt: number }
  /** Events arrive that were in the topics before this call. */
  | { readonly name: "catching-up" }
  /** What arrives is new. */
  | { readonly name: "live" }
  /** Nothing, not even a heartbeat, has arrived for a while; the call is given up when that goes on. */
  | { readonly name: "stale"; readonly heardAt: number }
  /** The call failed; the next begins at `retryAt`. */
  | { readonly name: "waiting"; readonly retryAt: number; readonly cause: ConnectError }
  /** The call failed and another would fail likewise. */
  | { readonly name: "failed"; readonly cause: ConnectError };

export interface WatchOptions {
  /** The topics; empty means all that the caller may see. */
  readonly topics?: readonly string[];
  /** Where to begin; from now on when absent. */
  readonly start?: WatchStart;
  /** Whether another call would be sent with another token; then a token that ended ends no watch. */
  readonly renewsToken?: boolean;
  /** Ends the watch. */
  readonly signal?: AbortSignal;
  /** Called with each new state. */
  readonly onState?: (state: WatchState) => void;
  readonly backoff?: Backoff;
  /** How long silence may last before the watch is stale, in milliseconds. */
  readonly staleAfterMs?: number;
  /** How long silence may last before the call is given up for a new one, in milliseconds. */
  readonly abandonAfterMs?: number;
  /** A number in [0, 1), for the jitter. */
  readonly random?: () => number;
}

const STALE_AFTER_MS = 30_000;
const ABANDON_AFTER_MS = 45_000;

/**
 * A stream of events that outlives its connections: each new call begins after the last cursor, so that a reader sees
 * every event once, in order.
 *
 * It does not buffer, filter or deduplicate, and it does not look at the events. It ends when the signal aborts or the
 * reader stops, and throws when another call would fail like the last (no token, no permission, a bad request).
 * Iterate again to go on after the last cursor.
 */
export class Watch implements AsyncIterable<WatchResponse> {
  readonly #events: Client<typeof EventStreamService>;
  readonly #options: WatchOptions;
  #start: WatchStart | undefined;
  #state: WatchState = { name: "idle" };
  #skipWait: (() => void) | undefined;

  constructor(events: Client<typeof EventStreamService>, options: WatchOptions = {}) {
    this.#events = events;
    this.#options = options;
    this.#start = options.start;
  }

  get state(): WatchState {
    return this.#state;
  }

  /** The cursor after the last response that was read; undefined before the first. */
  get cursor(): string | undefined {
    return this.#start?.case === "cursor" ? this.#start.value : undefined;
  }

  /** Ends a wait before the next attempt; does nothing at any other time. */
  reconnectNow(): void {
    this.#skipWait?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<WatchResponse, void, void> {
    for (let attempt = 0; !this.#ended(); attempt++) {
      const call = new AbortController();
      const silence = this.#watchSilence(call);
      this.#enter({ name: "connecting", attempt });
      try {
        for await (const response of this.#call(call.signal)) {
          attempt = 0;
          silence.broken();
          this.#read(response);
          yield response;
        }
        await this.#wait(attempt, new ConnectError("the server ended the stream", Code.Unavailable));
      } catch (error) {
        if (this.#ended()) {
          break;
        }
        const cause = ConnectError.from(call.signal.aborted ? call.signal.reason : error);
        if (!this.#hasOnlyLostItsToken(cause)) {
          await this.#recover(attempt, cause);
        }
      } finally {
        // Also reached when the reader stops reading: without the abort the call would stay open.
        silence.stop();
        call.abort();
      }
    }
    this.#enter({ name: "idle" });
  }

  #call(signal: AbortSignal): AsyncIterable<WatchResponse> {
    const { topics, signal: end } = this.#options;
    const request = { topics: [...(topics ?? [])], ...(this.#start && { start: this.#start }) };
    return this.#events.watch(request, { signal: end ? AbortSignal.any([signal, end]) : signal });
  }

  #read(response: WatchResponse): void {
    if (response.cursor !== "") {
      this.#start = { case: "cursor", value: response.cursor };
    }
    if (response.message.case === "caughtUp") {
      this.#enter({ name: "live" });
    } else if (this.#state.name === "connecting") {
      this.#enter({ name: "catching-up" });
    }
  }

  /** The token held when the call began, and has ended since; one that was refused from the start is no such case. */
  #hasOnlyLostItsToken({ code }: ConnectError): boolean {
    const hasBegun = this.#state.name !== "connecting";
    return code === Code.Unauthenticated && hasBegun && this.#options.renewsToken === true;
  }

  async #recover(attempt: number, cause: ConnectError): Promise<void> {
    if (!isPassing(cause.code)) {
      this.#enter({ name: "failed", cause });
      throw cause;
    }
    await this.#wait(attempt, cause);
  }

  #wait(attempt: number, cause: ConnectError): Promise<void> {
    const { backoff = DEFAULT_BACKOFF, random = Math.random, signal } = this.#options;
    const delay = retryAfterMs(cause) + delayMs(attempt, random(), backoff);
    this.#enter({ name: "waiting", retryAt: Date.now() + delay, cause });
    return new Promise((resolve) => {
      const go = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", go);
        this.#skipWait = undefined;
        resolve();
      };
      const timer = setTimeout(go, delay);
      signal?.addEventListener("abort", go);
      this.#skipWait = go;
    });
  }

  /** Two alarms over the silence of a call: it is stale, then it is given up. */
  #watchSilence(call: AbortController): { broken(): void; stop(): void } {
    const { staleAfterMs = STALE_AFTER_MS, abandonAfterMs = ABANDON_AFTER_MS } = this.#options;
    let before: WatchState | undefined;
    let alarms: ReturnType<typeof setTimeout>[] = [];
    const disarm = () => {
      for (const alarm of alarms) {
        clearTimeout(alarm);
      }
    };
    const arm = () => {
      disarm();
      const heardAt = Date.now();
      const stale = () => {
        before = this.#state;
        this.#enter({ name: "stale", heardAt });
      };
      const abandon = () =>
        call.abort(new ConnectError("nothing was heard from the server", Code.Unavailable));
      alarms = [setTimeout(stale, staleAfterMs), setTimeout(abandon, abandonAfterMs)];
    };
    const broken = () => {
      arm();
      if (before !== undefined) {
        this.#enter(before);
        before = undefined;
      }
    };
    arm();
    return { broken, stop: disarm };
  }

  #ended(): boolean {
    return this.#options.signal?.aborted ?? false;
  }

  #enter(state: WatchState): void {
    this.#state = state;
    this.#options.onState?.(state);
  }
}

/** Watches topics; see {@link Watch}. */
export function watch(events: Client<typeof EventStreamService>, options?: WatchOptions): Watch {
  return new Watch(events, options);
}
