import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import {
  AuthService,
  BadRequestSchema,
  type CreateUserRequest,
  connectThrough,
  type LoginResponse,
  UserService,
} from "@tailrace/sdk";
import { cleanup, fireEvent, render, screen, waitFor } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { OwnItems } from "../src/api/own-items";
import { type Services, ServicesProvider } from "../src/api/services";
import { Session } from "../src/api/session";
import { CreateUser } from "../src/users/create-user";
import { SignIn } from "../src/users/sign-in";

const DEMO = { email: "demo@example.com", password: "secret secret" };

function services(createUser: (request: CreateUserRequest) => { name?: string; email?: string }): Services {
  const transport = createRouterTransport(({ service }) => {
    service(UserService, { createUser });
    service(AuthService, {
      login({ password }) {
        if (password !== DEMO.password) {
          throw new ConnectError("e-mail address or password is wrong", Code.Unauthenticated);
        }
        return { accessToken: "t", user: "users/1", operator: true, expiresIn: { seconds: 60n } };
      },
    });
  });
  return {
    config: { userServiceUrl: "", orderServiceUrl: "", relayUrl: "", gatewayUrl: "", demo: DEMO },
    session: new Session(sessionStorage),
    own: new OwnItems(sessionStorage),
    tailrace: connectThrough({ users: transport, orders: transport, relay: transport, gateway: transport }),
  };
}

const field = (label: string) => screen.getByLabelText(label) as HTMLInputElement;
const type = (label: string, value: string) => fireEvent.change(field(label), { target: { value } });
const press = (name: string) => fireEvent.click(screen.getByRole("button", { name }));
const idle = () =>
  waitFor(() =>
    expect(screen.queryByRole("button", { name: /Create user|Sign in/ })).toHaveProperty("disabled", false),
  );

beforeEach(() => sessionStorage.clear());
afterEach(cleanup);

describe("the form for a user", () => {
  it("shows what the server says at its field", async () => {
    const made = services(() => {
      throw new ConnectError("not valid", Code.InvalidArgument, undefined, [
        {
          desc: BadRequestSchema,
          value: { fieldViolations: [{ field: "user.email", description: "is not an e-mail address" }] },
        },
      ]);
    });
    render(
      <ServicesProvider value={made}>
        <CreateUser onCreated={() => {}} />
      </ServicesProvider>,
    );
    press("Create user");
    const error = await screen.findByText("is not an e-mail address");
    expect(field("E-mail").getAttribute("aria-describedby")).toBe(error.id);
    expect(field("Name").getAttribute("aria-invalid")).toBe("false");
    expect(screen.queryByText("not valid")).toBeNull();
  });

  it("repeats the same request under the same id, and another under another", async () => {
    const requests: CreateUserRequest[] = [];
    const made = services((request) => {
      requests.push(request);
      throw new ConnectError("connection reset", Code.Unavailable);
    });
    render(
      <ServicesProvider value={made}>
        <CreateUser onCreated={() => {}} />
      </ServicesProvider>,
    );
    type("Name", "Ada");
    for (const name of ["Ada", "Ada", "Grace"]) {
      type("Name", name);
      press("Create user");
      await screen.findByText(/nothing is created twice/);
      await idle();
    }
    const [first, second, third] = requests.map(({ requestId }) => requestId);
    expect(first).toMatch(/^[0-9a-f-]{36}$/);
    expect(second).toBe(first);
    expect(third).not.toBe(first);
  });

  it("remembers whom it created, also after a reload", async () => {
    const created = vi.fn();
    const made = services(({ user }) => ({ name: "users/7", email: user?.email ?? "" }));
    render(
      <ServicesProvider value={made}>
        <CreateUser onCreated={created} />
      </ServicesProvider>,
    );
    type("E-mail", "ada@example.com");
    press("Create user");
    await waitFor(() => expect(created).toHaveBeenCalledWith("ada@example.com"));
    expect(made.own.names.current.has("users/7")).toBe(true);
    expect(new OwnItems(sessionStorage).names.current.has("users/7")).toBe(true);
  });
});

describe("the sign-in", () => {
  it("says what the server says, and keeps the page signed out", async () => {
    const made = services(() => ({}));
    render(
      <ServicesProvider value={made}>
        <SignIn />
      </ServicesProvider>,
    );
    press("Sign in");
    await screen.findByText("e-mail address or password is wrong");
    expect(made.session.state.current.name).toBe("signed-out");
  });

  it("takes the demo account with one press", async () => {
    const made = services(() => ({}));
    render(
      <ServicesProvider value={made}>
        <SignIn />
      </ServicesProvider>,
    );
    press("Use demo account");
    await waitFor(() => expect(made.session.state.current.name).toBe("signed-in"));
    expect(made.session.token).toBe("t");
  });
});

describe("a session", () => {
  const response = { accessToken: "t", user: "users/1", operator: false, expiresIn: { seconds: 60n } };

  it("outlives a reload until its token expires", () => {
    new Session(sessionStorage).signIn("a@b.c", response as LoginResponse, 1_000);
    expect(new Session(sessionStorage, 60_999).state.current.name).toBe("signed-in");
    expect(new Session(sessionStorage, 61_000).state.current.name).toBe("signed-out");
  });

  it("that expires keeps who it was and sends no token", () => {
    const session = new Session(sessionStorage);
    session.signIn("a@b.c", response as LoginResponse);
    session.expire();
    expect(session.state.current).toMatchObject({ name: "expired", account: { email: "a@b.c" } });
    expect(session.token).toBeUndefined();
    expect(new Session(sessionStorage).state.current.name).toBe("signed-out");
  });
});
