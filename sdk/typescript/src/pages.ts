import type { CallOptions } from "@connectrpc/connect";

/**
 * Every page of a list, each asked for when the one before has been read.
 *
 * ```ts
 * for await (const { orders } of pages(tailrace.orders.listOrders, { filter: "state = STATE_PLACED" })) …
 * ```
 */
export async function* pages<Request extends object, Page extends { readonly nextPageToken: string }>(
  list: (request: Request & { pageToken?: string }, options?: CallOptions) => Promise<Page>,
  request: Request,
  options?: CallOptions,
): AsyncGenerator<Page, void, void> {
  let page = await list(request, options);
  yield page;
  while (page.nextPageToken !== "") {
    page = await list({ ...request, pageToken: page.nextPageToken }, options);
    yield page;
  }
}
