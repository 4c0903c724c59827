import type { ButtonHTMLAttributes } from "react";

export interface ButtonProps extends ButtonHTMLAttributes<HTMLButtonElement> {
  /** `main` for the one thing a form is for, `bare` for what stands in a line of text or a header. */
  readonly kind?: "main" | "plain" | "bare";
}

export function Button({ kind = "plain", type = "button", className = "", ...rest }: ButtonProps) {
  return <button type={type} className={`button ${className}`} data-kind={kind} {...rest} />;
}
