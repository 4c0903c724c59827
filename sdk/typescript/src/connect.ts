import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { AuthService } from "./gen/tailrace/auth/v1/auth_service_pb.js";
import { OrderService } from "./gen/tailrace/order/v1/order_service_pb.js";
import { RelayService } from "./gen/tailrace/relay/v1/relay_service_pb.js";
import { EventStreamService } from "./gen/tailrace/stream/v1/event_stream_service_pb.js";
import { UserService } from "./gen/tailrace/user/v1/user_service_pb.js";

/** Where each process is reached, for example `http://127.0.0.1:5001`. */
export interface ServiceUrls {
  readonly userServiceUrl: string;
  readonly orderServiceUrl: string;
  readonly relayUrl: string;
  readonly gatewayUrl: string;
}

/** An access token, or a function that is asked for the current one before every call; undefined means none. */
export type Token = string | (() => string | undefined);

/** A typed client for every service. */
export interface Tailrace {
  readonly auth: Client<typeof AuthService>;
  readonly users: Client<typeof UserService>;
  readonly orders: Client<typeof OrderService>;
  readonly relay: Client<typeof RelayService>;
  readonly events: Client<typeof EventStreamService>;
}

/**
 * Makes the clients. Nothing is sent before the first call.
 *
 * @param base one URL when a proxy serves everything at one place, else one for each process
 */
export function connect(base: string | ServiceUrls, token?: Token): Tailrace {
  const urls = typeof base === "string" ? everythingAt(base) : base;
  const interceptors = [bearer(token)];
  const transport = (baseUrl: string) => createGrpcWebTransport({ baseUrl, interceptors });
  return connectThrough({
    users: transport(urls.userServiceUrl),
    orders: transport(urls.orderServiceUrl),
    relay: transport(urls.relayUrl),
    gateway: transport(urls.gatewayUrl),
  });
}

/** Makes the clients over transports of one's own: other protocols, other runtimes, tests. */
export function connectThrough(to: Record<"users" | "orders" | "relay" | "gateway", Transport>): Tailrace {
  return {
    auth: createClient(AuthService, to.users),
    users: createClient(UserService, to.users),
    orders: createClient(OrderService, to.orders),
    relay: createClient(RelayService, to.relay),
    events: createClient(EventStreamService, to.gateway),
  };
}

/** Sends the token with every call. */
export function bearer(token?: Token): Interceptor {
  return (next) => (request) => {
    const current = typeof token === "function" ? token() : token;
    if (current !== undefined) {
      request.header.set("authorization", `Bearer ${current}`);
    }
    return next(request);
  };
}

function everythingAt(url: string): ServiceUrls {
  return { userServiceUrl: url, orderServiceUrl: url, relayUrl: url, gatewayUrl: url };
}
