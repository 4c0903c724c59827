import { defineConfig } from "vitest/config";

/** `npm run test:live`: against a running system. */
export default defineConfig({ test: { include: ["live/**/*.test.ts"], testTimeout: 60_000 } });
