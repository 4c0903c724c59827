/**
 * A fresh `request_id` (UUID v4). Make one for each thing the caller wants to happen, and send the same again when
 * the outcome of a call is unknown: the server then answers as it did, or would have done, the first time.
 */
export function newRequestId(): string {
  // `crypto.randomUUID` exists in secure contexts only; a page served over http from another host is none.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
