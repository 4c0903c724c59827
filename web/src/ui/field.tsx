import { type InputHTMLAttributes, useId } from "react";

export interface FieldProps extends InputHTMLAttributes<HTMLInputElement> {
  readonly label: string;
  readonly hint?: string;
  /** What the server said about this field. */
  readonly error?: string | undefined;
  /** For fields in a table, where the column's head is the visible label. */
  readonly labelHidden?: boolean;
}

/** A labelled input with its hint and its error where a screen reader finds them. */
export function Field({ label, hint, error, labelHidden = false, ...input }: FieldProps) {
  const id = useId();
  const described = error ? `${id}-error` : hint && `${id}-hint`;
  return (
    <div className="field">
      <label htmlFor={id} className={labelHidden ? "hidden-label" : undefined}>
        {label}
      </label>
      <input id={id} aria-invalid={error !== undefined} aria-describedby={described} {...input} />
      {hint && !error && (
        <span id={`${id}-hint`} className="field-hint">
          {hint}
        </span>
      )}
      {error && (
        <span id={`${id}-error`} className="field-error" role="alert">
          {error}
        </span>
      )}
    </div>
  );
}
