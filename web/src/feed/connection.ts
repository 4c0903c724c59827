import type { Services } from "../api/services";
import { type Readable, Value } from "../value";
import { Feed } from "./feed";

/**
 * Owns the connection: one feed for whoever is signed in. A feed outlives an expired sign-in of the same person, so
 * that signing in again goes on where it stopped; another person begins with nothing.
 */
export function ownConnection({ session, tailrace }: Services): Readable<Feed | null> {
  const owned = new Value<Feed | null>(null);
  let user: string | null = null;

  const follow = () => {
    const state = session.state.current;
    if (state.name === "expired") {
      return;
    }
    const next = state.name === "signed-in" ? state.account : null;
    if (next?.user !== user || next === null) {
      owned.current?.close();
      user = next?.user ?? null;
      owned.set(
        next &&
          new Feed({ events: tailrace.events, operator: next.operator, onSignedOut: () => session.expire() }),
      );
    }
    void owned.current?.open();
  };

  session.state.subscribe(follow);
  window.addEventListener("online", () => owned.current?.reconnectNow());
  follow();
  return owned;
}
