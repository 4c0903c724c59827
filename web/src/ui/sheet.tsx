import { type ReactNode, useEffect, useId, useRef } from "react";
import { Button } from "./button";

/** A modal sheet from the right. The browser's dialog keeps the focus inside and gives it back. */
export function Sheet({
  title,
  onClose,
  children,
}: {
  title: string;
  onClose: () => void;
  children: ReactNode;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} className="sheet" aria-labelledby={heading} onClose={onClose}>
      <header className="sheet-head">
        <h2 id={heading}>{title}</h2>
        <Button kind="bare" onClick={() => dialog.current?.close()}>
          Close
        </Button>
      </header>
      {children}
    </dialog>
  );
}
