//! The store of a cluster: Apache ZooKeeper, 3.6 or newer.
//!
//! | task | how many | ends with | waits for |
//! |---|---|---|---|
//! | `keep_session` | one for each store | the store | the session's state, events of its watch, time |
//!
//! A value is a node; the folders above it are container nodes without data, made and removed in the transaction of their first and last
//! value. One recursive watch on the root sees every change; who watches what is known here.
//!
//! Not here: several roots, and ZooKeeper's own commands. Invariants: no call waits longer than a few answer time-outs; once the
//! connection is back, the watch is armed before it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use zookeeper_client::{
    Acls, AddWatchMode, Client, Connector, CreateMode, Error, EventType, MultiWriteError, PersistentWatcher,
    SessionInfo, SessionState, StateWatcher, WatchedEvent,
};

use crate::store::{Conflict, Op, Path, Session, Store, StoreError, Version, Versioned, Watch};
use crate::transaction::{check_lengths, path};
use crate::waiting::{Sessions, Watches, lock};

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Between attempts to get a session: the first, doubled up to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often a transaction is tried whose folders others make and remove meanwhile.
const RACES: usize = 10;

/// Which ZooKeeper.
#[derive(Clone)]
pub struct ZooKeeperConfig {
    /// `host:port` of each server: `storm.zookeeper.servers` with `storm.zookeeper.port`.
    pub servers: Vec<String>,
    /// `storm.zookeeper.root`: `/storm`; made if it is not there, also below a chroot of several names.
    pub root: String,
    /// `storm.zookeeper.session.timeout`.
    pub session_timeout: Duration,
    /// `storm.zookeeper.auth.scheme` and `storm.zookeeper.auth.payload`: with `digest`, all values are for this user alone.
    pub auth: Option<(String, String)>,
}

/// Connects in the background: the store is [away](StoreError::Away) until a server answers. Dropping it ends the session.
///
/// # Errors
/// If the configuration makes no sense.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn open(config: ZooKeeperConfig) -> Result<Arc<dyn Store>, StoreError> {
    check(&config).map_err(StoreError::Refused)?;
    let servers = config.servers.join(",");
    let root = config.root.trim_end_matches('/').to_owned();
    let client = Mutex::new(Err(StoreError::Away(format!("ZooKeeper at {servers} has not answered yet"))));
    let link = Link { config, servers, root, client, sessions: Sessions::default(), watches: Watches::default() };
    let link = Arc::new(link);
    let task = tokio::spawn(keep_session(link.clone())).abort_handle();
    Ok(Arc::new(ZooKeeper { link, task }))
}

fn check(config: &ZooKeeperConfig) -> Result<(), String> {
    if config.servers.is_empty() {
        return Err("storm.zookeeper.servers names no server".into());
    }
    for server in &config.servers {
        let port = server.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains(['/', ',']));
        if !port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0)) {
            return Err(format!("storm.zookeeper.servers has `{server}`, which is not HOST:PORT"));
        }
    }
    let names = config.root.strip_prefix('/').unwrap_or("/");
    if !names.is_empty() && names.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err(format!("storm.zookeeper.root is `{}`, and must be like `/storm` or `/clusters/one`", config.root));
    }
    if !(1..=i32::MAX as u128).contains(&config.session_timeout.as_millis()) {
        return Err(format!("storm.zookeeper.session.timeout cannot be {:?}", config.session_timeout));
    }
    match &config.auth {
        Some((scheme, _)) if scheme != "digest" => {
            Err(format!("storm.zookeeper.auth.scheme is `{scheme}`, and only `digest` is known"))
        }
        Some((_, payload)) if !payload.contains(':') => Err("storm.zookeeper.auth.payload is not USER:PASSWORD".into()),
        _ => Ok(()),
    }
}

struct ZooKeeper {
    link: Arc<Link>,
    task: AbortHandle,
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.task.abort();
        // The session ends with the last of its clients.
        *lock(&self.link.client) = Err(StoreError::Away("this store was closed".into()));
    }
}

struct Link {
    config: ZooKeeperConfig,
    /// As text, for messages and for the client.
    servers: String,
    /// Without `/` at its end.
    root: String,
    /// The session's client, or what calls get meanwhile.
    client: Mutex<Result<Client, StoreError>>,
    sessions: Sessions,
    watches: Watches,
}

/// Gets a session, serves it until it is lost, and gets the next.
async fn keep_session(link: Arc<Link>) {
    let mut pause = PAUSES.0;
    // An outage may be long: each reason is logged once.
    let mut told = None;
    let mut last = None;
    loop {
        match link.connect(&mut last).await {
            Ok(mut connection) => {
                told = None;
                last = Some(connection.client.session().clone());
                info!(servers = link.servers, root = link.root, "connected to ZooKeeper");
                pause = PAUSES.0;
                link.serve(&mut connection).await;
                warn!(servers = link.servers, "the session with ZooKeeper is lost: getting another");
                link.away(StoreError::Away(format!("the session with ZooKeeper at {} is lost", link.servers)));
            }
            Err(error) => {
                if told.as_ref() != Some(&error) {
                    warn!(%error, "no session with ZooKeeper: trying again");
                    told = Some(error.clone());
                }
                link.away(error);
            }
        }
        // Apart from others who lost the same server.
        let share = f64::from(SysRng.try_next_u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        sleep(pause.mul_f64(0.5 + 0.5 * share)).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// A session that is served.
struct Connection {
    client: Client,
    states: StateWatcher,
    /// Sees every change below the root; `None` until it is armed (again).
    watcher: Option<PersistentWatcher>,
}

/// What happened in a session.
enum Event {
    State(SessionState),
    Change(WatchedEvent),
    TryToArm,
}

impl Link {
    /// Calls get `error` from now on.
    fn away(&self, error: StoreError) {
        *lock(&self.client) = Err(error);
        self.sessions.set(Session { connected: false, ..self.sessions.now() });
    }

    /// The session's client, if it is connected.
    fn client(&self) -> Result<Client, StoreError> {
        let client = lock(&self.client).clone()?;
        match client.state() {
            SessionState::SyncConnected => Ok(client),
            _ => Err(StoreError::Away(format!("the connection to ZooKeeper at {} was lost", self.servers))),
        }
    }

    fn node(&self, path: &str) -> String {
        format!("{}/{path}", self.root)
    }

    /// The root, as a node that can be asked for.
    fn root_node(&self) -> &str {
        if self.root.is_empty() { "/" } else { &self.root }
    }

    fn acls(&self) -> Acls<'static> {
        if self.config.auth.is_some() { Acls::creator_all() } else { Acls::anyone_all() }
    }

    /// Takes up the last session, or gets a new one if there is none or the servers have ended it.
    async fn connect(&self, last: &mut Option<SessionInfo>) -> Result<Connection, StoreError> {
        let mut connected = Err(Error::SessionExpired);
        // Given up here, it may still be there: servers that were down themselves wait for it anew.
        if let Some(session) = last {
            connected = self.connector().with_session(session.clone()).connect(&self.servers).await;
        }
        if matches!(connected, Err(Error::SessionExpired)) {
            *last = None;
            connected = self.connector().connect(&self.servers).await;
        }
        let client = match connected {
            Ok(client) => client,
            Err(error @ Error::AuthFailed) => return Err(self.failed(&error)),
            Err(error) => return Err(self.unreachable(&error).await),
        };
        // From before the watch is armed, so that no later state is missed.
        let states = client.state_watcher();
        let mut connection = Connection { client, states, watcher: None };
        within(self.prepare(&connection.client)).await.map_err(|error| self.failed(&error))?;
        self.arm(&mut connection).await?;
        let epoch = self.sessions.now().epoch + u64::from(last.is_none());
        *lock(&self.client) = Ok(connection.client.clone());
        self.sessions.set(Session { epoch, connected: true });
        self.watches.all_changed();
        Ok(connection)
    }

    fn connector(&self) -> Connector {
        let connector = Client::connector().with_session_timeout(self.config.session_timeout).with_fail_eagerly();
        match &self.config.auth {
            Some((scheme, payload)) => connector.with_auth(scheme, payload.as_bytes()),
            None => connector,
        }
    }

    /// Why no server gave a session: the client does not tell.
    async fn unreachable(&self, error: &Error) -> StoreError {
        let mut found = Vec::new();
        for server in &self.config.servers {
            found.push(match timeout(ANSWER, TcpStream::connect(server)).await {
                Ok(Ok(_)) => format!("{server} is reached, but gives no session ({error})"),
                Ok(Err(error)) => format!("{server}: {error}"),
                Err(_) => format!("{server} cannot be reached within {} s", ANSWER.as_secs()),
            });
        }
        StoreError::Away(format!("no ZooKeeper answers: {}", found.join("; ")))
    }

    /// Makes the root, and sees whether we may use it.
    async fn prepare(&self, client: &Client) -> Result<(), Error> {
        if client.check_stat(self.root_node()).await?.is_none() {
            client.mkdir(self.root_node(), &CreateMode::Persistent.with_acls(self.acls())).await?;
        }
        client.list_children(self.root_node()).await?;
        Ok(())
    }

    /// Arms the watch, and lets this server catch up with what other sessions of this store were answered.
    async fn arm(&self, connection: &mut Connection) -> Result<(), StoreError> {
        let client = &connection.client;
        let arming = async {
            let watcher = client.watch(self.root_node(), AddWatchMode::PersistentRecursive).await?;
            client.sync(self.root_node()).await?;
            Ok(watcher)
        };
        let watcher = within(arming).await.map_err(|error| self.failed(&error))?;
        connection.watcher = Some(watcher);
        Ok(())
    }

    /// Follows a session until it is lost for good.
    async fn serve(&self, connection: &mut Connection) {
        let mut is_armed = true;
        loop {
            let change = async {
                match &mut connection.watcher {
                    Some(watcher) => watcher.changed().await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                biased;
                state = connection.states.changed() => Event::State(state),
                change = change => Event::Change(change),
                () = sleep(PAUSES.0), if !is_armed => Event::TryToArm,
            };
            let state = match event {
                Event::Change(change) if change.event_type == EventType::Session => {
                    if change.session_state.is_terminated() {
                        // It must not be asked again after its last word.
                        connection.watcher = None;
                    }
                    continue;
                }
                Event::Change(change) => {
                    self.tell(&change.path);
                    continue;
                }
                Event::TryToArm => connection.client.state(),
                Event::State(state) => state,
            };
            is_armed = false;
            match state {
                // The client does not arm recursive watches again on a new connection.
                SessionState::SyncConnected => match self.arm(connection).await {
                    Ok(()) => {
                        is_armed = true;
                        *lock(&self.client) = Ok(connection.client.clone());
                        self.sessions.set(Session { connected: true, ..self.sessions.now() });
                        self.watches.all_changed();
                    }
                    Err(error) => warn!(%error, "the watch on ZooKeeper is not armed: trying again"),
                },
                SessionState::Disconnected | SessionState::ConnectedReadOnly => {
                    warn!(servers = self.servers, "the connection to ZooKeeper is lost: connecting again");
                    self.away(StoreError::Away(format!("the connection to ZooKeeper at {} was lost", self.servers)));
                    is_armed = true;
                }
                SessionState::Expired | SessionState::AuthFailed | SessionState::Closed => return,
            }
        }
    }

    /// Tells who watches a node.
    fn tell(&self, node: &str) {
        match node.strip_prefix(&self.root).and_then(|path| path.strip_prefix('/')) {
            Some(path) if !path.is_empty() => self.watches.changed(path),
            _ => self.watches.all_changed(),
        }
    }

    /// What a call that changed nothing failed with.
    fn failed(&self, error: &Error) -> StoreError {
        let (servers, root) = (&self.servers, self.root_node());
        let user = self.config.auth.as_ref().and_then(|(_, payload)| payload.split(':').next());
        match (error, user) {
            (Error::NoAuth | Error::AuthFailed | Error::InvalidAcl, Some(user)) => StoreError::Refused(format!(
                "ZooKeeper at {servers} refuses the user `{user}` below {root}: set storm.zookeeper.auth.payload as it was \
                 when {root} was made, or use another storm.zookeeper.root"
            )),
            (Error::NoAuth | Error::AuthFailed | Error::InvalidAcl, None) => StoreError::Refused(format!(
                "ZooKeeper at {servers} lets only a certain user below {root}: set storm.zookeeper.auth.scheme and \
                 storm.zookeeper.auth.payload, or use another storm.zookeeper.root"
            )),
            (Error::Unimplemented, _) => {
                StoreError::Refused(format!("ZooKeeper at {servers} is too old: it must be 3.6 or newer"))
            }
            (Error::Timeout, _) => {
                StoreError::Away(format!("ZooKeeper at {servers} did not answer within {} s", ANSWER.as_secs()))
            }
            (error, _) => StoreError::Away(format!("ZooKeeper at {servers}: {error}")),
        }
    }

    async fn read(&self, path: &Path) -> Result<Option<Versioned>, StoreError> {
        let client = self.client()?;
        match within(client.get_data(&self.node(path.as_str()))).await {
            // A folder: no value is empty.
            Ok((value, _)) if value.is_empty() => Ok(None),
            Ok((value, stat)) => Ok(Some(Versioned { value, version: version(stat.version) })),
            Err(Error::NoNode) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn children(&self, path: &Path) -> Result<Vec<String>, StoreError> {
        let client = self.client()?;
        match within(client.list_children(&self.node(path.as_str()))).await {
            Ok(mut children) => {
                children.sort();
                Ok(children)
            }
            Err(Error::NoNode) => Ok(Vec::new()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        check_lengths(&ops)?;
        let client = self.client()?;
        for _ in 0..RACES {
            let folders = self.folders(&client, &ops).await?;
            match self.try_commit(&client, &ops, &folders).await {
                Ok(()) => return Ok(()),
                Err(Failure::Races) => {}
                Err(Failure::Store(error)) => return Err(error),
            }
        }
        Err(StoreError::Away(format!(
            "ZooKeeper at {}: the folders of a transaction were changed by others {RACES} times, or {} is gone",
            self.servers,
            self.root_node()
        )))
    }

    /// Which folders `ops` need, and which they leave empty.
    async fn folders(&self, client: &Client, ops: &[Op]) -> Result<Folders, StoreError> {
        let moving = ops.iter().filter(|op| !matches!(op, Op::Check(..) | Op::Set(..)));
        let names: BTreeSet<&str> = moving.flat_map(|op| ancestors(path(op).as_str())).collect();
        let looks = names.iter().map(|name| {
            let node = self.node(name);
            async move { client.check_stat(&node).await }
        });
        let stats = within(try_join_all(looks)).await.map_err(|error| self.failed(&error))?;
        let children = stats.into_iter().map(|stat| stat.map(|stat| i64::from(stat.num_children)));
        Ok(Folders::of(ops, names.into_iter().map(str::to_owned).zip(children).collect()))
    }

    async fn try_commit(&self, client: &Client, ops: &[Op], folders: &Folders) -> Result<(), Failure> {
        let mut writer = client.new_multi_writer();
        let mut add = || -> Result<(), Error> {
            for folder in &folders.made {
                writer.add_create(&self.node(folder), b"", &CreateMode::Container.with_acls(self.acls()))?;
            }
            for op in ops {
                let node = self.node(path(op).as_str());
                let create = |mode: CreateMode| mode.with_acls(self.acls());
                match op {
                    Op::Check(_, None) => writer.add_check_version(&node, -1)?,
                    Op::Check(_, Some(version)) => writer.add_check_version(&node, number(*version))?,
                    Op::Create(_, value) => writer.add_create(&node, value, &create(CreateMode::Persistent))?,
                    Op::CreateEphemeral(_, value) => writer.add_create(&node, value, &create(CreateMode::Ephemeral))?,
                    Op::Set(_, value, version) => writer.add_set_data(&node, value, Some(number(*version)))?,
                    Op::Delete(_, version) => writer.add_delete(&node, version.map(number))?,
                }
            }
            for folder in &folders.emptied {
                writer.add_delete(&self.node(folder), None)?;
            }
            Ok(())
        };
        add().map_err(|error| Failure::Store(self.failed(&error)))?;
        let (index, error) = match timeout(ANSWER, writer.commit()).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(MultiWriteError::OperationFailed { index, source })) => (index, source),
            Ok(Err(MultiWriteError::RequestFailed { source })) => return Err(Failure::Store(self.lost(&source))),
            Err(_) => return Err(Failure::Store(StoreError::AnswerLost)),
        };
        let Some(op) = index.checked_sub(folders.made.len()).and_then(|index| ops.get(index)) else {
            return Err(match error {
                Error::NoNode | Error::NodeExists | Error::NotEmpty => Failure::Races,
                error => Failure::Store(self.failed(&error)),
            });
        };
        let conflict = match (error, op) {
            // Its folder was removed since we looked.
            (Error::NoNode, Op::Create(..) | Op::CreateEphemeral(..)) => return Err(Failure::Races),
            (Error::NodeExists, _) => Conflict::Exists,
            (Error::NoNode, _) => Conflict::Missing,
            (Error::BadVersion, _) => Conflict::Changed,
            (error, _) => return Err(Failure::Store(self.failed(&error))),
        };
        Err(Failure::Store(StoreError::Conflict { path: path(op).clone(), conflict }))
    }

    /// What a transaction failed with as a whole: unless the server said no, it may have happened.
    fn lost(&self, error: &Error) -> StoreError {
        match error {
            Error::NoAuth
            | Error::InvalidAcl
            | Error::Unimplemented
            | Error::MarshallingError
            | Error::QuotaExceeded
            | Error::Throttled
            | Error::NotReadOnly
            | Error::BadArguments(_) => self.failed(error),
            _ => StoreError::AnswerLost,
        }
    }
}

enum Failure {
    /// Somebody made or removed a folder meanwhile; nothing was changed.
    Races,
    Store(StoreError),
}

/// What a transaction does to folders.
#[derive(Debug, PartialEq, Eq)]
struct Folders {
    /// To be made before its ops, upper ones first.
    made: Vec<String>,
    /// To be removed after its ops, lower ones first.
    emptied: Vec<String>,
}

impl Folders {
    /// `children` counts what lies in each folder above a path that is made or removed; `None`: it is not there.
    fn of(ops: &[Op], children: BTreeMap<String, Option<i64>>) -> Self {
        let made: Vec<String> =
            children.iter().filter(|(_, count)| count.is_none()).map(|(name, _)| name.clone()).collect();
        let mut counts: BTreeMap<&str, i64> =
            children.iter().map(|(name, count)| (name.as_str(), count.unwrap_or(0))).collect();
        let mut add = |path: &str, change: i64| {
            if let Some(count) = parent(path).and_then(|folder| counts.get_mut(folder)) {
                *count += change;
            }
        };
        made.iter().for_each(|folder| add(folder, 1));
        for op in ops {
            match op {
                Op::Create(path, _) | Op::CreateEphemeral(path, _) => add(path.as_str(), 1),
                Op::Delete(path, _) => add(path.as_str(), -1),
                Op::Check(..) | Op::Set(..) => {}
            }
        }
        // Longer names are below shorter ones, and come later.
        let mut emptied = Vec::new();
        for folder in children.keys().rev() {
            if counts.get(folder.as_str()).is_some_and(|count| *count <= 0) {
                if let Some(count) = parent(folder).and_then(|above| counts.get_mut(above)) {
                    *count -= 1;
                }
                emptied.push(folder.clone());
            }
        }
        Folders { made, emptied }
    }
}

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(folder, _)| folder)
}

/// The folders above a path, lower ones first.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(parent(path), |folder| parent(folder))
}

/// ZooKeeper counts in 32 bits, and starts again below zero.
fn version(number: i32) -> Version {
    Version(number.cast_unsigned().into())
}

fn number(version: Version) -> i32 {
    // None of ours is longer.
    u32::try_from(version.0).unwrap_or(u32::MAX - 1).cast_signed()
}

/// Bounds a wait.
async fn within<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(ANSWER, answer).await.unwrap_or(Err(Error::Timeout))
}

impl Store for ZooKeeper {
    fn read(&self, path: &Path) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        let path = path.clone();
        async move { self.link.read(&path).await }.boxed()
    }

    fn children(&self, path: &Path) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        let path = path.clone();
        async move { self.link.children(&path).await }.boxed()
    }

    fn commit(&self, ops: Vec<Op>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.link.commit(ops).boxed()
    }

    fn watch(&self, path: &Path) -> Box<dyn Watch> {
        self.link.watches.watch(path)
    }

    fn session(&self) -> Session {
        self.link.sessions.now()
    }

    fn session_changed(&self, seen: Session) -> BoxFuture<'_, Session> {
        self.link.sessions.changed(seen).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(ops: &[Op], children: &[(&str, Option<i64>)]) -> (Vec<String>, Vec<String>) {
        let children = children.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let Folders { made, emptied } = Folders::of(ops, children);
        (made, emptied)
    }

    fn create(path: &str) -> Op {
        Op::Create(Path::new(path), Vec::new())
    }

    fn delete(path: &str) -> Op {
        Op::Delete(Path::new(path), None)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn missing_folders_are_made_from_above() {
        let found = folders(&[create("a/b/c")], &[("a", None), ("a/b", None)]);
        assert_eq!(found, (names(&["a", "a/b"]), names(&[])));
    }

    #[test]
    fn emptied_folders_are_removed_from_below() {
        let found = folders(&[delete("a/b/c"), delete("a/b/d")], &[("a", Some(1)), ("a/b", Some(2))]);
        assert_eq!(found, (names(&[]), names(&["a/b", "a"])));
        let found = folders(&[delete("a/b/c")], &[("a", Some(2)), ("a/b", Some(1))]);
        assert_eq!(found, (names(&[]), names(&["a/b"])));
    }

    #[test]
    fn a_folder_that_keeps_something_stays() {
        let found = folders(&[delete("a/c"), create("a/d")], &[("a", Some(1))]);
        assert_eq!(found, (names(&[]), names(&[])));
    }

    #[test]
    fn a_configuration_without_sense_is_refused() {
        let good = ZooKeeperConfig {
            servers: vec!["one:2181".into(), "[::1]:2181".into()],
            root: "/clusters/one".into(),
            session_timeout: Duration::from_secs(20),
            auth: Some(("digest".into(), "storm:secret".into())),
        };
        assert_eq!(check(&good), Ok(()));
        assert_eq!(check(&ZooKeeperConfig { root: "/".into(), auth: None, ..good.clone() }), Ok(()));
        let refused = |config: ZooKeeperConfig| check(&config).unwrap_err();
        assert_eq!(
            refused(ZooKeeperConfig { servers: Vec::new(), ..good.clone() }),
            "storm.zookeeper.servers names no server"
        );
        for server in ["one", "one:", "one:0", ":2181", "one:2181/x", "one,two:2181", "one:70000"] {
            assert_eq!(
                refused(ZooKeeperConfig { servers: vec![server.into()], ..good.clone() }),
                format!("storm.zookeeper.servers has `{server}`, which is not HOST:PORT")
            );
        }
        for root in ["", "storm", "/storm/", "//storm", "/a/../b"] {
            assert_eq!(
                refused(ZooKeeperConfig { root: root.into(), ..good.clone() }),
                format!("storm.zookeeper.root is `{root}`, and must be like `/storm` or `/clusters/one`")
            );
        }
        assert_eq!(
            refused(ZooKeeperConfig { session_timeout: Duration::ZERO, ..good.clone() }),
            "storm.zookeeper.session.timeout cannot be 0ns"
        );
        assert_eq!(
            refused(ZooKeeperConfig { auth: Some(("sasl".into(), "a:b".into())), ..good.clone() }),
            "storm.zookeeper.auth.scheme is `sasl`, and only `digest` is known"
        );
        assert_eq!(
            refused(ZooKeeperConfig { auth: Some(("digest".into(), "secret".into())), ..good }),
            "storm.zookeeper.auth.payload is not USER:PASSWORD"
        );
    }
}
