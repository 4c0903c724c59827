import { type FormEvent, useState } from "react";
import { useServices } from "../api/services";
import { useSubmit } from "../api/use-submit";
import { Button } from "../ui/button";
import { Field } from "../ui/field";
import { formatAmount, parseAmount, total } from "./money";

interface DraftLine {
  /** For React only: lines are removed from the middle. */
  readonly id: number;
  readonly product: string;
  readonly quantity: string;
  readonly price: string;
}

interface Draft {
  readonly currency: string;
  readonly lines: readonly DraftLine[];
}

const LINES_MAX = 100;

/** Creates an order for whoever is signed in. */
export function CreateOrder({ onCreated }: { onCreated: () => void }) {
  const { own, tailrace } = useServices();
  const [draft, setDraft] = useState<Draft>({ currency: "EUR", lines: [emptyLine(0)] });
  const create = useSubmit(async (sent: Draft, requestId) => {
    const order = await tailrace.orders.createOrder({
      order: { lines: sent.lines.map(toLine(sent)) },
      requestId,
    });
    own.add(order.name);
    onCreated();
  });
  const change = (at: number, part: Partial<DraftLine>) =>
    setDraft({
      ...draft,
      lines: draft.lines.map((line, index) => (index === at ? { ...line, ...part } : line)),
    });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void create.submit(draft);
  };
  const failed = create.formError(draft.lines.flatMap((_, index) => linePaths(index)));
  return (
    <form className="form" onSubmit={submit} noValidate>
      {failed && (
        <p className="form-error" role="alert">
          {failed}
        </p>
      )}
      <ol className="order-lines">
        {draft.lines.map((line, index) => (
          <li key={line.id}>
            <Line
              line={line}
              number={index + 1}
              onChange={(part) => change(index, part)}
              errors={linePaths(index).map(create.fieldError)}
            />
            {draft.lines.length > 1 && (
              <Button
                kind="bare"
                aria-label={`Remove line ${index + 1}`}
                onClick={() => setDraft({ ...draft, lines: draft.lines.filter((other) => other !== line) })}
              >
                Remove
              </Button>
            )}
          </li>
        ))}
      </ol>
      <div className="order-foot">
        <Button
          disabled={draft.lines.length >= LINES_MAX}
          onClick={() => setDraft({ ...draft, lines: [...draft.lines, emptyLine(nextId(draft))] })}
        >
          Add a line
        </Button>
        <Field
          label="Currency"
          maxLength={3}
          autoComplete="off"
          value={draft.currency}
          onChange={({ target }) => setDraft({ ...draft, currency: target.value.toUpperCase() })}
        />
        <p className="order-total numbers">
          <span className="quiet">Total</span> {totalText(draft)}
        </p>
      </div>
      <div className="form-actions">
        <Button kind="main" type="submit" disabled={create.busy}>
          Create order
        </Button>
      </div>
    </form>
  );
}

interface LineProps {
  readonly line: DraftLine;
  readonly number: number;
  readonly onChange: (part: Partial<DraftLine>) => void;
  /** Of product, quantity and unit price. */
  readonly errors: readonly (string | undefined)[];
}

function Line({ line, number, onChange, errors }: LineProps) {
  return (
    <fieldset className="order-line">
      <legend className="hidden-label">Line {number}</legend>
      <Field
        label="Product"
        value={line.product}
        onChange={({ target }) => onChange({ product: target.value })}
        error={errors[0]}
      />
      <Field
        label="Quantity"
        inputMode="numeric"
        value={line.quantity}
        onChange={({ target }) => onChange({ quantity: target.value })}
        error={errors[1]}
      />
      <Field
        label="Unit price"
        inputMode="decimal"
        value={line.price}
        onChange={({ target }) => onChange({ price: target.value })}
        error={errors[2] ?? amountError(line.price)}
      />
    </fieldset>
  );
}

function linePaths(index: number): string[] {
  return ["product", "quantity", "unit_price"].map((field) => `order.lines[${index}].${field}`);
}

function emptyLine(id: number): DraftLine {
  return { id, product: "", quantity: "1", price: "" };
}

function nextId({ lines }: Draft): number {
  return Math.max(...lines.map(({ id }) => id)) + 1;
}

function amountError(price: string): string | undefined {
  return price === "" || parseAmount(price) ? undefined : "is not an amount";
}

// What is no number is left out: the server holds the rules and says them at the field.
function toLine({ currency }: Draft) {
  return ({ product, quantity, price }: DraftLine) => {
    const amount = parseAmount(price);
    return {
      product,
      quantity: /^\d{1,9}$/.test(quantity.trim()) ? Number(quantity) : 0,
      ...(amount && { unitPrice: { currencyCode: currency, ...amount } }),
    };
  };
}

function totalText({ lines, currency }: Draft): string {
  const amounts = lines.flatMap(({ quantity, price }) => {
    const parsed = parseAmount(price);
    return parsed && /^\d{1,9}$/.test(quantity.trim()) ? [{ quantity: Number(quantity), price: parsed }] : [];
  });
  return amounts.length === lines.length ? `${formatAmount(total(amounts))} ${currency}` : "–";
}
