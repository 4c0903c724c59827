import type { MouseEvent, ReactNode } from "react";
import { useServices } from "./api/services";
import { ConnectionState } from "./feed/connection-state";
import { DEAD_LETTER_TOPIC, type Feed } from "./feed/feed";
import type { Lane } from "./feed/lane";
import { count } from "./format";
import { currentRoute, go, href, type View } from "./route";
import { Button } from "./ui/button";
import { theme, toggleTheme } from "./ui/theme";
import { useValue } from "./value";

/** The header that stands over every page: where one can go, how the stream is, who one is. */
export function Header({ feed }: { feed: Feed | null }) {
  const { session } = useServices();
  const state = useValue(session.state);
  const letters = feed?.lane(DEAD_LETTER_TOPIC);
  return (
    <header className="header">
      <span className="brand">
        <Logo /> Tailrace
      </span>
      {feed && (
        <nav aria-label="Pages" className="nav">
          <NavLink view="live">Live</NavLink>
          {letters && (
            <NavLink view="dead-letters">
              Dead letters <LetterCount lane={letters} />
            </NavLink>
          )}
        </nav>
      )}
      <span className="header-end">
        {feed && <ConnectionState feed={feed} signedOut={state.name === "expired"} />}
        <ThemeButton />
        {state.name !== "signed-out" && (
          <>
            <span className="account quiet" title={state.account.user}>
              {state.account.email}
            </span>
            <Button kind="bare" onClick={() => session.signOut()}>
              Sign out
            </Button>
          </>
        )}
      </span>
    </header>
  );
}

function NavLink({ view, children }: { view: View; children: ReactNode }) {
  const route = useValue(currentRoute);
  const target = { view, event: null };
  const follow = (event: MouseEvent) => {
    // A click with a key held asks the browser for a new tab or window: that is what links are for.
    if (!event.metaKey && !event.ctrlKey && !event.shiftKey && event.button === 0) {
      event.preventDefault();
      go(target);
    }
  };
  return (
    <a href={href(target)} aria-current={route.view === view ? "page" : undefined} onClick={follow}>
      {children}
    </a>
  );
}

function LetterCount({ lane }: { lane: Lane }) {
  const { rows } = useValue(lane.view);
  return rows.length > 0 ? <span className="letter-count numbers">{count(rows.length)}</span> : null;
}

function ThemeButton() {
  const name = useValue(theme);
  return (
    <Button kind="bare" onClick={toggleTheme} aria-label={`Theme: ${name}`} title={`Theme: ${name}`}>
      <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
        <circle cx="8" cy="8" r="5.5" fill="none" stroke="currentColor" strokeWidth="1.5" />
        <path
          d={
            name === "light"
              ? ""
              : name === "dark"
                ? "M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 1 1 0-11"
                : "M8 2.5a5.5 5.5 0 0 1 0 11z"
          }
          fill="currentColor"
        />
      </svg>
    </Button>
  );
}

function Logo() {
  return (
    <svg className="logo" viewBox="0 0 36 12" width="36" height="12" aria-hidden="true">
      <path d="M4 6h28" stroke="currentColor" strokeWidth="1.5" />
      <circle cx="4" cy="6" r="3" />
      <circle cx="18" cy="6" r="3" />
      <circle cx="32" cy="6" r="3" />
    </svg>
  );
}
