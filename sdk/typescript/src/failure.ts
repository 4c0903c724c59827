import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";

/** A failed call in the words a program needs: what, why, and which field. */
export interface Failure {
  readonly code: Code;
  /** The machine-readable reason, such as `REQUEST_ID_REUSED`; empty when the server gave none. */
  readonly reason: string;
  /** The server's sentence, without the code in front. */
  readonly message: string;
  /** What is wrong with each field, by its path in the request, such as `order.lines[0].quantity`. */
  readonly fields: ReadonlyMap<string, string>;
}

/** Reads the status details (`ErrorInfo`, `BadRequest`) of anything that a call threw. */
export function failureOf(error: unknown): Failure {
  const status = ConnectError.from(error);
  const info = status.findDetails(ErrorInfoSchema)[0];
  const violations = status.findDetails(BadRequestSchema).flatMap((detail) => detail.fieldViolations);
  const fields = new Map(violations.map(({ field, description }) => [field, description]));
  // What is no bad request can still be about one field: an e-mail address that is taken.
  const field = info?.metadata.field;
  if (field !== undefined && fields.size === 0) {
    fields.set(field, status.rawMessage);
  }
  return { code: status.code, reason: info?.reason ?? "", message: status.rawMessage, fields };
}

/** How long the server asks to wait before another try, in milliseconds; 0 when it does not say. */
export function retryAfterMs(error: ConnectError): number {
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay === undefined ? 0 : Number(delay.seconds) * 1000 + delay.nanos / 1_000_000;
}

/**
 * Whether the same call can succeed later without anybody changing anything.
 *
 * What cannot be told (a cut connection is `UNKNOWN` in some runtimes) counts as passing: giving up on a stream
 * that would have come back is worse than one more attempt.
 */
export function isPassing(code: Code): boolean {
  switch (code) {
    case Code.Unauthenticated:
    case Code.PermissionDenied:
    case Code.InvalidArgument:
    case Code.FailedPrecondition:
    case Code.OutOfRange:
    case Code.NotFound:
    case Code.AlreadyExists:
    case Code.Unimplemented:
      return false;
    default:
      return true;
  }
}
