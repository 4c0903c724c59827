/** Users are round, orders square, dead letters crossed: told apart without colour. */
export type ShapeName = "circle" | "square" | "cross";

export function Shape({ name }: { name: ShapeName }) {
  return (
    <svg className="shape" viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">
      {name === "circle" && <circle cx="6" cy="6" r="4.25" />}
      {name === "square" && <rect x="2" y="2" width="8" height="8" />}
      {name === "cross" && <path d="M2.5 2.5l7 7m0-7l-7 7" />}
    </svg>
  );
}
