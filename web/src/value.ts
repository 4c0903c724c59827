import { useSyncExternalStore } from "react";

/** A value that can be watched: the one way this page holds state that outlives a component. */
export interface Readable<T> {
  readonly current: T;
  subscribe(listener: () => void): () => void;
}

export class Value<T> implements Readable<T> {
  #current: T;
  readonly #listeners = new Set<() => void>();

  constructor(initial: T) {
    this.#current = initial;
  }

  get current(): T {
    return this.#current;
  }

  set(next: T): void {
    if (Object.is(next, this.#current)) {
      return;
    }
    this.#current = next;
    for (const listener of this.#listeners) {
      listener();
    }
  }

  // A field, not a method: React compares it by identity.
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
}

export function useValue<T>(value: Readable<T>): T {
  return useSyncExternalStore(value.subscribe, () => value.current);
}
