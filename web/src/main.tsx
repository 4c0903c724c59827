import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { loadConfig } from "./api/config";
import { createServices, ServicesProvider } from "./api/services";
import { App } from "./app";
import { ownConnection } from "./feed/connection";
import "./ui/tokens.css";
import "./ui/base.css";
import "./page.css";
import "./feed/feed.css";
import "./orders/orders.css";

const element = document.getElementById("root");
if (!element) {
  throw new Error("index.html has no element #root");
}
const root = createRoot(element);

try {
  const services = createServices(await loadConfig());
  const feed = ownConnection(services);
  root.render(
    <StrictMode>
      <ServicesProvider value={services}>
        <App feed={feed} />
      </ServicesProvider>
    </StrictMode>,
  );
} catch (error) {
  root.render(
    <main className="welcome">
      <div className="welcome-panel">
        <h1>The page has no settings</h1>
        <p>
          {error instanceof Error ? error.message : String(error)}. The web server must serve them; then
          reload.
        </p>
      </div>
    </main>,
  );
}
