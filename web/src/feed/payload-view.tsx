import { useState } from "react";
import { bytes } from "../format";
import { Button } from "../ui/button";
import { PAYLOAD_SHOWN_BYTES, payloadText } from "./payload";

/** A payload, laid out or raw, cut until the reader asks for all of it. */
export function Payload({ title, payload }: { title: string; payload: Uint8Array }) {
  const [raw, setRaw] = useState(false);
  const [all, setAll] = useState(false);
  const { text, pretty, hiddenBytes } = payloadText(payload, raw, all ? payload.length : PAYLOAD_SHOWN_BYTES);
  return (
    <section aria-label={title}>
      <div className="details-row">
        <h3>{title}</h3>
        <span className="quiet data">{bytes(payload.length)}</span>
        {(pretty || raw) && (
          <Button kind="bare" aria-pressed={raw} onClick={() => setRaw(!raw)}>
            Raw
          </Button>
        )}
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <pre className="payload" tabIndex={0}>
        <bdi>{text}</bdi>
      </pre>
      {hiddenBytes > 0 && (
        <p className="details-row">
          <span className="quiet">{bytes(hiddenBytes)} more</span>
          <Button onClick={() => setAll(true)}>Load all</Button>
        </p>
      )}
    </section>
  );
}
