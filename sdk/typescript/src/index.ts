/**
 * The TypeScript client of Tailrace: generated messages and services, and a small shell around them: connect with an
 * account whose token is kept fresh, retry, pages, watch, failures. It holds a watch's cursor and a session's tokens, in
 * memory only.
 */
export { type Backoff, DEFAULT_BACKOFF, delayMs } from "./backoff.js";
export { connect, connectThrough, type Endpoints, type Tailrace } from "./connect.js";
export { type Failure, failureOf, isPassing } from "./failure.js";
export * from "./gen/google/rpc/error_details_pb.js";
export * from "./gen/google/type/money_pb.js";
export * from "./gen/tailrace/auth/v1/auth_service_pb.js";
export * from "./gen/tailrace/auth/v1/signing_key_pb.js";
export * from "./gen/tailrace/event/v1/dead_letter_pb.js";
export * from "./gen/tailrace/event/v1/event_pb.js";
export * from "./gen/tailrace/event/v1/order_events_pb.js";
export * from "./gen/tailrace/event/v1/user_events_pb.js";
export * from "./gen/tailrace/order/v1/order_pb.js";
export * from "./gen/tailrace/order/v1/order_service_pb.js";
export * from "./gen/tailrace/relay/v1/relay_service_pb.js";
export * from "./gen/tailrace/relay/v1/source_pb.js";
export * from "./gen/tailrace/stream/v1/event_stream_service_pb.js";
export * from "./gen/tailrace/user/v1/user_pb.js";
export * from "./gen/tailrace/user/v1/user_service_pb.js";
export { pages } from "./pages.js";
export { newRequestId } from "./request-id.js";
export { isRepeatable, type RetryOptions, retry } from "./retry.js";
export { authorize, bearer, type Credentials, type Password, Session, type Token } from "./session.js";
export { Watch, type WatchOptions, type WatchStart, type WatchState, watch } from "./watch.js";
