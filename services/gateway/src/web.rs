//! The built page on its own port: static files, what the page is told, and the headers that keep it safe.
//!
//! A path that is no file is the page's own (`/orders`), so it is answered with `index.html`; below `/assets` it is an
//! error. It serves nobody's data: those come from the services, which check tokens.

use std::{convert::Infallible, path::PathBuf, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tailrace_runtime::{process::Misconfigured, shutdown::Shutdown};
use tokio::net::TcpListener;
use tower_http::services::{ServeDir, ServeFile};
use tracing::info;

use crate::config::WebSettings;

const NOT_BUILT: &str = "The page is not built yet.\n\nBuild it with `npm ci && npm run build` in `web/`, or start everything with `cargo xtask up`.\n";

/// A file below `/assets` has a name made of its content.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

struct Page {
    index: PathBuf,
    config: String,
    policy: HeaderValue,
}

/// The page as a service.
pub fn router(settings: &WebSettings) -> Result<Router, Misconfigured> {
    let root = &settings.web_root;
    let index = root.join("index.html");
    let page = Page {
        index: index.clone(),
        config: serde_json::to_string(&settings.page()).expect("strings always make JSON"),
        policy: content_security_policy(&settings.origins()?),
    };
    let files = ServeDir::new(root).fallback(ServeFile::new(index));
    let page = Arc::new(page);
    Ok(Router::new()
        .nest_service("/assets", ServeDir::new(root.join("assets")))
        .fallback_service(files)
        .layer(middleware::from_fn_with_state(Arc::clone(&page), require_build))
        .route("/config.json", get(config))
        .layer(middleware::from_fn_with_state(Arc::clone(&page), add_headers))
        .with_state(page))
}

/// Serves the page until shutdown is requested.
pub async fn serve(listener: TcpListener, router: Router, shutdown: Shutdown) -> std::io::Result<()> {
    if let Ok(address) = listener.local_addr() {
        info!(web.address = %address, "serving the page");
    }
    axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.wait().await }).await
}

async fn config(State(page): State<Arc<Page>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], page.config.clone()).into_response()
}

/// Without a build every path says how to make one.
async fn require_build(
    State(page): State<Arc<Page>>,
    request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    if tokio::fs::try_exists(&page.index).await.unwrap_or(false) {
        return Ok(next.run(request).await);
    }
    let head = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((StatusCode::SERVICE_UNAVAILABLE, head, Body::from(NOT_BUILT)).into_response())
}

async fn add_headers(
    State(page): State<Arc<Page>>,
    request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    let asset = request.uri().path().starts_with("/assets/");
    let mut response = next.run(request).await;
    let immutable = asset && response.status().is_success();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, if immutable { IMMUTABLE } else { REVALIDATE });
    headers.insert(header::CONTENT_SECURITY_POLICY, page.policy.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=()"),
    );
    Ok(response)
}

fn content_security_policy(origins: &[&str]) -> HeaderValue {
    let policy = format!(
        "default-src 'self'; connect-src 'self' {}; img-src 'self' data:; style-src 'self' 'unsafe-inline'; \
         object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        origins.join(" ")
    );
    HeaderValue::from_str(&policy).expect("origins are checked to be plain text")
}
