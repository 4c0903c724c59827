import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { EventSchema, UserCreatedSchema } from "@tailrace/sdk";
import { describe, expect, it } from "vitest";
import {
  bytesText,
  decodePayload,
  layOut,
  PAYLOAD_DECODED_BYTES_MAX,
  PAYLOAD_SHOWN_BYTES,
  payloadText,
} from "../src/feed/payload";
import { eventRow } from "../src/feed/row";
import { endToEnd, hops, instant, latency } from "../src/feed/times";
import { bytes, count, shortName } from "../src/format";
import { href, parseRoute } from "../src/route";

const utf8 = (text: string) => new TextEncoder().encode(text);

describe("a payload", () => {
  it.each([
    ['{"a":1,"b":[true,null]}', '{\n  "a": 1,\n  "b": [\n    true,\n    null\n  ]\n}'],
    ["{}", "{}"],
    ['{"a":{},"b":[]}', '{\n  "a": {},\n  "b": []\n}'],
    ['{"n":9007199254740993}', '{\n  "n": 9007199254740993\n}'],
    ['{"s":"a,{\\"b\\":1}"}', '{\n  "s": "a,{\\"b\\":1}"\n}'],
  ])("%s is laid out without touching a literal", (json, expected) => {
    expect(layOut(json)).toBe(expected);
  });

  it("is shown as it came when it is no JSON", () => {
    expect(payloadText(utf8("<script>"), false, PAYLOAD_SHOWN_BYTES)).toEqual({
      text: "<script>",
      pretty: false,
      hiddenBytes: 0,
    });
  });

  it("is cut at the limit, and says by how much", () => {
    const payload = utf8(JSON.stringify("x".repeat(PAYLOAD_SHOWN_BYTES)));
    expect(payloadText(payload, false, PAYLOAD_SHOWN_BYTES)).toMatchObject({ pretty: false, hiddenBytes: 2 });
    expect(payloadText(payload, false, payload.length).hiddenBytes).toBe(0);
  });

  it("is decoded when it is what its type says, with fields of later versions left aside", () => {
    const decode = (json: string) => decodePayload(UserCreatedSchema, utf8(json))?.displayName;
    expect(decode('{"displayName":"Ada","shoeSize":38}')).toBe("Ada");
    expect(decode('{"displayName":7}')).toBeUndefined();
    expect(decode("<b>")).toBeUndefined();
    expect(decode(JSON.stringify({ displayName: "x".repeat(PAYLOAD_DECODED_BYTES_MAX) }))).toBeUndefined();
  });

  it("key or header that is no text is hexadecimal", () => {
    expect(bytesText(utf8("é"))).toBe("é");
    expect(bytesText(Uint8Array.of(0xff, 0x0a))).toBe("ff 0a");
  });
});

describe("a latency", () => {
  it.each([
    [0, 6.14, "6.1 ms"],
    [0, 1_500, "1.50 s"],
    [0, 3_600_000, "60 min"],
    [5, 4.9, "clocks differ"],
    [undefined, 1, "unknown"],
  ])("from %s to %s is %s", (from, to, expected) => {
    expect(latency(from, to)).toBe(expected);
  });

  it("is told hop by hop, and to this page only for what happened while it watched", () => {
    const event = create(EventSchema, {
      commitTime: timestampFromMs(1_000),
      relayTime: timestampFromMs(1_002),
      gatewayTime: timestampFromMs(1_001),
    });
    const live = eventRow(event, 1_009, true);
    expect(hops(live).map(({ text }) => text)).toEqual(["2.0 ms", "clocks differ", "8.0 ms"]);
    expect(endToEnd(live)).toBe("9.0 ms");
    const old = eventRow(event, 1_009, false);
    expect(endToEnd(old)).toBe("");
    expect(hops(old)[2]?.text).toBe("before you watched");
  });
});

it("an instant keeps its microseconds", () => {
  const time = { ...timestampFromMs(0), seconds: 1_700_000_000n, nanos: 123_456_789 };
  expect(instant(time)).toBe("2023-11-14T22:13:20.123456Z");
});

it("sizes, counts and names fit a column", () => {
  expect([bytes(412), bytes(1_234), bytes(5_600_000)]).toEqual(["412 B", "1.2 kB", "5.6 MB"]);
  expect(count(9007199254740993n)).toBe("9\u2009007\u2009199\u2009254\u2009740\u2009993");
  expect(shortName("users/0198f3a2-1c4d-7a51-9f00-0123456789ab")).toBe("users/…456789ab");
  expect(shortName("anything")).toBe("anything");
});

it("an address and a route are the same thing", () => {
  for (const route of [
    { view: "live", event: null },
    { view: "dead-letters", event: "dead-letter/0/9007199254740993" },
  ] as const) {
    expect(parseRoute(href(route).slice(1))).toEqual(route);
  }
});
