import { type FormEvent, useState } from "react";
import { useServices } from "../api/services";
import { useSubmit } from "../api/use-submit";
import { Button } from "../ui/button";
import { Field } from "../ui/field";

/** Exchanges e-mail and password for a session. */
export function SignIn({ email: knownEmail = "" }: { email?: string }) {
  const { config, session, tailrace } = useServices();
  const [email, setEmail] = useState(knownEmail);
  const [password, setPassword] = useState("");
  const login = useSubmit(async (request: { email: string; password: string }) => {
    session.signIn(request.email, await tailrace.auth.login(request));
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void login.submit({ email, password });
  };
  const failed = login.formError(["email", "password"]);
  return (
    <form className="form" onSubmit={submit} noValidate>
      {failed && (
        <p className="form-error" role="alert">
          {failed}
        </p>
      )}
      <Field
        label="E-mail"
        type="email"
        autoComplete="username"
        value={email}
        onChange={(change) => setEmail(change.target.value)}
        error={login.fieldError("email")}
      />
      <Field
        label="Password"
        type="password"
        autoComplete="current-password"
        value={password}
        onChange={(change) => setPassword(change.target.value)}
        error={login.fieldError("password")}
      />
      <div className="form-actions">
        <Button kind="main" type="submit" disabled={login.busy}>
          Sign in
        </Button>
        {config.demo && (
          <Button
            className="tall"
            disabled={login.busy}
            onClick={() => config.demo && void login.submit({ ...config.demo })}
          >
            Use demo account
          </Button>
        )}
      </div>
    </form>
  );
}
