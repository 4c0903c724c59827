import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { AuthService } from "./gen/tailrace/auth/v1/auth_service_pb.js";
import { OrderService } from "./gen/tailrace/order/v1/order_service_pb.js";
import { RelayService } from "./gen/tailrace/relay/v1/relay_service_pb.js";
import { EventStreamService } from "./gen/tailrace/stream/v1/event_stream_service_pb.js";
import { UserService } from "./gen/tailrace/user/v1/user_service_pb.js";
import { type RetryOptions, retry } from "./retry.js";
import { authorize, bearer, type Credentials, Session } from "./session.js";
import { Watch, type WatchOptions } from "./watch.js";

/** Where each process is reached, for example `http://127.0.0.1:5001`. */
export interface Endpoints {
  readonly users: string;
  readonly orders: string;
  readonly relay: string;
  readonly gateway: string;
}

/** A typed client for every service. */
export interface Tailrace {
  readonly auth: Client<typeof AuthService>;
  readonly users: Client<typeof UserService>;
  readonly orders: Client<typeof OrderService>;
  readonly relay: Client<typeof RelayService>;
  readonly events: Client<typeof EventStreamService>;
  /** Watches topics; see {@link Watch}. */
  watch(options?: WatchOptions): Watch;
  /** Gets an account's next token now: one with the rights of now; does nothing with a token. */
  renew(): Promise<void>;
  /** Ends the sign-in of an account; does nothing with a token. */
  signOut(): Promise<void>;
}

/**
 * Makes the clients. Nothing is sent before the first call; an account signs in with it.
 *
 * @param base one URL when a proxy serves everything at one place, else one for each process
 */
export function connect(
  base: string | Endpoints,
  credentials?: Credentials,
  options?: RetryOptions,
): Tailrace {
  const endpoints = typeof base === "string" ? everythingAt(base) : base;
  const toUsers = (interceptors: Interceptor[]) =>
    createGrpcWebTransport({ baseUrl: endpoints.users, interceptors });
  const session = sessionOf(credentials, () => toUsers([]), options);
  const interceptors = [retry(options), session ? authorize(session) : bearer(tokenOf(credentials))];
  const transport = (baseUrl: string) => createGrpcWebTransport({ baseUrl, interceptors });
  return connectThrough(
    {
      users: transport(endpoints.users),
      orders: transport(endpoints.orders),
      relay: transport(endpoints.relay),
      gateway: transport(endpoints.gateway),
    },
    session,
  );
}

/** Makes the clients over transports of one's own: other protocols, other runtimes, tests. */
export function connectThrough(to: Record<keyof Endpoints, Transport>, session?: Session): Tailrace {
  const events = createClient(EventStreamService, to.gateway);
  return {
    auth: createClient(AuthService, to.users),
    users: createClient(UserService, to.users),
    orders: createClient(OrderService, to.orders),
    relay: createClient(RelayService, to.relay),
    events,
    watch: (options) => new Watch(events, { renewsToken: session !== undefined, ...options }),
    renew: async () => session?.renew(),
    signOut: async () => session?.signOut(),
  };
}

function sessionOf(credentials: Credentials | undefined, to: () => Transport, options?: RetryOptions) {
  return typeof credentials === "object"
    ? new Session(createClient(AuthService, to()), credentials, options)
    : undefined;
}

function tokenOf(credentials: Credentials | undefined) {
  return typeof credentials === "object" ? undefined : credentials;
}

function everythingAt(url: string): Endpoints {
  return { users: url, orders: url, relay: url, gateway: url };
}
