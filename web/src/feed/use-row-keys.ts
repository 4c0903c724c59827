import { type KeyboardEvent, useState } from "react";
import type { EventRow, Row } from "./row";

interface RowActions {
  /** Scrolls a row into sight. */
  readonly show: (index: number) => void;
  readonly open: (row: EventRow) => void;
}

/** Which row the keyboard is on, by key, so that it stays on its event while others arrive above. */
export function useRowKeys(rows: readonly Row[], { show, open }: RowActions) {
  const [activeKey, setActiveKey] = useState<string | null>(null);
  const at = rows.findIndex(({ key }) => key === activeKey);

  const move = (index: number) => {
    const target = Math.max(0, Math.min(rows.length - 1, index));
    setActiveKey(rows[target]?.key ?? null);
    show(target);
  };
  const steps: Record<string, () => void> = {
    ArrowDown: () => move(at + 1),
    j: () => move(at + 1),
    ArrowUp: () => move(at - 1),
    k: () => move(at - 1),
    Home: () => move(0),
    End: () => move(rows.length - 1),
    Enter: () => {
      const row = rows[at];
      if (row?.kind === "event") {
        open(row);
      }
    },
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const step = event.ctrlKey || event.metaKey || event.altKey ? undefined : steps[event.key];
    if (step) {
      event.preventDefault();
      step();
    }
  };
  // With a mouse press the row under it is meant; only the keyboard needs a first row to stand on.
  const onFocus = () => {
    if (at < 0) {
      setActiveKey(rows[0]?.key ?? null);
    }
  };
  return { activeKey: at < 0 ? null : activeKey, stand: setActiveKey, onKeyDown, onFocus };
}
