//! What is special to ZooKeeper: servers that are away, users, roots, other clients.
//!
//! Not here: what every store does. Invariant: a test that disturbs a server has one of its own.

use std::sync::Arc;
use std::time::Duration;

use cluster_state::board::Board;
use cluster_state::paths;
use cluster_state::records::Submissions;
use cluster_state::store::{Op, Session, Store, StoreError, Version};
use cluster_state::zookeeper::{ZooKeeperConfig, open};
use futures_util::FutureExt;
use zookeeper_client::{Acl, Acls, AuthId, Client, Permission};
use zookeeper_server::ZooKeeper;

use crate::homes::{LONGEST_CASE, connected, eventually, shared_server};

fn config(address: &str, root: &str) -> ZooKeeperConfig {
    ZooKeeperConfig {
        servers: vec![address.to_owned()],
        root: root.to_owned(),
        session_timeout: Duration::from_secs(20),
        auth: None,
    }
}

fn digest(user: &str) -> Option<(String, String)> {
    Some(("digest".into(), user.into()))
}

/// Starting waits for a process.
async fn start() -> ZooKeeper {
    tokio::task::spawn_blocking(|| ZooKeeper::start().unwrap()).await.unwrap()
}

/// Ends `case` if it hangs.
async fn bounded(case: impl Future<Output = ()>) {
    tokio::time::timeout(LONGEST_CASE, case).await.expect("the case does not end");
}

/// What the store says of its connection once it tried.
async fn refusal(store: &Arc<dyn Store>) -> StoreError {
    let has_tried = async || match store.read(&paths::leader()).await {
        Err(error) => !error.to_string().contains("has not answered yet"),
        Ok(_) => true,
    };
    eventually("it has tried to connect", has_tried).await;
    store.read(&paths::leader()).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_later_is_found() {
    bounded(async {
        let mut server = start().await;
        server.kill().unwrap();
        let address = server.address();
        let store = open(config(&address, "/storm")).unwrap();
        assert_eq!(store.session(), Session { epoch: 0, connected: false });
        let why = format!("no ZooKeeper answers: {address}: Connection refused (os error 111)");
        assert_eq!(refusal(&store).await, StoreError::Away(why.clone()));
        let refused = store.commit(vec![Op::Create(paths::leader(), b"x".to_vec())]).await;
        assert_eq!(refused, Err(StoreError::Away(why)));
        let mut watch = store.watch(&paths::leader());
        server.restart().unwrap();
        connected(&store).await;
        assert_eq!(store.session(), Session { epoch: 1, connected: true });
        watch.changed().await;
        store.commit(vec![Op::Create(paths::leader(), b"x".to_vec())]).await.unwrap();
        watch.changed().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_survives_a_killed_server() {
    bounded(async {
        let mut server = start().await;
        // The root of all is one too.
        let [store, other] = [(); 2].map(|()| open(config(&server.address(), "/")).unwrap());
        connected(&store).await;
        connected(&other).await;
        let mut watch = store.watch(&paths::submissions());
        store.commit(vec![Op::CreateEphemeral(paths::leader(), b"me".to_vec())]).await.unwrap();
        store.commit(vec![Op::Create(paths::submissions(), b"0".to_vec())]).await.unwrap();
        watch.changed().await;
        server.kill().unwrap();
        let mut session = store.session();
        while session.connected {
            session = store.session_changed(session).await;
        }
        let why = format!("the connection to ZooKeeper at {} was lost", server.address());
        assert_eq!(store.read(&paths::leader()).await, Err(StoreError::Away(why)));
        server.restart().unwrap();
        connected(&store).await;
        connected(&other).await;
        assert_eq!(store.session(), Session { epoch: 1, connected: true });
        watch.changed().await;
        assert_eq!(other.read(&paths::leader()).await.unwrap().unwrap().value, b"me");
        // It watches on the new connection too.
        for version in 0..3 {
            while watch.changed().now_or_never().is_some() {}
            other.commit(vec![Op::Set(paths::submissions(), b"x".to_vec(), Version(version))]).await.unwrap();
            watch.changed().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_session_has_lost_what_the_one_before_had() {
    bounded(async {
        let mut server = start().await;
        let short = ZooKeeperConfig { session_timeout: Duration::from_secs(3), ..config(&server.address(), "/storm") };
        let store = open(short).unwrap();
        connected(&store).await;
        store.commit(vec![Op::CreateEphemeral(paths::leader(), b"me".to_vec())]).await.unwrap();
        server.kill().unwrap();
        let is_given_up = async || match store.read(&paths::leader()).await {
            Err(error) => error.to_string().contains("no ZooKeeper answers"),
            Ok(_) => false,
        };
        eventually("the session is given up", is_given_up).await;
        // A server that was down itself has forgotten no session.
        server.restart().unwrap();
        connected(&store).await;
        let leader = store.read(&paths::leader()).await.unwrap();
        match store.session().epoch {
            1 => assert_eq!(leader.unwrap().value, b"me"),
            2 => assert_eq!(leader, None),
            epoch => panic!("session {epoch}"),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_holds_nobody_for_long() {
    bounded(async {
        let server = start().await;
        let store = open(config(&server.address(), "/storm")).unwrap();
        connected(&store).await;
        let create = |path| vec![Op::Create(path, b"x".to_vec())];
        server.pause().unwrap();
        let hanging = || StoreError::Away(format!("ZooKeeper at {} did not answer within 5 s", server.address()));
        let (read, commit, set) = tokio::join!(
            store.read(&paths::leader()),
            store.commit(create(paths::leader())),
            store.commit(vec![Op::Set(paths::submissions(), b"x".to_vec(), Version(0))]),
        );
        assert_eq!(read, Err(hanging()));
        // It was not sent yet: its folders are looked at first. The other was.
        assert!(matches!(commit, Err(StoreError::Away(_) | StoreError::AnswerLost)), "{commit:?}");
        assert_eq!(set, Err(StoreError::AnswerLost));
        server.resume().unwrap();
        eventually("it answers again", async || store.read(&paths::leader()).await.is_ok()).await;
        store.commit(create(paths::submissions())).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_for_their_user_alone() {
    bounded(async {
        let address = shared_server();
        let root = "/users/storm";
        let store = open(ZooKeeperConfig { auth: digest("storm:right"), ..config(&address, root) }).unwrap();
        connected(&store).await;
        let path = paths::secret(&"a-1-1".parse().unwrap());
        store.commit(vec![Op::Create(path.clone(), b"s".to_vec())]).await.unwrap();
        store.commit(vec![Op::CreateEphemeral(paths::leader(), b"me".to_vec())]).await.unwrap();
        let mut watch = store.watch(&path);
        store.commit(vec![Op::Set(path.clone(), b"t".to_vec(), Version(0))]).await.unwrap();
        watch.changed().await;

        let wrong = open(ZooKeeperConfig { auth: digest("storm:wrong"), ..config(&address, root) }).unwrap();
        let why = format!(
            "ZooKeeper at {address} refuses the user `storm` below /users/storm: set storm.zookeeper.auth.payload as it was \
             when /users/storm was made, or use another storm.zookeeper.root"
        );
        assert_eq!(refusal(&wrong).await, StoreError::Refused(why.clone()));
        assert_eq!(wrong.commit(vec![Op::Delete(path.clone(), None)]).await, Err(StoreError::Refused(why)));
        assert!(!wrong.session().connected);
        let nobody = open(config(&address, root)).unwrap();
        let why = format!(
            "ZooKeeper at {address} lets only a certain user below /users/storm: set storm.zookeeper.auth.scheme and \
             storm.zookeeper.auth.payload, or use another storm.zookeeper.root"
        );
        assert_eq!(refusal(&nobody).await, StoreError::Refused(why));

        let client = Client::connector().with_auth("digest", b"storm:right").connect(&address).await.unwrap();
        for node in ["/users/storm", "/users/storm/secrets", "/users/storm/secrets/a-1-1", "/users/storm/leader"] {
            let (acl, _) = client.get_acl(node).await.unwrap();
            // SHA-1 of `storm:right` in base64.
            let alone = Acl::new(Permission::ALL, AuthId::new("digest", "storm:sDIlILGl8uUtd7DFCiKlybBxn3U="));
            assert_eq!(acl, [alone], "{node}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_read_what_is_there() {
    bounded(async {
        let address = shared_server();
        let store = open(config(&address, "/chroot/of/several/names")).unwrap();
        connected(&store).await;
        let board = Board::new(store.clone(), "nimbus-1/7".into());
        board.commit(board.change().create(paths::submissions(), Submissions { count: 7 })).await.unwrap();
        let client = Client::connect(&address).await.unwrap();
        let (value, _) = client.get_data("/chroot/of/several/names/submissions").await.unwrap();
        assert_eq!(
            String::from_utf8(value).unwrap(),
            "{\n  \"format\": 1,\n  \"writer\": \"nimbus-1/7\",\n  \"number\": 1,\n  \"count\": 7\n}\n"
        );
        let (acl, _) = client.get_acl("/chroot/of/several/names/submissions").await.unwrap();
        assert_eq!(acl, Acls::anyone_all().to_vec());
        // What an operator removes is told.
        let mut watch = store.watch(&paths::submissions());
        client.delete("/chroot/of/several/names/submissions", None).await.unwrap();
        watch.changed().await;
        assert_eq!(board.read::<Submissions>(&paths::submissions()).await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_store_ends_its_session_at_once() {
    bounded(async {
        let address = shared_server();
        let long = ZooKeeperConfig { session_timeout: Duration::from_secs(60), ..config(&address, "/closed") };
        let (store, other) = (open(long).unwrap(), open(config(&address, "/closed")).unwrap());
        connected(&store).await;
        connected(&other).await;
        store.commit(vec![Op::CreateEphemeral(paths::leader(), b"me".to_vec())]).await.unwrap();
        let mut watch = other.watch(&paths::leader());
        drop(store);
        // Long before the session's time is over.
        let gone = async {
            while other.read(&paths::leader()).await.unwrap().is_some() {
                watch.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the session did not end with its store");
    })
    .await;
}
