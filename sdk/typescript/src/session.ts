import { type Client, Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { failureOf } from "./failure.js";
import type {
  AuthService,
  LoginResponse,
  RefreshTokenResponse,
} from "./gen/tailrace/auth/v1/auth_service_pb.js";
import { type RetryOptions, retrying } from "./retry.js";

/** An access token, or a function that is asked for the current one before every call; undefined means none. */
export type Token = string | (() => string | undefined);

/** The account to sign in with. */
export interface Password {
  readonly email: string;
  readonly password: string;
}

/** Who calls: a token that somebody else keeps, or an account, whose token the client keeps fresh. */
export type Credentials = Token | Password;

/** A token is renewed when this share of its life is over. */
const FRESH_SHARE = 0.8;

interface Grant {
  readonly accessToken: string;
  readonly refreshToken: string;
  readonly freshUntil: number;
  readonly validUntil: number;
}

/**
 * A sign-in that lasts: it signs in when a token is first needed, renews the token before it ends, once for all calls
 * that wait for it, and signs in anew when the refresh token is no longer taken.
 */
export class Session {
  readonly #auth: Client<typeof AuthService>;
  readonly #account: Password;
  readonly #retry: RetryOptions | undefined;
  #grant: Grant | undefined;
  #renewal: Promise<Grant> | undefined;

  /** @param auth a client that sends no token */
  constructor(auth: Client<typeof AuthService>, account: Password, retry?: RetryOptions) {
    this.#auth = auth;
    this.#account = account;
    this.#retry = retry;
  }

  /** A token that is valid for a while. */
  async token(): Promise<string> {
    if (this.#grant === undefined || Date.now() >= this.#grant.freshUntil) {
      this.#renewal ??= this.#renew().finally(() => {
        this.#renewal = undefined;
      });
      return (await this.#renewal).accessToken;
    }
    return this.#grant.accessToken;
  }

  /** Gets another token now: one with the rights that its user has meanwhile. */
  async renew(): Promise<void> {
    if (this.#grant !== undefined) {
      this.#grant = { ...this.#grant, freshUntil: 0 };
    }
    await this.token();
  }

  /** Takes note that the server refused a token, so that the next call gets another. */
  refused(token: string): void {
    if (this.#grant?.accessToken === token) {
      this.#grant = { ...this.#grant, freshUntil: 0, validUntil: 0 };
    }
  }

  /** Ends the sign-in at the server; the next call would begin another. */
  async signOut(): Promise<void> {
    const grant = this.#grant;
    this.#grant = undefined;
    if (grant?.refreshToken) {
      await this.#auth.logout({ refreshToken: grant.refreshToken });
    }
  }

  async #renew(): Promise<Grant> {
    const last = this.#grant;
    if (last !== undefined) {
      this.#grant = { ...last, refreshToken: "" };
    }
    try {
      this.#grant = (last?.refreshToken && (await this.#refresh(last.refreshToken))) || (await this.#login());
      return this.#grant;
    } catch (error) {
      if (last !== undefined && Date.now() < last.validUntil) {
        return last;
      }
      throw error;
    }
  }

  /**
   * A refresh token works once: when the answer is lost it may be spent, and to show it again would end the sign-in.
   * So it is forgotten before it is used, and any failure gives way to a new sign-in.
   */
  async #refresh(refreshToken: string): Promise<Grant | undefined> {
    try {
      return grantOf(await this.#auth.refreshToken({ refreshToken }));
    } catch {
      return undefined;
    }
  }

  async #login(): Promise<Grant> {
    // An answer that was lost leaves a sign-in that nobody uses, which does no harm.
    return grantOf(await retrying(() => this.#auth.login({ ...this.#account }), undefined, this.#retry));
  }
}

function grantOf({ accessToken, refreshToken, expiresIn }: LoginResponse | RefreshTokenResponse): Grant {
  const lifeMs = Number(expiresIn?.seconds ?? 0n) * 1000;
  const now = Date.now();
  return { accessToken, refreshToken, freshUntil: now + lifeMs * FRESH_SHARE, validUntil: now + lifeMs };
}

/** Sends the session's token with every call, and a call that was refused for its token once more with another. */
export function authorize(session: Session): Interceptor {
  return (next) => async (request) => {
    const token = await session.token();
    request.header.set("authorization", `Bearer ${token}`);
    try {
      return await next(request);
    } catch (error) {
      if (!wasTokenRefused(error)) {
        throw error;
      }
      session.refused(token);
      if (request.stream) {
        throw error;
      }
      request.header.set("authorization", `Bearer ${await session.token()}`);
      return next(request);
    }
  };
}

function wasTokenRefused(error: unknown): boolean {
  return (
    ConnectError.from(error).code === Code.Unauthenticated && failureOf(error).reason.startsWith("TOKEN_")
  );
}

/** Sends a token with every call. */
export function bearer(token?: Token): Interceptor {
  return (next) => (request) => {
    const current = typeof token === "function" ? token() : token;
    if (current !== undefined) {
      request.header.set("authorization", `Bearer ${current}`);
    }
    return next(request);
  };
}
