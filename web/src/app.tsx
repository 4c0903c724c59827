import { useState } from "react";
import { useServices } from "./api/services";
import { DeadLetterSummary, DeadLetters } from "./dead-letters/dead-letters";
import { ConnectionNotice } from "./feed/connection-state";
import { Details } from "./feed/details";
import { DEAD_LETTER_TOPIC, type Feed } from "./feed/feed";
import { topicOf, useSelected } from "./feed/use-selected";
import { Live } from "./live";
import { currentRoute, go } from "./route";
import { Header } from "./shell";
import { Button } from "./ui/button";
import { Sheet } from "./ui/sheet";
import { SignIn } from "./users/sign-in";
import { Welcome } from "./users/welcome";
import { type Readable, useValue } from "./value";

/** The page: the sign-in while nobody is, else one feed and what is read from it. */
export function App({ feed: owned }: { feed: Readable<Feed | null> }) {
  const feed = useValue(owned);
  return (
    <div className="page">
      <Header feed={feed} />
      {feed ? <Workspace feed={feed} /> : <Welcome />}
    </div>
  );
}

const select = (row: { key: string }) => go({ event: row.key });

function Workspace({ feed }: { feed: Feed }) {
  const { view, event: selectedKey } = useValue(currentRoute);
  const selected = useSelected(feed, selectedKey);
  const loaded = useValue(feed.loaded);
  const letters = feed.lane(DEAD_LETTER_TOPIC);
  const close = () => {
    const row = document.querySelector("[role=row][aria-selected=true]");
    go({ event: null });
    (row?.closest<HTMLElement>("[role=grid]") ?? document.querySelector<HTMLElement>("[role=grid]"))?.focus();
  };
  return (
    <main className="workspace" data-details={selectedKey !== null || undefined}>
      <h1 className="hidden-label">{view === "live" ? "Live" : "Dead letters"}</h1>
      {view === "dead-letters" && letters ? (
        <DeadLetters lane={letters} loaded={loaded} selectedKey={selectedKey} onSelect={select} />
      ) : (
        <Live feed={feed} selectedKey={selectedKey} onSelect={select} />
      )}
      {selected && (
        <Details row={selected} onClose={close}>
          {topicOf(selected.key) === DEAD_LETTER_TOPIC && (
            <DeadLetterSummary key={selected.key} row={selected} />
          )}
        </Details>
      )}
      {selectedKey !== null && !selected && <NotHere eventKey={selectedKey} onClose={close} />}
      <Notices feed={feed} />
    </main>
  );
}

/** An address can name an event that this page does not hold. */
function NotHere({ eventKey, onClose }: { eventKey: string; onClose: () => void }) {
  return (
    <aside className="details" aria-label="Event details">
      <header className="details-head">
        <h2>Not in the buffer</h2>
        <Button kind="bare" onClick={onClose}>
          Close
        </Button>
      </header>
      <p className="data details-subject">{eventKey}</p>
      <p className="quiet">
        This page begins with the newest 100 events of each topic and keeps 5 000. The event is older, or not
        yours to see. It is still in its topic as long as Kafka keeps it.
      </p>
    </aside>
  );
}

function Notices({ feed }: { feed: Feed }) {
  const { session } = useServices();
  const state = useValue(session.state);
  return state.name === "expired" ? (
    <Expired email={state.account.email} />
  ) : (
    <ConnectionNotice feed={feed} />
  );
}

function Expired({ email }: { email: string }) {
  const [signingIn, setSigningIn] = useState(false);
  return (
    <>
      <p className="notice" role="alert">
        Your sign-in has expired. The rows stay, and the stream goes on after the last one.{" "}
        <Button onClick={() => setSigningIn(true)}>Sign in</Button>
      </p>
      {signingIn && (
        <Sheet title="Sign in" onClose={() => setSigningIn(false)}>
          <SignIn email={email} />
        </Sheet>
      )}
    </>
  );
}
