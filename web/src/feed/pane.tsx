import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useCallback, useId, useRef, useState } from "react";
import { count } from "../format";
import { Button } from "../ui/button";
import { Shape, type ShapeName } from "../ui/shape";
import { useValue } from "../value";
import type { Lane } from "./lane";
import type { EventRow } from "./row";
import { RowView } from "./row-view";
import { useRowKeys } from "./use-row-keys";

const ROW_HEIGHT_PX = 32;

/** How far the list may be scrolled and still count as at its top. */
const TOP_TOLERANCE_PX = 8;

export interface PaneProps {
  readonly lane: Lane;
  readonly title: string;
  readonly shape: ShapeName;
  readonly action?: ReactNode;
  /** Shown when the topic was read to its end and there is no row. */
  readonly empty: ReactNode;
  /** Whether the topic was read to its end. */
  readonly loaded: boolean;
  readonly selectedKey: string | null;
  readonly own: ReadonlySet<string>;
  readonly describe: (row: EventRow) => string;
  readonly onSelect: (row: EventRow) => void;
}

/** One live list. It follows the newest row; the pause button, or scrolling away from the top, holds it still. */
export function Pane({
  lane,
  title,
  shape,
  action,
  empty,
  loaded,
  selectedKey,
  own,
  describe,
  onSelect,
}: PaneProps) {
  const { rows, paused, waiting } = useValue(lane.view);
  const scroller = useRef<HTMLDivElement>(null);
  const [heldByButton, setHeldByButton] = useState(false);
  const heading = useId();
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_HEIGHT_PX,
    getItemKey: (index) => rows[index]?.key ?? index,
    overscan: 12,
  });
  const { activeKey, stand, onKeyDown, onFocus } = useRowKeys(rows, {
    show: (index) => virtual.scrollToIndex(index),
    open: onSelect,
  });
  const select = useCallback(
    (row: EventRow) => {
      stand(row.key);
      onSelect(row);
    },
    [stand, onSelect],
  );
  const rowId = (key: string) => `${heading}${key}`;

  const follow = () => {
    setHeldByButton(false);
    scroller.current?.scrollTo({ top: 0 });
    lane.resume();
  };
  const hold = () => {
    setHeldByButton(true);
    lane.pause();
  };
  const onScroll = () => {
    const atTop = (scroller.current?.scrollTop ?? 0) <= TOP_TOLERANCE_PX;
    if (!atTop) {
      lane.pause();
    } else if (!heldByButton) {
      lane.resume();
    }
  };

  const visible = virtual.getVirtualItems();
  return (
    <section className="pane" aria-labelledby={heading}>
      <header className="pane-head">
        <Shape name={shape} />
        <h2 id={heading}>{title}</h2>
        {loaded && <span className="quiet numbers">{count(rows.length)}</span>}
        <span className="pane-actions">
          {paused ? (
            <Button onClick={follow} className="numbers">
              {waiting > 0 ? `${count(waiting)} new` : "Paused"} <span aria-hidden="true">↑</span>
              <span className="hidden-label">Resume</span>
            </Button>
          ) : (
            rows.length > 0 && (
              <Button kind="bare" onClick={hold}>
                Pause
              </Button>
            )
          )}
          {action}
        </span>
      </header>
      {rows.length === 0 ? (
        <Rowless loaded={loaded}>{empty}</Rowless>
      ) : (
        <div
          ref={scroller}
          className="lane"
          role="grid"
          tabIndex={0}
          aria-labelledby={heading}
          aria-rowcount={rows.length}
          aria-activedescendant={activeKey === null ? undefined : rowId(activeKey)}
          onScroll={onScroll}
          onKeyDown={onKeyDown}
          onFocus={onFocus}
        >
          <div role="rowgroup" style={{ height: virtual.getTotalSize() }} className="lane-rows">
            {visible.map(({ index, start }) => {
              const row = rows[index];
              return (
                row && (
                  <RowView
                    key={row.key}
                    row={row}
                    id={rowId(row.key)}
                    position={index + 1}
                    top={start}
                    selected={row.key === selectedKey}
                    active={row.key === activeKey}
                    own={row.kind === "event" && own.has(row.event.subject)}
                    describe={describe}
                    onSelect={select}
                  />
                )
              );
            })}
          </div>
        </div>
      )}
    </section>
  );
}

const SKELETON_ROWS = Array.from({ length: 8 }, (_, index) => index);

/** "Nothing there" is said only when that is known. */
function Rowless({ loaded, children }: { loaded: boolean; children: ReactNode }) {
  return loaded ? (
    <div className="pane-empty">{children}</div>
  ) : (
    <ol className="skeleton" aria-hidden="true">
      {SKELETON_ROWS.map((index) => (
        <li key={index}>
          <span />
        </li>
      ))}
    </ol>
  );
}
