import { type Readable, Value } from "../value";

const STORAGE_KEY = "tailrace.own";
const OWN_ITEMS_MAX = 500;

/** The resource names of what was created in this tab, so that their events stay marked. */
export class OwnItems {
  readonly #names: Value<ReadonlySet<string>>;
  readonly #storage: Storage;

  constructor(storage: Storage) {
    this.#storage = storage;
    const stored = storage.getItem(STORAGE_KEY);
    this.#names = new Value<ReadonlySet<string>>(new Set(stored?.split("\n")));
  }

  get names(): Readable<ReadonlySet<string>> {
    return this.#names;
  }

  add(name: string): void {
    const names = [...this.#names.current, name].slice(-OWN_ITEMS_MAX);
    this.#storage.setItem(STORAGE_KEY, names.join("\n"));
    this.#names.set(new Set(names));
  }
}
