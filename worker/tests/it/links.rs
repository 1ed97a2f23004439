//! Links over pipes and over TCP: what breaks, what is refused, what is never lost.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use topology_api::anchor::{Generation, LedgerId, Root, Slot};
use topology_api::fail::{FailKind, FailReason};
use topology_api::ids::TaskId;
use worker::ids::{Incarnation, PlanVersion, WorkerIndex};
use worker::seam::Seam;
use worker::transfer::connection::{Deliver, LinkHandle, Links, Settings};
use worker::transfer::frame::{AckRecord, Data, End};
use worker::transfer::handshake::{Identity, Life, Secret};
use worker::transfer::network::Connector;
use worker::transfer::permits::Amount;
use worker::transfer::pipe::Pipes;
use worker::transfer::tcp::Tcp;

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
    fn connected(&self, worker: WorkerIndex, incarnation: Incarnation) {
        self.hear(Told::Connected(worker, incarnation));
    }
    fn newer_plan(&self, worker: WorkerIndex, version: PlanVersion) {
        self.hear(Told::NewerPlan(worker, version));
    }
}

fn settings(worker: WorkerIndex, incarnation: u64, secret: &[u8]) -> Settings {
    let life = Life { plan: PLAN, incarnation: Incarnation(incarnation) };
    let identity = Identity { topology: "words-1".to_owned(), secret: Secret::new(secret), worker, life };
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

#[tokio::test(start_paused = true)]
async fn a_broken_connection_loses_and_doubles_nothing() {
    let (seam, pipes) = (Seam::seeded(1), Pipes::new());
    let a = Worker::start(settings(A, 1, b"s"), Arc::new(pipes.connector(A)), &seam);
    let b = Worker::start(settings(B, 1, b"s"), Arc::new(pipes.connector(B)), &seam);
    let (to_b, _to_a) = (a.links.peer(B, PLAN), b.consuming(A));
    for round in 0..20 {
        send(&to_b, round * 100..(round + 1) * 100).await;
        pipes.cut(A, B);
    }
    to_b.settled().await;
    assert_eq!(b.ear.payloads(), numbers(2000));
    assert_eq!(b.ear.peer_lost(), []);
    assert_eq!(a.ear.told(), [Told::Connected(B, Incarnation(1))]);
    assert!(to_b.statistics().reconnects >= 19, "{:?}", to_b.statistics());
}
