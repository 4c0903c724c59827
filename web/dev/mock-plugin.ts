import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Plugin } from "vite";
import type { Handler } from "./mock.ts";

/**
 * `npm run mock`: Vite's development server with a stand-in for every process behind the same origin, so that the
 * page can be worked on, and looked at, without a database. It speaks true gRPC-Web. Never part of a build.
 */
export function mockServer(): Plugin {
  return {
    name: "tailrace-mock",
    configureServer(server) {
      server.middlewares.use(async (request, response, next) => {
        const { mock } = (await server.ssrLoadModule("/dev/mock.ts")) as { mock: Map<string, Handler> };
        const origin = `http://${request.headers.host}`;
        const path = new URL(request.url ?? "/", origin).pathname;
        const handler = mock.get(path);
        if (handler) {
          await answer(handler, origin, request, response);
        } else {
          next();
        }
      });
    },
  };
}

/** The browser test reaches the mock under a second address. */
const CORS = {
  "access-control-allow-origin": "*",
  "access-control-allow-headers": "*, authorization",
  "access-control-expose-headers": "*",
};

async function answer(handler: Handler, origin: string, request: IncomingMessage, response: ServerResponse) {
  if (request.method === "OPTIONS") {
    response.writeHead(204, CORS).end();
    return;
  }
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const answered = await handler(
    new Request(new URL(request.url ?? "/", origin), {
      method: request.method ?? "GET",
      headers: Object.entries(request.headers).map(
        ([name, value]) => [name, String(value)] as [string, string],
      ),
      signal: gone.signal,
      ...(request.method === "POST" && { body: Readable.toWeb(request) as BodyInit, duplex: "half" }),
    }),
  );
  response.writeHead(answered.status, { ...Object.fromEntries(answered.headers), ...CORS });
  response.flushHeaders();
  if (answered.body) {
    // A reader that leaves is how every stream of this page ends.
    await pipeline(Readable.fromWeb(answered.body as never), response).catch(() => {});
  }
  response.end();
}
