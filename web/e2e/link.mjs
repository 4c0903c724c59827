// A TCP link to a service that can be cut, as a cable would be: no answer that a server would have made.

import { connect, createServer } from "node:net";

/** A way to `target` under an address of its own. */
export async function openLink(target) {
  const { hostname, port } = new URL(target);
  const open = new Set();
  let whole = true;

  const server = createServer((near) => {
    if (!whole) {
      near.destroy();
      return;
    }
    const far = connect(Number(port), hostname);
    open.add(near);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ]) {
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
    }
    near.on("close", () => open.delete(near));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut() {
      whole = false;
      for (const near of open) {
        near.destroy();
      }
    },
    mend() {
      whole = true;
    },
    close: () => new Promise((resolve) => server.close(resolve)),
  };
}
