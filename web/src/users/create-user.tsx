import { type FormEvent, useState } from "react";
import { useServices } from "../api/services";
import { useSubmit } from "../api/use-submit";
import { Button } from "../ui/button";
import { Field } from "../ui/field";

const PATHS = ["user.display_name", "user.email", "password"];

/** Creates a user; anyone may. */
export function CreateUser({ onCreated }: { onCreated: (email: string) => void }) {
  const { own, tailrace } = useServices();
  const [draft, setDraft] = useState({ displayName: "", email: "", password: "" });
  const create = useSubmit(async ({ displayName, email, password }: typeof draft, requestId) => {
    const user = await tailrace.users.createUser({ user: { displayName, email }, password, requestId });
    own.add(user.name);
    onCreated(user.email);
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void create.submit(draft);
  };
  const failed = create.formError(PATHS);
  return (
    <form className="form" onSubmit={submit} noValidate>
      {failed && (
        <p className="form-error" role="alert">
          {failed}
        </p>
      )}
      <Field
        label="Name"
        autoComplete="off"
        value={draft.displayName}
        onChange={({ target }) => setDraft({ ...draft, displayName: target.value })}
        error={create.fieldError("user.display_name")}
      />
      <Field
        label="E-mail"
        type="email"
        autoComplete="off"
        value={draft.email}
        onChange={({ target }) => setDraft({ ...draft, email: target.value })}
        error={create.fieldError("user.email")}
      />
      <Field
        label="Password"
        type="password"
        autoComplete="new-password"
        hint="8 to 128 characters"
        value={draft.password}
        onChange={({ target }) => setDraft({ ...draft, password: target.value })}
        error={create.fieldError("password")}
      />
      <div className="form-actions">
        <Button kind="main" type="submit" disabled={create.busy}>
          Create user
        </Button>
      </div>
    </form>
  );
}
