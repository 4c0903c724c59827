//! The page's port: files, the page's own paths, what it is told, and its headers.

use std::{fs, path::Path};

use gateway::{
    config::{Cli, DEFAULTS},
    web,
};
use tailrace_runtime::{settings, shutdown::Shutdown};
use tokio::net::TcpListener;

use crate::process::{Answer, get};

struct Page {
    address: String,
    shutdown: Shutdown,
}

impl Page {
    async fn serve(root: &Path, arguments: &[&str]) -> Self {
        let root = root.to_str().expect("text");
        let line = ["gateway", "--web-root", root].into_iter().chain(arguments.iter().copied());
        let cli: Cli = settings::parse_from(line, &DEFAULTS).expect("settings");
        let router = web::router(&cli.settings.web).expect("a router");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shutdown = Shutdown::new();
        tailrace_runtime::task::spawn("page", web::serve(listener, router, shutdown.clone()));
        Self { address, shutdown }
    }

    async fn get(&self, path: &str) -> Answer {
        let (address, path) = (self.address.clone(), path.to_owned());
        tokio::task::spawn_blocking(move || get(&address, &path)).await.expect("answered").expect("an answer")
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

fn built() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir(root.path().join("assets")).expect("a folder");
    fs::write(root.path().join("index.html"), "<title>Tailrace</title>").expect("written");
    fs::write(root.path().join("assets/main-4f2a.js"), "export {}").expect("written");
    root
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_served_and_hashed_ones_kept_for_ever() {
    let root = built();
    let page = Page::serve(root.path(), &[]).await;
    let index = page.get("/").await;
    assert_eq!((index.status, index.body.as_str()), (200, "<title>Tailrace</title>"));
    assert_eq!(index.header("content-type"), "text/html");
    assert_eq!(index.header("cache-control"), "no-cache");
    let asset = page.get("/assets/main-4f2a.js").await;
    assert_eq!(asset.header("content-type"), "text/javascript");
    assert!(asset.header("cache-control").contains("immutable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_own_paths_get_the_page_and_missing_assets_an_error() {
    let root = built();
    let page = Page::serve(root.path(), &[]).await;
    let own = page.get("/orders?selected=1").await;
    assert_eq!((own.status, own.body.as_str()), (200, "<title>Tailrace</title>"));
    assert_eq!(own.header("cache-control"), "no-cache");
    let missing = page.get("/assets/main-0000.js").await;
    assert_eq!((missing.status, missing.header("cache-control")), (404, "no-cache".to_owned()));
    let outside = page.get("/../../etc/passwd").await;
    assert!(!outside.body.contains("root:"), "nothing outside of the folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_the_headers_that_keep_the_page_safe() {
    let root = built();
    let page = Page::serve(root.path(), &["--gateway-url", "https://events.example.org/"]).await;
    for path in ["/", "/orders", "/config.json", "/assets/main-4f2a.js", "/assets/none"] {
        let answer = page.get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("connect-src 'self' http://localhost:5001 "), "{policy}");
        assert!(policy.contains(" https://events.example.org;"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_told_where_the_services_are() {
    let root = built();
    let page =
        Page::serve(root.path(), &["--demo-email", "demo@example.org", "--demo-password", "demo"]).await;
    let answer = page.get("/config.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json".to_owned()));
    let config: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(config["userServiceUrl"], "http://localhost:5001");
    assert_eq!(config["relayUrl"], "http://localhost:5003");
    assert_eq!(config["demo"]["email"], "demo@example.org");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_not_built_says_how_to_build_it() {
    let root = tempfile::tempdir().expect("a folder");
    let page = Page::serve(root.path(), &[]).await;
    let answer = page.get("/").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("npm run build"), "{}", answer.body);
    assert_eq!(page.get("/config.json").await.status, 200);
}
