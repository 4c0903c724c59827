import { type DescMessage, type DescMethod, type MessageShape, ScalarType } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { type Backoff, delayMs } from "./backoff.js";
import { failureOf, retryAfterMs } from "./failure.js";
import { newRequestId } from "./request-id.js";

/** How a call that cannot do harm twice is repeated while the service is away. */
export interface RetryOptions {
  /** How often a call is sent at most, the first time included. */
  readonly attemptsMax?: number;
  readonly backoff?: Backoff;
  /** A number in [0, 1), for the jitter. */
  readonly random?: () => number;
}

/** The reason of a call that was refused because too many came, before anything was done for it. */
const TOO_MANY_CALLS = "RATE_LIMIT_EXCEEDED";
const ATTEMPTS_MAX = 5;
const BACKOFF: Backoff = { baseMs: 100, capMs: 5_000 };

/**
 * Repeats what failed with `UNAVAILABLE` (AIP-194) or because too many calls came: calls that the contract says change
 * nothing, and calls with a `request_id`, which gets a fresh one when it has none. A wait is what the server's `RetryInfo`
 * says, plus jitter.
 */
export function retry(options: RetryOptions = {}): Interceptor {
  return (next) => (request) => {
    if (request.stream || !isRepeatable(request.method)) {
      return next(request);
    }
    const message = withRequestId(request.method.input, request.message);
    return retrying(() => next({ ...request, message }), request.signal, options);
  };
}

/** Calls until it succeeds, fails otherwise than with `UNAVAILABLE` or because too many calls came, or has failed often enough. */
export async function retrying<T>(
  call: () => Promise<T>,
  signal: AbortSignal | undefined,
  { attemptsMax = ATTEMPTS_MAX, backoff = BACKOFF, random = Math.random }: RetryOptions = {},
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      const failure = ConnectError.from(error);
      const isRepeated = isUnavailable(failure) || failureOf(failure).reason === TOO_MANY_CALLS;
      if (!isRepeated || attempt + 1 >= attemptsMax || signal?.aborted) {
        throw error;
      }
      await pause(retryAfterMs(failure) + delayMs(attempt, random(), backoff), signal);
      if (signal?.aborted) {
        throw error;
      }
    }
  }
}

/** Whether the contract lets a client send a call again without knowing what became of the first. */
export function isRepeatable(method: DescMethod): boolean {
  return method.idempotency !== Idempotency.IDEMPOTENCY_UNKNOWN || requestIdOf(method.input) !== undefined;
}

function requestIdOf(input: DescMessage) {
  const field = input.field.requestId;
  return field?.fieldKind === "scalar" && field.scalar === ScalarType.STRING ? field : undefined;
}

/** The caller's message stays as it is. */
function withRequestId<T extends DescMessage>(input: T, message: MessageShape<T>): MessageShape<T> {
  const field = requestIdOf(input);
  const given = message as MessageShape<T> & { requestId?: string };
  return field === undefined || given.requestId ? message : { ...message, requestId: newRequestId() };
}

/** A connection that broke without a status is `UNKNOWN` to fetch. */
function isUnavailable({ code, cause, rawMessage }: ConnectError): boolean {
  const broke = cause instanceof TypeError || rawMessage.startsWith("missing ");
  return code === Code.Unavailable || (code === Code.Unknown && broke);
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const go = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", go);
      resolve();
    };
    const timer = setTimeout(go, ms);
    signal?.addEventListener("abort", go);
  });
}
