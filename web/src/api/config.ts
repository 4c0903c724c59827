/** What the web server tells the page at run time, so that one build serves every place. */
export interface Config {
  readonly userServiceUrl: string;
  readonly orderServiceUrl: string;
  readonly relayUrl: string;
  readonly gatewayUrl: string;
  /** The account behind "Use demo account"; null where there is none. */
  readonly demo: { readonly email: string; readonly password: string } | null;
}

export async function loadConfig(): Promise<Config> {
  const response = await fetch("/config.json", { cache: "no-store" });
  if (!response.ok) {
    throw new Error(`/config.json answered ${response.status}`);
  }
  return parseConfig(await response.json());
}

export function parseConfig(json: unknown): Config {
  const source = (json ?? {}) as Record<string, unknown>;
  const url = (name: string) => {
    const value = source[name];
    if (typeof value !== "string" || value === "") {
      throw new Error(`/config.json has no ${name}`);
    }
    return value;
  };
  return {
    userServiceUrl: url("userServiceUrl"),
    orderServiceUrl: url("orderServiceUrl"),
    relayUrl: url("relayUrl"),
    gatewayUrl: url("gatewayUrl"),
    demo: parseDemo(source.demo),
  };
}

function parseDemo(demo: unknown): Config["demo"] {
  const { email, password } = (demo ?? {}) as Record<string, unknown>;
  return typeof email === "string" && typeof password === "string" ? { email, password } : null;
}
