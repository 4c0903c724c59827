import { Code, type ConnectError } from "@connectrpc/connect";
import type { WatchState } from "@tailrace/sdk";
import { Button } from "../ui/button";
import { useNow } from "../ui/use-now";
import { useValue } from "../value";
import type { Feed } from "./feed";

/** The state of the stream, always on the page and always in words. */
export function ConnectionState({ feed, signedOut }: { feed: Feed; signedOut: boolean }) {
  const state = useValue(feed.state);
  const now = useNow(state.name === "waiting" || state.name === "stale");
  return (
    <span className="connection" data-state={signedOut ? "failed" : state.name}>
      <span className="connection-mark" aria-hidden="true" />
      <span className="numbers" role="status">
        {signedOut ? "Signed out" : describe(state, now)}
      </span>
      {state.name === "waiting" && (
        <Button kind="bare" onClick={() => feed.reconnectNow()}>
          Now
        </Button>
      )}
    </span>
  );
}

/** What is wrong, what is not lost, what to do. Lies over the page's foot, so that no row moves. */
export function ConnectionNotice({ feed }: { feed: Feed }) {
  const state = useValue(feed.state);
  switch (state.name) {
    case "stale":
      return (
        <p className="notice" role="alert">
          Nothing has been heard from the gateway for half a minute. Rows may be missing until it answers;
          none is lost.
        </p>
      );
    case "waiting":
      return (
        <p className="notice">
          The stream broke ({state.cause.rawMessage}). Nothing is lost: it goes on after the last event.
        </p>
      );
    case "failed":
      return (
        <p className="notice" role="alert" data-kind="stopped">
          The gateway refused the stream: {state.cause.rawMessage} <WayOut feed={feed} cause={state.cause} />
        </p>
      );
    default:
      return null;
  }
}

/** A refused request stays refused: its cursor means nothing to the server. A new page begins without one. */
function WayOut({ feed, cause }: { feed: Feed; cause: ConnectError }) {
  return cause.code === Code.InvalidArgument ? (
    <Button onClick={() => location.reload()}>Begin anew</Button>
  ) : (
    <Button onClick={() => feed.reconnectNow()}>Try again</Button>
  );
}

function describe(state: WatchState, now: number): string {
  switch (state.name) {
    case "idle":
      return "Not connected";
    case "connecting":
      return state.attempt > 0 ? "Reconnecting" : "Connecting";
    case "catching-up":
      return "Catching up";
    case "live":
      return "Live";
    case "stale":
      return `Stale: silent for ${seconds(now - state.heardAt)} s`;
    case "waiting":
      return `Reconnecting in ${seconds(state.retryAt - now)} s`;
    case "failed":
      return "Stopped";
  }
}

function seconds(ms: number): number {
  return Math.max(0, Math.ceil(ms / 1_000));
}
