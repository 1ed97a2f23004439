//! What is shown when Nimbus is away or says no.
//!
//! Not here: the banner, which is the page's. Invariant: pages load with nobody to ask.

use tokio::net::{TcpListener, TcpStream};
use ui::{Ui, UiConfig};

use crate::http::{ask, get};
use crate::played::{ID, play_fixture, ui_of};

#[tokio::test]
async fn without_nimbus_answers_say_so_and_pages_load() {
    // A port that was free a moment ago.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ui = ui_of(vec![gone.to_string()]).await;
    for path in ["cluster/summary", "cluster/configuration", "topology/summary", &format!("topology/{ID}")] {
        let (status, error, message) = get(ui.address(), &format!("/api/v1/{path}")).await.refusal();
        assert_eq!((status, error.as_str()), (500, "500 Server Error"), "{path}");
        let begin = format!("cannot reach Nimbus at {gone} (");
        assert!(message.starts_with(&begin) && message.contains("start one by `storm nimbus`"), "{message}");
    }
    for path in ["/", "/topology.html?id=x", "/component.html", "/page.js", "/style.css"] {
        assert_eq!(get(ui.address(), path).await.status, 200, "{path}");
    }
    ui.stop().await;
}

#[tokio::test]
async fn unknown_things_are_404_with_storms_words() {
    let played = play_fixture().await;
    let said = "Unable to fetch topo conf for topo id nope-1-1: there is no topology `nope-1-1`; `storm list` shows those that are";
    for path in ["topology/nope-1-1", "topology/nope-1-1/component/split"] {
        assert_eq!(
            get(played.at(), &format!("/api/v1/{path}")).await.refusal(),
            (404, "404 Not Found".into(), said.into())
        );
    }
    let refused = ask(played.at(), "POST /api/v1/topology/nope-1-1/kill/0", &[]).await.refusal();
    assert_eq!((refused.0, refused.1.as_str()), (404, "404 Not Found"));
    let refused = get(played.at(), &format!("/api/v1/topology/{ID}/component/nope")).await.refusal();
    let said = format!("topology {ID} has no component `nope`; it has count, lines, split");
    assert_eq!(refused, (404, "404 Not Found".into(), said));
    for path in ["supervisor?id=nope", "supervisor?host=nope", "supervisor"] {
        assert_eq!(get(played.at(), &format!("/api/v1/{path}")).await.refusal().0, 404, "{path}");
    }
    for path in ["/api", "/api/v1", "/api/v1/nowhere", "/api/v3/cluster"] {
        let refused = get(played.at(), path).await.refusal();
        assert_eq!(refused, (404, "404 Not Found".into(), "HTTP 404 Not Found".into()), "{path}");
    }
}

#[tokio::test]
async fn a_state_that_does_not_allow_it_is_409() {
    let played = play_fixture().await;
    let refused = ask(played.at(), "POST /api/v1/topology/a.b-2-1700000100/activate", &[]).await.refusal();
    assert_eq!(refused, (409, "409 Conflict".into(), "topology a.b is killed already".into()));
}

#[tokio::test]
async fn a_port_that_is_taken_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let first =
        Ui::start(UiConfig { bind: taken, nimbuses: Vec::new(), configuration: Default::default() }).await.unwrap();
    let second = Ui::start(UiConfig { bind: taken, nimbuses: Vec::new(), configuration: Default::default() }).await;
    let said = second.err().unwrap().to_string();
    assert!(said.starts_with(&format!("the UI cannot listen at {taken}: ")), "{said}");
    assert!(said.ends_with("; set `ui.port` to a free one, or end what listens there"), "{said}");
    // Its port is free again when it has stopped.
    first.stop().await;
    Ui::start(UiConfig { bind: taken, nimbuses: Vec::new(), configuration: Default::default() }).await.unwrap();
}

#[tokio::test]
async fn a_dropped_ui_ends() {
    let ui = ui_of(Vec::new()).await;
    let address = ui.address();
    assert_eq!(get(address, "/").await.status, 200);
    drop(ui);
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
