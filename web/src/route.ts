import { type Readable, Value } from "./value";

export type View = "live" | "dead-letters";

/** What the address says: `/?view=dead-letters&event=users.created/0/42`. */
export interface Route {
  readonly view: View;
  /** The key of the selected event, `topic/partition/offset`; null when none is. */
  readonly event: string | null;
}

const route = new Value<Route>(parseRoute(location.search));
window.addEventListener("popstate", () => route.set(parseRoute(location.search)));

export const currentRoute: Readable<Route> = route;

export function go(change: Partial<Route>): void {
  const next = { ...route.current, ...change };
  history.pushState(null, "", href(next));
  route.set(next);
}

export function href({ view, event }: Route): string {
  const query = [view !== "live" && `view=${view}`, event !== null && `event=${event}`].filter(Boolean);
  return query.length > 0 ? `/?${query.join("&")}` : "/";
}

export function parseRoute(search: string): Route {
  const query = new URLSearchParams(search);
  return { view: query.get("view") === "dead-letters" ? "dead-letters" : "live", event: query.get("event") };
}
