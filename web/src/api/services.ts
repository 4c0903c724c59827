import { connect, type Endpoints, type Tailrace } from "@tailrace/sdk";
import { createContext, useContext } from "react";
import type { Config } from "./config";
import { OwnItems } from "./own-items";
import { Session } from "./session";

/** What every part of the page may use. Made once, before the first render. */
export interface Services {
  readonly config: Config;
  readonly session: Session;
  readonly own: OwnItems;
  readonly tailrace: Tailrace;
}

export function createServices(config: Config): Services {
  const session = new Session(sessionStorage);
  return {
    config,
    session,
    own: new OwnItems(sessionStorage),
    tailrace: connect(endpoints(config), () => session.token),
  };
}

function endpoints(config: Config): Endpoints {
  return {
    users: config.userServiceUrl,
    orders: config.orderServiceUrl,
    relay: config.relayUrl,
    gateway: config.gatewayUrl,
  };
}

const ServicesContext = createContext<Services | null>(null);

export const ServicesProvider = ServicesContext.Provider;

export function useServices(): Services {
  const services = useContext(ServicesContext);
  if (services === null) {
    throw new Error("useServices needs a ServicesProvider above it");
  }
  return services;
}
