import type { LoginResponse } from "@tailrace/sdk";
import { type Readable, Value } from "../value";

export interface Account {
  readonly email: string;
  /** The resource name, `users/{user}`. */
  readonly user: string;
  readonly operator: boolean;
  readonly token: string;
  /** `Date.now()` milliseconds. */
  readonly expiresAt: number;
}

export type SessionState =
  | { readonly name: "signed-out" }
  | { readonly name: "signed-in"; readonly account: Account }
  /** The token is no longer taken; who it was and what the page shows stay. */
  | { readonly name: "expired"; readonly account: Account };

const STORAGE_KEY = "tailrace.account";

/** Who is signed in, in this tab. Knows nothing of passwords and calls nobody. */
export class Session {
  readonly #state: Value<SessionState>;
  readonly #storage: Storage;

  constructor(storage: Storage, now = Date.now()) {
    this.#storage = storage;
    this.#state = new Value(restore(storage.getItem(STORAGE_KEY), now));
  }

  get state(): Readable<SessionState> {
    return this.#state;
  }

  get token(): string | undefined {
    const state = this.#state.current;
    return state.name === "signed-in" ? state.account.token : undefined;
  }

  signIn(email: string, response: LoginResponse, now = Date.now()): void {
    const account: Account = {
      email,
      user: response.user,
      operator: response.operator,
      token: response.accessToken,
      expiresAt: now + Number(response.expiresIn?.seconds ?? 0n) * 1000,
    };
    this.#storage.setItem(STORAGE_KEY, JSON.stringify(account));
    this.#state.set({ name: "signed-in", account });
  }

  expire(): void {
    const state = this.#state.current;
    if (state.name === "signed-in") {
      this.#storage.removeItem(STORAGE_KEY);
      this.#state.set({ name: "expired", account: state.account });
    }
  }

  signOut(): void {
    this.#storage.removeItem(STORAGE_KEY);
    this.#state.set({ name: "signed-out" });
  }
}

function restore(stored: string | null, now: number): SessionState {
  if (stored === null) {
    return { name: "signed-out" };
  }
  try {
    const account = JSON.parse(stored) as Account;
    return account.expiresAt > now ? { name: "signed-in", account } : { name: "signed-out" };
  } catch {
    return { name: "signed-out" };
  }
}
