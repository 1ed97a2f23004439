//! Links over pipes and over TCP: what breaks, what is refused, what is never lost.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use seam::Seam;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use topology_api::anchor::{Generation, LedgerId, Root, Slot};
use topology_api::fail::{FailKind, FailReason};
use topology_api::ids::TaskId;
use worker::transfer::connection::{Deliver, LinkHandle, Links, Settings};
use worker::transfer::frame::{self, AckRecord, Data, End, Record};
use worker::transfer::handshake::{self, Dialer, Identity, Refusal};
use worker::transfer::network::{Connection, Connector};
use worker::transfer::permits::Amount;
use worker::transfer::pipe::Pipes;
use worker::transfer::tcp::Tcp;
use worker_api::ids::{Incarnation, Life, PlanVersion, WorkerIndex};
use worker_api::secret::Secret;

const A: WorkerIndex = WorkerIndex(0);
const B: WorkerIndex = WorkerIndex(1);
const TASK: TaskId = TaskId(7);
const PLAN: PlanVersion = PlanVersion(1);

/// What a worker was told, in order.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Data(WorkerIndex, Data),
    End(WorkerIndex, End),
    Acks(WorkerIndex, Vec<AckRecord>),
    Fails(WorkerIndex, Vec<(Root, FailReason)>),
    Held(WorkerIndex, Vec<Root>),
    Lost(WorkerIndex, WorkerIndex, Incarnation),
    PeerLost(WorkerIndex, Incarnation),
    Connected(WorkerIndex, Incarnation),
    NewerPlan(WorkerIndex, PlanVersion),
}

#[derive(Default)]
struct Ear {
    told: Mutex<Vec<Told>>,
    news: tokio::sync::Notify,
    /// Consumes each batch at once, over this link.
    consumes: Mutex<Option<LinkHandle>>,
    /// Gives up the peer of this link at the first batch.
    gives_up: Mutex<Option<LinkHandle>>,
}

impl Ear {
    fn hear(&self, told: Told) {
        self.told.lock().unwrap().push(told);
        self.news.notify_waiters();
    }

    fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until what was told fulfils a condition.
    async fn until(&self, condition: impl Fn(&[Told]) -> bool) {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if condition(&self.told.lock().unwrap()) {
                return;
            }
            news.await;
        }
    }

    fn payloads(&self) -> Vec<Bytes> {
        let payload = |told| match told {
            Told::Data(_, data) => Some(data.payload),
            _ => None,
        };
        self.told().into_iter().filter_map(payload).collect()
    }

    fn peer_lost(&self) -> Vec<Told> {
        self.told().into_iter().filter(|told| matches!(told, Told::PeerLost(..))).collect()
    }
}

impl Deliver for Ear {
    fn data(&self, from: WorkerIndex, data: Data) {
        if let Some(link) = &*self.consumes.lock().unwrap() {
            data.targets.iter().for_each(|task| link.consumed(*task, data.tuples.into(), data.payload.len() as u64));
        }
        let gives_up = self.gives_up.lock().unwrap().take();
        if let Some(link) = gives_up {
            link.give_up(Life { plan: PLAN, incarnation: Incarnation(1) });
        }
        self.hear(Told::Data(from, data));
    }
    fn end(&self, from: WorkerIndex, end: End) {
        self.hear(Told::End(from, end));
    }
    fn acks(&self, from: WorkerIndex, acks: Vec<AckRecord>) {
        self.hear(Told::Acks(from, acks));
    }
    fn fails(&self, from: WorkerIndex, fails: Vec<(Root, FailReason)>) {
        self.hear(Told::Fails(from, fails));
    }
    fn held(&self, from: WorkerIndex, roots: Vec<Root>) {
        self.hear(Told::Held(from, roots));
    }
    fn lost(&self, by: WorkerIndex, worker: WorkerIndex, incarnation: Incarnation) {
        self.hear(Told::Lost(by, worker, incarnation));
    }
    fn peer_lost(&self, worker: WorkerIndex, incarnation: Incarnation) {
        self.hear(Told::PeerLost(worker, incarnation));
    }
    fn connected(&self, worker: WorkerIndex, life: Life) {
        self.hear(Told::Connected(worker, life.incarnation));
    }
    fn refused(&self, worker: WorkerIndex, life: Life, why: Refusal) {
        if why == Refusal::PeerIsNewer {
            self.hear(Told::NewerPlan(worker, life.plan));
        }
    }
}

fn settings(worker: WorkerIndex, incarnation: u64, secret: &[u8; 5]) -> Settings {
    let life = Life { plan: PLAN, incarnation: Incarnation(incarnation) };
    let identity = Identity {
        topology: "words-1".to_owned(),
        secret: Secret::new(std::array::from_fn(|at| secret[at % secret.len()])),
        worker,
        life,
    };
    Settings { identity, tasks: vec![TASK], window: Amount { tuples: 64, bytes: 1 << 20 } }
}

/// A worker that has nothing but links.
struct Worker {
    ear: Arc<Ear>,
    links: Links,
}

impl Worker {
    fn start(settings: Settings, connector: Arc<dyn Connector>, seam: &Seam) -> Self {
        let ear = Arc::<Ear>::default();
        let deliver: Weak<dyn Deliver> = Arc::downgrade(&(ear.clone() as Arc<dyn Deliver>));
        Worker { ear, links: Links::start(seam.clone(), settings, connector, deliver) }
    }

    /// The link to `peer`, whose batches are consumed as they come.
    fn consuming(&self, peer: WorkerIndex) -> LinkHandle {
        let link = self.links.peer(peer, PLAN);
        *self.ear.consumes.lock().unwrap() = Some(link.clone());
        link
    }
}

fn root(slot: u32) -> Root {
    Root::new(LedgerId(3), Slot(slot), Generation(5))
}

fn data(number: u64) -> Data {
    Data {
        source: TaskId(1),
        stream: 0,
        targets: vec![TASK],
        tuples: 1,
        payload: Bytes::copy_from_slice(&number.to_le_bytes()),
    }
}

async fn send(link: &LinkHandle, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        link.room(TASK).await;
        link.send_data(data(number)).unwrap();
    }
}

fn numbers(count: u64) -> Vec<Bytes> {
    (0..count).map(|number| data(number).payload).collect()
}

/// Two workers over pipes, under one seed.
struct Pair {
    seam: Seam,
    began: tokio::time::Instant,
    pipes: Pipes,
    a: Worker,
    b: Worker,
}

impl Pair {
    fn new() -> Self {
        let (seam, pipes) = (Seam::seeded(1), Pipes::new());
        let a = Worker::start(settings(A, 1, b"right"), Arc::new(pipes.connector(A)), &seam);
        let b = Worker::start(settings(B, 1, b"right"), Arc::new(pipes.connector(B)), &seam);
        Pair { began: seam.now(), seam, pipes, a, b }
    }

    /// Worker B dies, and a later life of it starts.
    fn restart_b(&mut self, incarnation: u64) {
        let connector = self.pipes.connector(B);
        self.b = Worker::start(settings(B, incarnation, b"right"), Arc::new(connector), &self.seam);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_loses_and_doubles_nothing() {
    let pair = Pair::new();
    let (to_b, _to_a) = (pair.a.links.peer(B, PLAN), pair.b.consuming(A));
    for round in 0..20 {
        send(&to_b, round * 100..(round + 1) * 100).await;
        pair.pipes.cut(A, B);
    }
    to_b.settled().await;
    assert_eq!(pair.b.ear.payloads(), numbers(2000));
    assert_eq!(pair.b.ear.peer_lost(), []);
    assert_eq!(pair.a.ear.told(), [Told::Connected(B, Incarnation(1))]);
    let statistics = to_b.report();
    assert!(statistics.reconnects >= 19 && statistics.frames_resent > 0, "{statistics:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_peer_is_lost_once_and_begins_anew() {
    let mut pair = Pair::new();
    let to_b = pair.a.links.peer(B, PLAN);
    let _to_a = pair.b.consuming(A);
    send(&to_b, 0..10).await;
    to_b.settled().await;
    let end = End { source: TaskId(1), stream: 0, targets: vec![TASK] };
    to_b.end(end.clone()).unwrap();

    pair.restart_b(2);
    let _to_a = pair.b.consuming(A);
    pair.a.ear.until(|told| told.contains(&Told::Connected(B, Incarnation(2)))).await;
    assert_eq!(to_b.peer_incarnation(), Some(Incarnation(2)));
    send(&to_b, 10..12).await;
    to_b.settled().await;
    let expected =
        [Told::Connected(A, Incarnation(1)), Told::End(A, end), Told::Data(A, data(10)), Told::Data(A, data(11))];
    assert_eq!(pair.b.ear.told(), expected);
    let expected =
        [Told::Connected(B, Incarnation(1)), Told::PeerLost(B, Incarnation(1)), Told::Connected(B, Incarnation(2))];
    assert_eq!(pair.a.ear.told(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_given_up_is_lost_before_its_successor_comes() {
    let mut pair = Pair::new();
    let (to_b, _to_a) = (pair.a.links.peer(B, PLAN), pair.b.links.peer(A, PLAN));
    to_b.room(TASK).await;
    pair.pipes.kill(B);
    to_b.send_data(data(1)).unwrap();
    to_b.give_up(Life { plan: PLAN, incarnation: Incarnation(1) });
    assert_eq!(pair.a.ear.peer_lost(), [Told::PeerLost(B, Incarnation(1))]);
    assert_eq!((to_b.is_connected(), to_b.peer_incarnation(), to_b.has_room(TASK)), (false, None, false));

    pair.restart_b(2);
    let _to_a = pair.b.consuming(A);
    send(&to_b, [2]).await;
    to_b.settled().await;
    assert_eq!(pair.b.ear.payloads(), [data(2).payload]);
    assert_eq!(pair.a.ear.peer_lost(), [Told::PeerLost(B, Incarnation(1))]);
}

#[tokio::test(start_paused = true)]
async fn an_older_incarnation_is_refused_while_the_later_one_lives() {
    let pair = Pair::new();
    let (to_b, _to_a) = (pair.a.links.peer(B, PLAN), pair.b.consuming(A));
    to_b.room(TASK).await;
    // A machine that was cut off still runs the life before, and now reaches worker A.
    let zombie = Worker::start(settings(B, 0, b"right"), Arc::new(Zombie(pair.pipes.clone(), dialing())), &pair.seam);
    let to_a = zombie.links.peer(A, PLAN);
    pair.seam.sleep(Duration::from_secs(5)).await;
    assert!(!to_a.is_connected());
    assert_eq!(zombie.ear.told(), []);
    send(&to_b, 0..10).await;
    to_b.settled().await;
    assert_eq!(pair.b.ear.payloads(), numbers(10));
}

/// Dials as a worker of another number would, so that nobody is killed by it, and is never called.
struct Zombie(Pipes, WorkerIndex);

fn dialing() -> WorkerIndex {
    WorkerIndex(99)
}

impl Connector for Zombie {
    fn dial(&self, to: WorkerIndex) -> BoxFuture<'_, std::io::Result<Connection>> {
        let connector = self.0.connector(self.1);
        Box::pin(async move { connector.dial(to).await })
    }

    fn accept(&self) -> BoxFuture<'_, std::io::Result<Connection>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn control_needs_no_credit_and_lost_stays_behind_acks() {
    let pair = Pair::new();
    let (to_b, to_a) = (pair.a.links.peer(B, PLAN), pair.b.links.peer(A, PLAN));
    // Nobody consumes at B: the window fills.
    to_b.room(TASK).await;
    let mut count = 0;
    while to_b.has_room(TASK) {
        to_b.send_data(data(count)).unwrap();
        count += 1;
    }
    assert_eq!(count, 64);
    let mut acks = vec![AckRecord { root: root(2), edge: 5, mask: 0 }, AckRecord { root: root(1), edge: 0, mask: 4 }];
    to_b.lost(WorkerIndex(5), Incarnation(3));
    to_b.acks(&mut acks);
    to_b.fail(root(3), FailReason::new(FailKind::Failed, "count", "no"));
    to_b.held([root(4)]);
    to_b.settled().await;
    let told: Vec<Told> =
        pair.b.ear.told().into_iter().filter(|told| !matches!(told, Told::Data(..) | Told::Connected(..))).collect();
    let expected = [
        Told::Acks(
            A,
            vec![AckRecord { root: root(1), edge: 0, mask: 4 }, AckRecord { root: root(2), edge: 5, mask: 0 }],
        ),
        Told::Fails(A, vec![(root(3), FailReason::new(FailKind::Failed, "count", "no"))]),
        Told::Held(A, vec![root(4)]),
        Told::Lost(A, WorkerIndex(5), Incarnation(3)),
    ];
    assert_eq!(told, expected);
    // Consuming makes room again, and wakes who waits for it.
    let waits = pair.seam.spawn({
        let to_b = to_b.clone();
        async move { to_b.room(TASK).await }
    });
    to_a.consumed(TASK, 32, 32 * 8);
    waits.join().await.expect("room");
}

#[tokio::test(start_paused = true)]
async fn a_lone_batch_larger_than_the_window_passes() {
    let pair = Pair::new();
    let (to_b, _to_a) = (pair.a.links.peer(B, PLAN), pair.b.consuming(A));
    let large = Data { payload: vec![7; 20 << 20].into(), ..data(0) };
    for _ in 0..2 {
        to_b.room(TASK).await;
        to_b.send_data(large.clone()).unwrap();
    }
    to_b.settled().await;
    assert_eq!(pair.b.ear.payloads(), [large.payload.clone(), large.payload]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_cannot_be_reached_is_dialled_until_it_can() {
    let pair = Pair::new();
    pair.pipes.refuse(A, B, true);
    let (to_b, _to_a) = (pair.a.links.peer(B, PLAN), pair.b.consuming(A));
    pair.seam.sleep(Duration::from_secs(60)).await;
    assert!(!to_b.is_connected());
    pair.pipes.refuse(A, B, false);
    send(&to_b, 0..10).await;
    to_b.settled().await;
    assert_eq!(pair.b.ear.payloads(), numbers(10));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_connects_nobody() {
    let (seam, pipes) = (Seam::seeded(1), Pipes::new());
    let a = Worker::start(settings(A, 1, b"right"), Arc::new(pipes.connector(A)), &seam);
    let b = Worker::start(settings(B, 1, b"wrong"), Arc::new(pipes.connector(B)), &seam);
    let (to_b, to_a) = (a.links.peer(B, PLAN), b.links.peer(A, PLAN));
    seam.sleep(Duration::from_secs(5)).await;
    assert!(!to_b.is_connected() && !to_a.is_connected());
    assert_eq!((a.ear.told(), b.ear.told()), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_peer_of_a_newer_plan_connects_once_the_plan_is_known() {
    let (seam, pipes) = (Seam::seeded(1), Pipes::new());
    let a = Worker::start(settings(A, 1, b"right"), Arc::new(pipes.connector(A)), &seam);
    let mut newer = settings(B, 1, b"right");
    newer.identity.life.plan = PlanVersion(2);
    let b = Worker::start(newer, Arc::new(pipes.connector(B)), &seam);
    let (to_b, _to_a) = (a.links.peer(B, PLAN), b.links.peer(A, PLAN));
    a.ear.until(|told| told.contains(&Told::NewerPlan(B, PlanVersion(2)))).await;
    assert!(!to_b.is_connected());
    a.links.peer(B, PlanVersion(2));
    a.ear.until(|told| told.contains(&Told::Connected(B, Incarnation(1)))).await;
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_or_too_little_is_dropped_before_the_handshake() {
    let pair = Pair::new();
    let (to_b, _to_a) = (pair.a.links.peer(B, PLAN), pair.b.consuming(A));
    to_b.room(TASK).await;
    let stranger = pair.pipes.connector(dialing());
    let mut silent = stranger.dial(A).await.unwrap();
    let mut slow = stranger.dial(A).await.unwrap();
    let drips = pair.seam.spawn({
        let seam = pair.seam.clone();
        async move {
            // A hello that would take a minute.
            while slow.writer.write_all(&[60]).await.is_ok() {
                seam.sleep(Duration::from_secs(1)).await;
            }
            seam.now()
        }
    });
    let began = pair.seam.now();
    let mut byte = [0];
    assert_eq!(silent.reader.read(&mut byte).await.unwrap(), 0, "closed without a word");
    assert_eq!((pair.seam.now() - began).as_secs(), 5);
    assert!((drips.join().await.expect("it ends") - began).as_secs() <= 6);
    send(&to_b, 0..10).await;
    to_b.settled().await;
    assert_eq!(pair.b.ear.payloads(), numbers(10));
    assert_eq!(to_b.report().reconnects, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_only_keeps_alive_stays() {
    let pair = Pair::new();
    let (to_b, to_a) = (pair.a.links.peer(B, PLAN), pair.b.links.peer(A, PLAN));
    to_b.room(TASK).await;
    pair.seam.sleep(Duration::from_secs(3600)).await;
    assert!(to_b.is_connected() && to_a.is_connected());
    assert_eq!((to_b.report().reconnects, to_a.report().reconnects), (0, 0));
}

/// One run under a seed, with breaks and a restart; what worker A and worker B's lives were told, and how often.
async fn seeded_run() -> String {
    let mut pair = Pair::new();
    let to_b = pair.a.links.peer(B, PLAN);
    let mut log = String::new();
    let mut to_a = pair.b.consuming(A);
    for incarnation in 2..5 {
        for round in 0..5 {
            let both =
                pair.seam.spawn({
                    let to_a = to_a.clone();
                    async move {
                        to_a.acks(&mut (0..50).map(|slot| AckRecord { root: root(slot), edge: 9, mask: 1 }).collect())
                    }
                });
            send(&to_b, round * 100..(round + 1) * 100).await;
            pair.pipes.cut(A, B);
            both.join().await.expect("it ends");
        }
        to_b.settled().await;
        log += &format!("{:?}\n{:?}\n{:?}\n", pair.b.ear.told(), to_b.report(), pair.seam.now() - pair.began);
        pair.restart_b(incarnation);
        to_a = pair.b.consuming(A);
        pair.a.ear.until(|told| told.contains(&Told::PeerLost(B, Incarnation(incarnation - 1)))).await;
    }
    log + &format!("{:?}", pair.a.ear.told())
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(seeded_run())
    };
    let first = run();
    assert!(first.len() > 10_000);
    assert_eq!(first, run());
}

/// Two workers over TCP; `a`'s address is given back.
async fn over_tcp() -> (Worker, Worker, SocketAddr) {
    let seam = Seam::system();
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (tcp_a, tcp_b) = (Tcp::bind(loopback).await.unwrap(), Tcp::bind(loopback).await.unwrap());
    let address = tcp_a.local_addr().unwrap();
    tcp_b.set_peer(A, address.to_string());
    let a = Worker::start(settings(A, 1, b"right"), Arc::new(tcp_a), &seam);
    let b = Worker::start(settings(B, 1, b"right"), Arc::new(tcp_b), &seam);
    (a, b, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_talk_over_tcp() {
    let (a, b, _) = over_tcp().await;
    let (to_b, to_a) = (a.consuming(B), b.consuming(A));
    let there = tokio::join!(send(&to_b, 0..5000), send(&to_a, 0..5000));
    assert_eq!(there, ((), ()));
    tokio::join!(to_b.settled(), to_a.settled());
    assert_eq!(b.ear.payloads(), numbers(5000));
    assert_eq!(a.ear.payloads(), numbers(5000));
}

#[tokio::test]
async fn garbage_on_the_port_closes_that_connection_only() {
    let (a, b, address) = over_tcp().await;
    let (to_b, _to_a) = (a.links.peer(B, PLAN), b.consuming(A));
    to_b.room(TASK).await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 64], &[1; 300]] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        // Closed, or reset as not all was read.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.len() < 600, "{answer:?}");
    }
    send(&to_b, 0..10).await;
    to_b.settled().await;
    assert_eq!(b.ear.payloads(), numbers(10));
    assert_eq!(to_b.report().reconnects, 0);
}

/// Shakes hands with worker A as worker B would, and has the bare connection.
async fn proved(connector: &dyn Connector) -> Connection {
    let mut connection = connector.dial(A).await.unwrap();
    let (mut dialer, first) = Dialer::new(settings(B, 1, b"right").identity, A, [1; 32]);
    connection.writer.write_all(&first).await.unwrap();
    loop {
        let mut length = [0; 2];
        connection.reader.read_exact(&mut length).await.unwrap();
        let mut body = vec![0; handshake::body_len(length).unwrap()];
        connection.reader.read_exact(&mut body).await.unwrap();
        let mut known = |_, _| Ok(0);
        let reply = dialer.receive(&body, &mut known).unwrap();
        connection.writer.write_all(&reply.send).await.unwrap();
        if reply.agreed.is_some() {
            return connection;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_frame_closes_its_connection_and_the_link_goes_on() {
    let (seam, pipes) = (Seam::seeded(1), Pipes::new());
    let a = Worker::start(settings(A, 1, b"right"), Arc::new(pipes.connector(A)), &seam);
    let to_b = a.links.peer(B, PLAN);
    let connector = pipes.connector(B);
    let mut frame = Vec::new();
    frame::encode(1, 0, &[Record::Data(data(5))], &mut frame);
    for (round, garbage) in
        [&[0xff; 40][..], &[1, 0, 0, 0], &[17, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 99]]
            .into_iter()
            .enumerate()
    {
        let mut connection = proved(&connector).await;
        // The first frame comes in each round: it is a double from the second on.
        connection.writer.write_all(&[&frame, garbage].concat()).await.unwrap();
        let mut rest = Vec::new();
        let _ = connection.reader.read_to_end(&mut rest).await;
        assert!(!to_b.is_connected(), "round {round}");
    }
    assert_eq!(a.ear.told(), [Told::Connected(B, Incarnation(1)), Told::Data(B, data(5))]);
    let _connection = proved(&connector).await;
    while !to_b.is_connected() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_a_peer_in_the_middle_of_its_frame_hears_so_behind_the_frame() {
    let pair = Pair::new();
    let (to_b, to_a) = (pair.a.links.peer(B, PLAN), pair.b.links.peer(A, PLAN));
    to_b.room(TASK).await;
    *pair.b.ear.gives_up.lock().unwrap() = Some(to_a);
    for number in 0..3 {
        to_b.send_data(data(number)).unwrap();
    }
    pair.b.ear.until(|told| told.contains(&Told::PeerLost(A, Incarnation(1)))).await;
    let expected = [
        Told::Connected(A, Incarnation(1)),
        Told::Data(A, data(0)),
        Told::Data(A, data(1)),
        Told::Data(A, data(2)),
        Told::PeerLost(A, Incarnation(1)),
    ];
    assert_eq!(pair.b.ear.told(), expected);
}
