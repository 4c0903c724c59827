// Answers that a healthy stack does not give on demand: gRPC-Web bodies made by hand, put in place of the gateway's.

const WATCH = "**/tailrace.stream.v1.EventStreamService/Watch";

const headers = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": "grpc-status,grpc-message",
  "content-type": "application/grpc-web+proto",
};

/** WatchResponse { cursor: "x", caught_up: {} } */
const CAUGHT_UP = [0x0a, 1, 0x78, 0x1a, 0];

/** WatchResponse { cursor: "x", gap: { topic: "users.created", partition: 2, 12 … 1216, RETENTION } } */
const GAP = (() => {
  const topic = [...Buffer.from("users.created")];
  const gap = [0x0a, topic.length, ...topic, 0x10, 2, 0x18, 12, 0x20, 0xc0, 0x09, 0x28, 1];
  return [0x0a, 1, 0x78, 0x2a, gap.length, ...gap];
})();

function frames(...messages) {
  return Buffer.concat(messages.map((message) => Buffer.from([0, 0, 0, 0, message.length, ...message])));
}

/** The stream refuses with a status instead of beginning. */
export const refuse = (page, status, message) =>
  page.route(WATCH, (route) =>
    preflightOr(route, () =>
      route.fulfill({ headers: { ...headers, "grpc-status": String(status), "grpc-message": message } }),
    ),
  );

/** No connection at all. */
export const cut = (page) => page.route(WATCH, (route) => route.abort());

/** Connected, and never a word. */
export const silence = (page) => page.route(WATCH, (route) => preflightOr(route, () => {}));

/** Nothing in the topics. The body ends, so the page connects again: the list stays as it is. */
export const empty = (page) =>
  page.route(WATCH, (route) => preflightOr(route, () => route.fulfill({ headers, body: frames(CAUGHT_UP) })));

/** A gap, then what the true stream says. */
export async function gap(page) {
  let told = false;
  await page.route(WATCH, (route) =>
    preflightOr(route, () => {
      if (told) {
        return route.abort();
      }
      told = true;
      return route.fulfill({ headers, body: frames(GAP, CAUGHT_UP) });
    }),
  );
}

export const restore = (page) => page.unroute(WATCH);

function preflightOr(route, answer) {
  if (route.request().method() !== "OPTIONS") {
    return answer();
  }
  return route.fulfill({
    status: 204,
    headers: { ...headers, "access-control-allow-headers": "*", "access-control-allow-methods": "POST" },
  });
}
