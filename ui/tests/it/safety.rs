//! What foreign pages and wrong bytes get.
//!
//! Not here: the rules one by one (`guard`'s own tests). Invariant: what is refused did not reach Nimbus.

use crate::http::{ask, get};
use crate::played::{ID, play, play_fixture};

#[tokio::test]
async fn a_foreign_page_changes_nothing() {
    let played = play_fixture().await;
    let own = format!("origin: http://{}", played.at());
    for path in ["activate", "deactivate", "rebalance/0", "kill/0"] {
        for foreign in
            ["origin: http://evil.example", "origin: null", "sec-fetch-site: cross-site", "sec-fetch-site: same-site"]
        {
            let refused = ask(played.at(), &format!("POST /api/v1/topology/{ID}/{path}"), &[foreign]).await.refusal();
            assert_eq!((refused.0, refused.1.as_str()), (403, "403 Forbidden"), "{foreign}");
            assert!(refused.2.starts_with("a page of another origin ("), "{}", refused.2);
        }
    }
    assert_eq!(played.told(), [""; 0]);
    let reply =
        ask(played.at(), &format!("POST /api/v1/topology/{ID}/activate"), &[&own, "sec-fetch-site: same-origin"]).await;
    assert_eq!((reply.status, played.told().len()), (200, 1));
    let reply = ask(played.at(), &format!("POST /api/v1/topology/{ID}/activate"), &[&own]).await;
    assert_eq!((reply.status, played.told().len()), (200, 2));
}

#[tokio::test]
async fn reading_changes_nothing() {
    let played = play_fixture().await;
    for path in ["activate", "deactivate", "rebalance/0", "kill/0"] {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let reply = ask(played.at(), &format!("{method} /api/v1/topology/{ID}/{path}"), &[]).await;
            assert_eq!(reply.status, 405, "{method} {path}");
            if method != "HEAD" {
                assert_eq!(reply.refusal().2, "HTTP 405 Method Not Allowed");
            }
        }
    }
    assert_eq!(played.told(), [""; 0]);
}

#[tokio::test]
async fn a_foreign_name_reads_nothing() {
    let played = play_fixture().await;
    for path in ["/", "/api/v1/cluster/configuration", "/api/v2/cluster"] {
        let refused = ask(played.at(), &format!("GET {path}"), &["host: evil.example:8080"]).await.refusal();
        let said =
            "this UI does not go by the name `evil.example`: open it as localhost, or set `ui.host` to that name";
        assert_eq!(refused, (403, "403 Forbidden".into(), said.into()), "{path}");
    }
    assert_eq!(ask(played.at(), "GET /", &["host: localhost:8080"]).await.status, 200);
}

#[tokio::test]
async fn every_answer_keeps_foreign_pages_and_frames_out() {
    let played = play_fixture().await;
    let paths = [
        "/",
        "/style.css",
        "/page.js",
        "/api/v1/cluster/summary",
        "/api/v1/nowhere",
        "/nowhere",
        "/api/v2/cluster?callback=f",
    ];
    for path in paths {
        let reply = ask(played.at(), &format!("GET {path}"), &["origin: http://evil.example"]).await;
        assert_eq!(reply.header("access-control-allow-origin"), None, "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cross-origin-resource-policy", "same-origin"),
            (
                "content-security-policy",
                "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
            ),
        ] {
            assert_eq!(reply.header(name), Some(value), "{path} {name}");
        }
    }
    let reply = get(played.at(), "/api/v1/cluster/summary").await;
    assert_eq!(reply.header("cache-control"), Some("no-cache, no-store"));
    assert_eq!(reply.header("content-type"), Some("application/json;charset=utf-8"));
}

#[tokio::test]
async fn secrets_stay() {
    let played = play_fixture().await;
    for path in ["/api/v1/cluster/configuration", &format!("/api/v1/topology/{ID}"), &format!("/api/v2/topology/{ID}")]
    {
        let reply = get(played.at(), path).await;
        assert!(reply.body.contains("\"*****\""), "{path}");
        assert!(!reply.body.contains("user:word") && !reply.body.contains("password\":\"word\""), "{path}");
    }
}

#[tokio::test]
async fn markup_is_text_wherever_it_stands() {
    let markup = "<script>alert('1')</script>\"";
    let mut topology: serde_json::Value = serde_json::from_str(crate::played::TOPOLOGY).unwrap();
    topology["graph"]["components"][2]["name"] = markup.into();
    topology["workers"][0]["host"] = markup.into();
    topology["summary"]["owner"] = markup.into();
    let played = play(topology).await;
    let reply = get(played.at(), &format!("/api/v1/topology/{ID}")).await;
    assert_eq!(reply.header("content-type"), Some("application/json;charset=utf-8"));
    let json = reply.json();
    assert_eq!((&json["owner"], &json["bolts"][1]["boltId"]), (&markup.into(), &markup.into()));
    let encoded = "%3Cscript%3Ealert%28%271%27%29%3C%2Fscript%3E%22";
    assert_eq!(json["bolts"][1]["encodedBoltId"], encoded);
    let component = get(played.at(), &format!("/api/v1/topology/{ID}/component/{encoded}")).await.json();
    assert_eq!(component["id"], markup);
}

#[tokio::test]
async fn wrong_requests_get_a_sentence_and_the_ui_lives() {
    let played = play_fixture().await;
    let long = format!("content-length: {}", 1 << 20);
    let refused = ask(played.at(), &format!("POST /api/v1/topology/{ID}/activate"), &[&long]).await.refusal();
    assert_eq!((refused.0, refused.1.as_str()), (413, "413 Payload Too Large"));
    for path in ["/api/v1/topology/%FF", "/api/v1/topology/..%2F..%2Fetc", "/api/v1/topology/%3Cb%3E"] {
        let refused = get(played.at(), path).await.refusal();
        assert!([404, 500].contains(&refused.0) && refused.2.len() > 10, "{path} {refused:?}");
    }
    assert_eq!(get(played.at(), "/api/v1/cluster/summary").await.status, 200);
    assert_eq!(played.told(), [""; 0]);
}
