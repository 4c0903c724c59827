import react from "@vitejs/plugin-react";
import { defaultClientConditions, defaultServerConditions } from "vite";
import { defineConfig } from "vitest/config";
import { mockServer } from "./dev/mock-plugin.ts";

// `@tailrace/sdk` is read as source, so that a change there needs no build in between.
const SDK_SOURCE = "tailrace-source";

export default defineConfig(({ mode }) => ({
  plugins: [react(), mode === "mock" && mockServer()],
  resolve: {
    conditions: [SDK_SOURCE, ...defaultClientConditions],
    // The SDK's peers are this package's own, whatever its folder has installed for its tests.
    dedupe: ["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-web"],
  },
  ssr: {
    noExternal: ["@tailrace/sdk"],
    resolve: { conditions: [SDK_SOURCE, ...defaultServerConditions] },
  },
  server: { port: 3000, fs: { allow: [".", "../sdk/typescript"] } },
  build: {
    // Every theme colour is a light-dark(): browsers from 2024 on.
    target: ["es2023", "chrome123", "firefox128", "safari17.5"],
    sourcemap: true,
  },
  test: {
    environment: "happy-dom",
    include: ["tests/**/*.test.{ts,tsx}"],
    server: { deps: { inline: ["@tailrace/sdk"] } },
  },
}));
