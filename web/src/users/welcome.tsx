import { useState } from "react";
import { Button } from "../ui/button";
import { CreateUser } from "./create-user";
import { SignIn } from "./sign-in";

/** The page of one who is not signed in. */
export function Welcome() {
  const [page, setPage] = useState<"sign-in" | "create">("sign-in");
  const [created, setCreated] = useState("");
  return (
    <main className="welcome">
      <div className="welcome-panel">
        <h1>{page === "sign-in" ? "Sign in" : "Create an account"}</h1>
        <p className="quiet">
          {created === ""
            ? "Watch events leave Postgres and arrive here, once and in order."
            : `The account ${created} is created. Sign in with it.`}
        </p>
        {page === "sign-in" ? (
          <SignIn key={created} email={created} />
        ) : (
          <CreateUser
            onCreated={(email) => {
              setCreated(email);
              setPage("sign-in");
            }}
          />
        )}
        <Button kind="bare" onClick={() => setPage(page === "sign-in" ? "create" : "sign-in")}>
          {page === "sign-in" ? "Create an account" : "I have an account"}
        </Button>
      </div>
    </main>
  );
}
