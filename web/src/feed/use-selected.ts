import { useRef, useSyncExternalStore } from "react";
import type { Feed } from "./feed";
import type { EventRow } from "./row";

/** The selected event; undefined while the page does not hold it. Once found it stays, also when its row leaves. */
export function useSelected(feed: Feed, key: string | null): EventRow | undefined {
  const found = useRef<EventRow | undefined>(undefined);
  const lane = key === null ? undefined : feed.lane(topicOf(key));
  return useSyncExternalStore(
    (listener) => lane?.view.subscribe(listener) ?? (() => {}),
    () => {
      if (found.current?.key !== key) {
        found.current = key === null ? undefined : lane?.find(key);
      }
      return found.current;
    },
  );
}

/** The topic of a key, `topic/partition/offset`. */
export function topicOf(key: string): string {
  return key.slice(0, key.indexOf("/"));
}
