import { useRef, useState } from "react";
import { Button } from "./button";

/** A line to be copied. Without a clipboard (a page over plain http) the button selects the text instead. */
export function Copy({ text, label }: { text: string; label: string }) {
  const code = useRef<HTMLElement>(null);
  const [said, setSaid] = useState("Copy");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("Copied");
    } catch {
      if (code.current) {
        getSelection()?.selectAllChildren(code.current);
      }
      setSaid("Selected");
    }
  };
  return (
    <div className="copy">
      <code ref={code}>{text}</code>
      <Button kind="bare" onClick={copy} aria-label={`${said} ${label}`}>
        {said}
      </Button>
    </div>
  );
}
