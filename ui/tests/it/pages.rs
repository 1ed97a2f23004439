//! What the pages are made of.
//!
//! Not here: how they look. Invariant: a page loads nothing from elsewhere, and parses no markup but its own.

use crate::http::get;
use crate::played::play_fixture;

const PAGES: [&str; 4] = ["/", "/index.html", "/topology.html?id=x", "/component.html?id=x&topology_id=y"];
const SCRIPTS: [&str; 4] = ["/page.js", "/index.js", "/topology.js", "/component.js"];

#[tokio::test]
async fn pages_load_only_what_is_here() {
    let played = play_fixture().await;
    for path in PAGES {
        let page = get(played.at(), path).await;
        assert_eq!((page.status, page.header("content-type")), (200, Some("text/html;charset=utf-8")), "{path}");
        let attributes = ["src=\"", "href=\""].map(|name| page.body.split(name).skip(1).collect::<Vec<_>>()).concat();
        let links: Vec<&str> = attributes.iter().map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(links.iter().any(|link| link.ends_with(".js")), "{path}");
        for link in links.iter().filter(|link| !link.starts_with('#')) {
            assert_eq!(get(played.at(), link).await.status, 200, "{path} {link}");
        }
        // The content security policy refuses these: then they would silently do nothing.
        for inline in ["<script>", "<style", " style=", " onclick=", "javascript:"] {
            assert!(!page.body.contains(inline), "{path} {inline}");
        }
    }
}

#[tokio::test]
async fn scripts_never_parse_what_comes_from_outside() {
    let played = play_fixture().await;
    for path in SCRIPTS {
        let script = get(played.at(), path).await;
        assert_eq!(script.header("content-type"), Some("text/javascript;charset=utf-8"));
        for parser in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "DOMParser",
            "srcdoc",
            "http://",
            "https://",
        ] {
            assert!(!script.body.contains(parser), "{path} {parser}");
        }
        for imported in script.body.split(" from \"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert_eq!(get(played.at(), imported).await.status, 200, "{path} {imported}");
        }
    }
}
