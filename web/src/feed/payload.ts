import { type DescMessage, fromJsonString, type MessageShape } from "@bufbuild/protobuf";

/**
 * Payloads as text. They come from anybody: nothing here makes markup of them, and nothing here reads their numbers,
 * because a JavaScript number holds 53 bits and a payload's may have 64.
 */

/** How much of a payload is shown before the reader asks for all of it, in bytes. */
export const PAYLOAD_SHOWN_BYTES = 64 * 1024;

/** The largest payload that is decoded: a dead letter holds up to 64 KiB of another payload in base64. */
export const PAYLOAD_DECODED_BYTES_MAX = 256 * 1024;

export interface PayloadText {
  readonly text: string;
  /** Whether the text was laid out anew; else it is as it came. */
  readonly pretty: boolean;
  /** Bytes that are not shown. */
  readonly hiddenBytes: number;
}

/** The payload for a reader: laid out when it is JSON and short enough, else as it came, cut at `limitBytes`. */
export function payloadText(payload: Uint8Array, raw: boolean, limitBytes: number): PayloadText {
  const shown = payload.subarray(0, limitBytes);
  const text = new TextDecoder().decode(shown);
  const hiddenBytes = payload.length - shown.length;
  if (raw || hiddenBytes > 0 || !isJson(text)) {
    return { text, pretty: false, hiddenBytes };
  }
  return { text: layOut(text), pretty: true, hiddenBytes };
}

/** A header value or a key: text where it is text, else hexadecimal. */
export function bytesText(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  }
}

/** The payload as a message of the contract; undefined when it is none, or too large to look at for a summary. */
export function decodePayload<Desc extends DescMessage>(
  schema: Desc,
  payload: Uint8Array,
): MessageShape<Desc> | undefined {
  if (payload.length > PAYLOAD_DECODED_BYTES_MAX) {
    return undefined;
  }
  try {
    return fromJsonString(schema, new TextDecoder().decode(payload), { ignoreUnknownFields: true });
  } catch {
    return undefined;
  }
}

/** Lays valid JSON out by moving its text: every literal stays as it was written. */
export function layOut(json: string): string {
  const tokens = json.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];
  let depth = 0;
  let out = "";
  tokens.forEach((token, index) => {
    const empty = token === "{" || token === "[" ? closes(token, tokens[index + 1]) : false;
    const closesEmpty = index > 0 && closes(tokens[index - 1] ?? "", token);
    if (token === "{" || token === "[") {
      depth += 1;
      out += token + (empty ? "" : newline(depth));
    } else if (token === "}" || token === "]") {
      depth -= 1;
      out += (closesEmpty ? "" : newline(depth)) + token;
    } else if (token === ",") {
      out += `,${newline(depth)}`;
    } else {
      out += token === ":" ? ": " : token;
    }
  });
  return out;
}

function closes(open: string, next: string | undefined): boolean {
  return (open === "{" && next === "}") || (open === "[" && next === "]");
}

function newline(depth: number): string {
  return `\n${"  ".repeat(depth)}`;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
