import { Code } from "@connectrpc/connect";
import { type Failure, failureOf, newRequestId } from "@tailrace/sdk";
import { useRef, useState } from "react";
import { useServices } from "./services";

export interface Submission<T> {
  readonly busy: boolean;
  readonly failure: Failure | null;
  /** The server's message for a request path such as `user.email`, or for anything below it. */
  fieldError(path: string): string | undefined;
  /** What is wrong with none of `paths`; undefined when every complaint stands at its field. */
  formError(paths: readonly string[]): string | undefined;
  submit(request: T): Promise<void>;
}

/**
 * Sends a form. A repeat of the very same request keeps its `request_id`, so that a second press after an answer
 * that never came does not create a second thing.
 */
export function useSubmit<T>(send: (request: T, requestId: string) => Promise<void>): Submission<T> {
  const { session } = useServices();
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(null);
  const attempt = useRef({ fingerprint: "", requestId: "" });

  const submit = async (request: T) => {
    const fingerprint = JSON.stringify(request);
    if (attempt.current.fingerprint !== fingerprint) {
      attempt.current = { fingerprint, requestId: newRequestId() };
    }
    setBusy(true);
    setFailure(null);
    try {
      await send(request, attempt.current.requestId);
      attempt.current = { fingerprint: "", requestId: "" };
    } catch (error) {
      const failed = failureOf(error);
      setFailure(failed);
      if (failed.code === Code.Unauthenticated) {
        session.expire();
      }
    } finally {
      setBusy(false);
    }
  };

  const at = (path: string) =>
    [...(failure?.fields ?? [])].filter(([field]) => field === path || isBelow(field, path));
  return {
    busy,
    failure,
    submit,
    fieldError: (path) => at(path)[0]?.[1],
    formError: (paths) => (failure ? formError(failure, paths) : undefined),
  };
}

function formError(failure: Failure, paths: readonly string[]): string | undefined {
  const placed = (field: string) => paths.some((path) => field === path || isBelow(field, path));
  const rest = [...failure.fields].filter(([field]) => !placed(field));
  if (failure.fields.size > 0) {
    return rest.length > 0 ? rest.map(([field, message]) => `${field}: ${message}`).join("; ") : undefined;
  }
  return sentence(failure);
}

/** What happened and what to do, for the failures that no field is to blame for. */
function sentence({ code, message }: Failure): string {
  switch (code) {
    case Code.Unavailable:
    case Code.Unknown:
    case Code.Internal:
    case Code.DeadlineExceeded:
      return `The service did not answer (${message}). Send it again: nothing is created twice.`;
    default:
      return message;
  }
}

function isBelow(field: string, path: string): boolean {
  return field.startsWith(`${path}.`) || field.startsWith(`${path}[`);
}
