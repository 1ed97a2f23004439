//! The pages, which are part of the executable.
//!
//! Not here: any data; they fetch it. Invariant: everything that a page needs comes from here, and no name from outside is
//! ever put into one as markup.

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;

const HTML: &str = "text/html;charset=utf-8";
const SCRIPT: &str = "text/javascript;charset=utf-8";

/// (path, content type, content).
const FILES: [(&str, &str, &str); 10] = [
    ("/", HTML, include_str!("../pages/index.html")),
    ("/index.html", HTML, include_str!("../pages/index.html")),
    ("/topology.html", HTML, include_str!("../pages/topology.html")),
    ("/component.html", HTML, include_str!("../pages/component.html")),
    ("/style.css", "text/css;charset=utf-8", include_str!("../pages/style.css")),
    ("/icon.svg", "image/svg+xml", include_str!("../pages/icon.svg")),
    ("/page.js", SCRIPT, include_str!("../pages/page.js")),
    ("/index.js", SCRIPT, include_str!("../pages/index.js")),
    ("/topology.js", SCRIPT, include_str!("../pages/topology.js")),
    ("/component.js", SCRIPT, include_str!("../pages/component.js")),
];

/// A route for each file.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |router, (path, content_type, content)| {
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static(content_type)),
            // They belong to one version of the executable: an old script must not meet a new answer.
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        router.route(path, get(async move || (headers, content).into_response()))
    })
}
