//! Every configuration key that is known by name: what it takes and whether anything acts on it.
//!
//! Not here: values and where they come from (`Config`), or the typed settings made of them (`topology`).
//! Invariant: the table is sorted by name, holds each name once, and every name in it begins with one of [`PREFIXES`].

use std::fmt;

use serde_json::Value;

use Kind::*;
use Reason::*;

/// What is known of a configuration key: see [`known`].
#[derive(Debug)]
pub struct KeyInfo {
    name: &'static str,
    pub(super) kind: Kind,
    stance: Stance,
    of_components: bool,
}

/// The key of this name, if it is one of Storm's or ours; all others are the user's own.
///
/// ```
/// use topology_api::config::known;
/// assert_eq!(known("topology.workers").unwrap().takes(), "a whole number in 1 ..= 65535");
/// assert_eq!(known("worker.childopts").unwrap().without_effect(), Some("there is no JVM here"));
/// assert!(known("my.own.key").is_none());
/// ```
pub fn known(name: &str) -> Option<&'static KeyInfo> {
    KEYS.binary_search_by(|key| key.name.cmp(name)).ok().map(|index| &KEYS[index])
}

/// The key most like this unknown one, if one is like enough to be what was meant.
pub fn nearest(name: &str) -> Option<&'static KeyInfo> {
    // A key this long is no misspelling, and comparing it would take long.
    if name.len() > 128 {
        return None;
    }
    let folded = fold(name);
    let length = folded.chars().count();
    let beginning = format!("{folded}.");
    let likely = (length / 6).max(2);
    let distance = |key: &KeyInfo| {
        let begins_so = key.name.starts_with(&beginning);
        // Names whose lengths differ by more are further apart than that: most need no comparing.
        let comparable = begins_so || key.name.len().abs_diff(length) <= likely;
        comparable.then(|| if begins_so { likely } else { strsim::osa_distance(&folded, &fold(key.name)) })
    };
    KEYS.iter()
        .filter_map(|key| Some((distance(key).filter(|distance| *distance <= likely)?, key)))
        .min_by_key(|(distance, key)| (*distance, !key.is_honoured()))
        .map(|(_, key)| key)
}

/// Case, and what is used in place of dots, are the likeliest slips: they count for nothing.
fn fold(name: &str) -> String {
    name.to_lowercase().replace(['_', '-'], ".")
}

/// The prefix of Storm's that this key begins with: such keys are never the user's own.
pub(super) fn storms_prefix(name: &str) -> Option<&'static str> {
    PREFIXES.iter().copied().find(|prefix| name.starts_with(prefix))
}

/// All keys that begin so are Storm's. First words that users' own keys may well have too (`client`, `task`, `resource`)
/// are Storm's only with their second word.
const PREFIXES: &[&str] = &[
    "blacklist.",
    "blobstore.",
    "client.blobstore.",
    "debug.simple.",
    "dev.zookeeper.",
    "drpc.",
    "executor.metrics.",
    "isolation.scheduler.",
    "java.library.",
    "logs.",
    "logviewer.",
    "multitenant.scheduler.",
    "nimbus.",
    "num.stat.",
    "pacemaker.",
    "resource.aware.",
    "scheduler.",
    "scheduling.",
    "storm.",
    "supervisor.",
    "task.credentials.",
    "task.heartbeat.",
    "task.refresh.",
    "topology.",
    "transactional.zookeeper.",
    "ui.",
    "worker.",
];

impl KeyInfo {
    /// The key itself, as it is written in a file.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What values it takes, in words: "a whole number in 1 ..= 65535".
    pub fn takes(&self) -> String {
        self.kind.to_string()
    }

    /// Whether the runtime acts on it.
    pub fn is_honoured(&self) -> bool {
        matches!(self.stance, Stance::Honoured { .. })
    }

    /// Why it has no effect on a topology; `None` for a key that the runtime acts on.
    pub fn without_effect(&self) -> Option<&'static str> {
        match self.stance {
            Stance::Honoured { .. } => None,
            Stance::OfDaemons { .. } => Some(Daemons.text()),
            Stance::Accepted(reason) => Some(reason.text()),
        }
    }

    /// Whether it is for the daemons and the command line: a topology runs the same with and without it.
    pub fn is_of_daemons(&self) -> bool {
        matches!(self.stance, Stance::OfDaemons { .. })
    }

    /// The environment variable that overrides it for daemons and the command line.
    ///
    /// ```
    /// use topology_api::config::known;
    /// assert_eq!(known("nimbus.api.port").unwrap().variable(), "STORM_NIMBUS_API_PORT");
    /// assert_eq!(known("storm.local.dir").unwrap().variable(), "STORM_LOCAL_DIR");
    /// ```
    pub fn variable(&self) -> String {
        let name = self.name.to_uppercase().replace(['.', '-'], "_");
        if name.starts_with("STORM_") { name } else { format!("STORM_{name}") }
    }

    /// Whether a single component may have a value of its own.
    pub fn is_of_components(&self) -> bool {
        self.of_components
    }

    /// The value it has when nothing is set; null where that is no value.
    pub fn default_value(&self) -> Value {
        match self.stance {
            // A test reads the default of every key.
            Stance::Honoured { default } | Stance::OfDaemons { default } => {
                serde_json::from_str(default).unwrap_or(Value::Null)
            }
            Stance::Accepted(_) => Value::Null,
        }
    }

    /// Whether its values are not to be printed.
    pub fn is_secret(&self) -> bool {
        ["password", "payload", "blowfish"].iter().any(|word| self.name.contains(word))
    }

    const fn of_components(self) -> Self {
        KeyInfo { of_components: true, ..self }
    }
}

/// All keys that the runtime acts on, by name.
pub(super) fn honoured_keys() -> impl Iterator<Item = &'static KeyInfo> {
    KEYS.iter().filter(|key| key.is_honoured())
}

/// All keys that the daemons and the command line act on, by name.
pub(super) fn keys_of_daemons() -> impl Iterator<Item = &'static KeyInfo> {
    KEYS.iter().filter(|key| key.is_of_daemons())
}

/// Every key that is known, by name.
pub fn all_known() -> impl Iterator<Item = &'static KeyInfo> {
    KEYS.iter()
}

/// What values a key takes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A number without fraction (`3.0` is one), within these bounds.
    Int { min: i64, max: i64 },
    /// A finite number.
    Number { min: f64 },
    /// Seconds, fractions allowed: a millisecond to 2³¹ − 1 seconds, which Java users write for "never".
    Seconds,
    /// `true` or `false`.
    Bool,
    /// A string.
    Text,
    /// A string or a list.
    TextOrList,
    /// A list.
    List,
    /// A map.
    Map,
    /// A map or a list.
    MapOrList,
    /// Whatever there is.
    Any,
}

const INT: Kind = Int { min: i64::MIN, max: i64::MAX };
/// Storm's documentation calls many keys positive whose default is 0: none of those is refused for being 0.
const COUNT: Kind = Int { min: 0, max: i64::MAX };
const NUMBER: Kind = Number { min: f64::MIN };
const AMOUNT: Kind = Number { min: 0.0 };

/// 0 stands for any port that is free.
const PORT: Kind = Int { min: 0, max: 65_535 };

/// A component has at most as many tasks as fields grouping has key groups: a further one would never get a key.
const MAX_TASKS: i64 = 32_768;
const SECONDS: std::ops::RangeInclusive<f64> = 0.001..=2_147_483_647.0;

impl Kind {
    /// Whether a value is of this kind and within its bounds.
    pub(super) fn takes(self, value: &Value) -> bool {
        match self {
            Int { min, max } => whole(value).is_some_and(|number| (min..=max).contains(&number)),
            Number { min } => value.as_f64().is_some_and(|number| number >= min),
            Seconds => value.as_f64().is_some_and(|number| SECONDS.contains(&number)),
            Bool => value.is_boolean(),
            Text => value.is_string(),
            TextOrList => value.is_string() || value.is_array(),
            List => value.is_array(),
            Map => value.is_object(),
            MapOrList => value.is_object() || value.is_array(),
            Any => true,
        }
    }
}

/// The number in a value, if it has no fraction; `3.0` has none.
pub(super) fn whole(value: &Value) -> Option<i64> {
    // Up to 2⁵³ every whole float stands for itself.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    value.as_i64().or_else(|| {
        value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= EXACT).map(|number| number as i64)
    })
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Int { min: i64::MIN, .. } => f.write_str("a whole number"),
            Int { min, max: i64::MAX } => write!(f, "a whole number of at least {min}"),
            Int { min, max } => write!(f, "a whole number in {min} ..= {max}"),
            Number { min: f64::MIN } => f.write_str("a number"),
            Number { min } => write!(f, "a number of at least {min}"),
            Seconds => write!(f, "a number of seconds in {} ..= {}", SECONDS.start(), SECONDS.end()),
            Bool => f.write_str("true or false"),
            Text => f.write_str("text"),
            TextOrList => f.write_str("text or a list"),
            List => f.write_str("a list"),
            Map => f.write_str("a map"),
            MapOrList => f.write_str("a map or a list"),
            Any => f.write_str("any value"),
        }
    }
}

/// What becomes of a key's value.
#[derive(Clone, Copy, Debug)]
enum Stance {
    /// The runtime acts on it. The default is JSON.
    Honoured { default: &'static str },
    /// The daemons and the command line act on it. The default is JSON.
    OfDaemons { default: &'static str },
    /// Storm knows it; a topology runs the same with and without it.
    Accepted(Reason),
}

/// Why a key has no effect on a topology.
#[derive(Clone, Copy, Debug)]
enum Reason {
    Containers,
    Daemons,
    Drpc,
    Flow,
    Jvm,
    Leftover,
    Links,
    Metrics,
    Multilang,
    Pacemaker,
    Scheduling,
    Security,
    Serialization,
    System,
    Trident,
    Unread,
    Windows,
}

impl Reason {
    /// The end of a sentence that begins "without effect, as".
    fn text(self) -> &'static str {
        match self {
            Containers => "workers do not run in cgroups or containers",
            Daemons => "only the daemons and the command line read such keys",
            Drpc => "DRPC is not supported",
            Flow => "batches, waiting and back-pressure adapt by themselves",
            Jvm => "there is no JVM here",
            Leftover => "Storm itself does not read it either",
            Links => "the links between workers need no settings",
            Metrics => "counts are exact and always on, and have no plug-ins",
            Multilang => "components in other languages are not supported",
            Pacemaker => "there is no Pacemaker here",
            Scheduling => "the scheduler places by slots alone",
            Security => "users, groups and credentials are not supported",
            Serialization => "tuples are typed and bring their own serialization",
            System => "the runtime sets it itself",
            Trident => "Trident is not supported",
            Unread => "nothing here reads them",
            Windows => "windows and state are not supported",
        }
    }
}

const fn honoured(name: &'static str, kind: Kind, default: &'static str) -> KeyInfo {
    KeyInfo { name, kind, stance: Stance::Honoured { default }, of_components: false }
}

const fn of_daemons(name: &'static str, kind: Kind, default: &'static str) -> KeyInfo {
    KeyInfo { name, kind, stance: Stance::OfDaemons { default }, of_components: false }
}

const fn accepted(name: &'static str, kind: Kind, reason: Reason) -> KeyInfo {
    KeyInfo { name, kind, stance: Stance::Accepted(reason), of_components: false }
}

/// Sorted by name.
static KEYS: &[KeyInfo] = &[
    accepted("blacklist.scheduler.assume.supervisor.bad.based.on.bad.slot", Bool, Scheduling),
    accepted("blacklist.scheduler.enable.send.assignment.failures", Bool, Scheduling),
    accepted("blacklist.scheduler.reporter", Text, Scheduling),
    accepted("blacklist.scheduler.resume.time.secs", AMOUNT, Scheduling),
    accepted("blacklist.scheduler.strategy", Text, Scheduling),
    accepted("blacklist.scheduler.tolerance.count", AMOUNT, Scheduling),
    accepted("blacklist.scheduler.tolerance.time.secs", AMOUNT, Scheduling),
    accepted("blobstore.cleanup.enable", Bool, Unread),
    accepted("blobstore.dir", Text, Unread),
    accepted("blobstore.hdfs.keytab", Text, Unread),
    accepted("blobstore.hdfs.principal", Text, Unread),
    accepted("client.blobstore.class", Text, Unread),
    accepted("debug.simple.transport.user", Text, Containers),
    accepted("dev.zookeeper.path", Text, Unread),
    accepted("drpc.authorizer", Text, Drpc),
    accepted("drpc.authorizer.acl", Map, Drpc),
    accepted("drpc.authorizer.acl.filename", Text, Drpc),
    accepted("drpc.authorizer.acl.strict", Bool, Drpc),
    accepted("drpc.childopts", TextOrList, Jvm),
    accepted("drpc.disable.http.binding", Bool, Drpc),
    accepted("drpc.http.creds.plugin", Text, Drpc),
    accepted("drpc.http.filter", Text, Drpc),
    accepted("drpc.http.filter.params", Map, Drpc),
    accepted("drpc.http.port", INT, Drpc),
    accepted("drpc.https.enable.ssl.reload", Bool, Drpc),
    accepted("drpc.https.key.password", Text, Drpc),
    accepted("drpc.https.keystore.password", Text, Drpc),
    accepted("drpc.https.keystore.path", Text, Drpc),
    accepted("drpc.https.keystore.type", Text, Drpc),
    accepted("drpc.https.need.client.auth", Bool, Drpc),
    accepted("drpc.https.port", INT, Drpc),
    accepted("drpc.https.truststore.password", Text, Drpc),
    accepted("drpc.https.truststore.path", Text, Drpc),
    accepted("drpc.https.truststore.type", Text, Drpc),
    accepted("drpc.https.want.client.auth", Bool, Drpc),
    accepted("drpc.invocations.port", COUNT, Drpc),
    accepted("drpc.invocations.threads", COUNT, Drpc),
    accepted("drpc.invocations.thrift.transport", Text, Drpc),
    accepted("drpc.max_buffer_size", AMOUNT, Drpc),
    accepted("drpc.port", COUNT, Drpc),
    accepted("drpc.queue.size", COUNT, Drpc),
    accepted("drpc.request.timeout.secs", COUNT, Drpc),
    accepted("drpc.servers", List, Drpc),
    accepted("drpc.thrift.transport", Text, Drpc),
    accepted("drpc.worker.threads", COUNT, Drpc),
    accepted("executor.metrics.frequency.secs", COUNT, Metrics),
    accepted("isolation.scheduler.machines", Map, Scheduling),
    accepted("java.library.path", Text, Jvm),
    accepted("logs.groups", TextOrList, Unread),
    accepted("logs.users", TextOrList, Unread),
    accepted("logviewer.appender.name", Text, Unread),
    accepted("logviewer.childopts", TextOrList, Jvm),
    of_daemons("logviewer.cleanup.age.mins", Int { min: 0, max: 52_560_000 }, "10080"),
    accepted("logviewer.cleanup.interval.secs", COUNT, Unread),
    accepted("logviewer.disable.http.binding", Bool, Unread),
    accepted("logviewer.filter", Text, Unread),
    accepted("logviewer.filter.params", Map, Unread),
    accepted("logviewer.https.enable.ssl.reload", Bool, Unread),
    accepted("logviewer.https.key.password", Text, Unread),
    accepted("logviewer.https.keystore.password", Text, Unread),
    accepted("logviewer.https.keystore.path", Text, Unread),
    accepted("logviewer.https.keystore.type", Text, Unread),
    accepted("logviewer.https.need.client.auth", Bool, Unread),
    accepted("logviewer.https.port", INT, Unread),
    accepted("logviewer.https.truststore.password", Text, Unread),
    accepted("logviewer.https.truststore.path", Text, Unread),
    accepted("logviewer.https.truststore.type", Text, Unread),
    accepted("logviewer.https.want.client.auth", Bool, Unread),
    accepted("logviewer.max.per.worker.logs.size.mb", AMOUNT, Unread),
    accepted("logviewer.max.sum.worker.logs.size.mb", AMOUNT, Unread),
    of_daemons("logviewer.port", PORT, "8000"),
    accepted("multitenant.scheduler.user.pools", Map, Scheduling),
    accepted("nimbus.admins", List, Security),
    accepted("nimbus.admins.groups", List, Security),
    of_daemons("nimbus.api.port", PORT, "6628"),
    accepted("nimbus.assignments.service.thread.queue.size", INT, Unread),
    accepted("nimbus.assignments.service.threads", INT, Unread),
    accepted("nimbus.authorizer", Text, Security),
    accepted("nimbus.autocredential.plugins.classes", List, Security),
    accepted("nimbus.blobstore.class", Text, Unread),
    accepted("nimbus.blobstore.expiration.secs", COUNT, Unread),
    accepted("nimbus.childopts", TextOrList, Jvm),
    accepted("nimbus.cleanup.inbox.freq.secs", COUNT, Unread),
    accepted("nimbus.code.sync.freq.secs", INT, Unread),
    accepted("nimbus.credential.renewers.classes", List, Security),
    accepted("nimbus.credential.renewers.freq.secs", COUNT, Security),
    accepted("nimbus.daemon.user", Text, Unread),
    accepted("nimbus.daemon.users", List, Security),
    accepted("nimbus.even.rebalance.idle.supervisor.enabled", Bool, Scheduling),
    accepted("nimbus.even.rebalance.idle.supervisor.min.stable.rounds", INT, Scheduling),
    accepted("nimbus.even.rebalance.max.free.per.topology", INT, Scheduling),
    of_daemons("nimbus.executors.perTopology", Int { min: 1, max: 1_000_000 }, "null"),
    accepted("nimbus.file.copy.expiration.secs", INT, Unread),
    accepted("nimbus.groups", List, Security),
    of_daemons("nimbus.host", Text, "null"),
    accepted("nimbus.impersonation.acl", Map, Security),
    accepted("nimbus.impersonation.authorizer", Text, Security),
    of_daemons("nimbus.inbox.jar.expiration.secs", Seconds, "3600"),
    accepted("nimbus.local.assignments.backend.class", Text, Unread),
    accepted("nimbus.monitor.freq.secs", COUNT, Unread),
    accepted("nimbus.queue.size", COUNT, Unread),
    accepted("nimbus.scheduler.strategy.class.whitelist", List, Scheduling),
    of_daemons("nimbus.seeds", List, r#"["localhost"]"#),
    of_daemons("nimbus.slots.perTopology", Int { min: 1, max: 65_535 }, "null"),
    of_daemons("nimbus.supervisor.timeout.secs", Seconds, "60"),
    accepted("nimbus.supervisor.users", List, Security),
    accepted("nimbus.task.launch.secs", COUNT, Unread),
    accepted("nimbus.task.timeout.secs", COUNT, Unread),
    accepted("nimbus.thrift.client.use.tls", Bool, Security),
    accepted("nimbus.thrift.max_buffer_size", COUNT, Unread),
    accepted("nimbus.thrift.port", COUNT, Unread),
    accepted("nimbus.thrift.threads", COUNT, Unread),
    accepted("nimbus.thrift.tls.client.auth.required", Bool, Security),
    accepted("nimbus.thrift.tls.client.cert.path", Text, Security),
    accepted("nimbus.thrift.tls.client.key.path", Text, Security),
    accepted("nimbus.thrift.tls.client.keystore.password", Text, Security),
    accepted("nimbus.thrift.tls.client.keystore.path", Text, Security),
    accepted("nimbus.thrift.tls.client.truststore.password", Text, Security),
    accepted("nimbus.thrift.tls.client.truststore.path", Text, Security),
    accepted("nimbus.thrift.tls.max_buffer_size", COUNT, Security),
    accepted("nimbus.thrift.tls.port", COUNT, Security),
    accepted("nimbus.thrift.tls.server.keystore.password", Text, Security),
    accepted("nimbus.thrift.tls.server.keystore.path", Text, Security),
    accepted("nimbus.thrift.tls.server.only", Bool, Security),
    accepted("nimbus.thrift.tls.server.truststore.password", Text, Security),
    accepted("nimbus.thrift.tls.server.truststore.path", Text, Security),
    accepted("nimbus.thrift.tls.threads", COUNT, Security),
    accepted("nimbus.thrift.tls.transport", Text, Security),
    accepted("nimbus.thrift.transport", Text, Unread),
    accepted("nimbus.topology.action.notifier.plugin.class", Text, Unread),
    accepted("nimbus.topology.blobstore.deletion.delay.ms", INT, Unread),
    accepted("nimbus.topology.validator", Text, Unread),
    accepted("nimbus.users", List, Security),
    accepted("nimbus.worker.heartbeats.recovery.strategy.class", Text, Unread),
    accepted("num.stat.buckets", COUNT, Metrics),
    accepted("pacemaker.auth.method", Text, Pacemaker),
    accepted("pacemaker.base.threads", COUNT, Leftover),
    accepted("pacemaker.childopts", TextOrList, Jvm),
    accepted("pacemaker.client.max.threads", AMOUNT, Pacemaker),
    accepted("pacemaker.kerberos.users", List, Leftover),
    accepted("pacemaker.max.threads", AMOUNT, Pacemaker),
    accepted("pacemaker.port", AMOUNT, Pacemaker),
    accepted("pacemaker.servers", List, Pacemaker),
    accepted("pacemaker.thread.timeout", COUNT, Leftover),
    accepted("pacemaker.thrift.message.size.max", COUNT, Pacemaker),
    accepted("resource.aware.scheduler.constraint.max.state.search", COUNT, Scheduling),
    accepted("resource.aware.scheduler.max.topology.scheduling.attempts", COUNT, Scheduling),
    accepted("resource.aware.scheduler.priority.strategy", Text, Scheduling),
    accepted("resource.aware.scheduler.user.pools", Map, Scheduling),
    accepted("scheduler.config.cache.expiration.secs", COUNT, Scheduling),
    accepted("scheduler.config.loader.artifactory.base.directory", Text, Scheduling),
    accepted("scheduler.config.loader.polltime.secs", COUNT, Scheduling),
    accepted("scheduler.config.loader.timeout.secs", COUNT, Scheduling),
    accepted("scheduler.config.loader.uri", Text, Scheduling),
    of_daemons("scheduler.display.resource", Bool, "false"),
    accepted("scheduling.timeout.seconds.per.topology", COUNT, Scheduling),
    accepted("storm.auth.simple-white-list.users", List, Containers),
    of_daemons("storm.bind.address", Text, r#""127.0.0.1""#),
    accepted("storm.blobstore.acl.validation.enabled", Bool, Unread),
    accepted("storm.blobstore.dependency.jar.upload.chunk.size.bytes", COUNT, Unread),
    accepted("storm.blobstore.inputstream.buffer.size.bytes", COUNT, Unread),
    accepted("storm.blobstore.replication.factor", COUNT, Unread),
    accepted("storm.cgroup.cgexec.cmd", Text, Containers),
    accepted("storm.cgroup.hierarchy.dir", Text, Containers),
    accepted("storm.cgroup.hierarchy.name", Text, Containers),
    accepted("storm.cgroup.inherit.cpuset.configs", Bool, Containers),
    accepted("storm.cgroup.memory.enforcement.enable", Bool, Containers),
    accepted("storm.cgroup.memory.limit.tolerance.margin.mb", NUMBER, Containers),
    accepted("storm.cgroup.resources", List, Containers),
    accepted("storm.cluster.metrics.consumer.publish.interval.secs", AMOUNT, Metrics),
    accepted("storm.cluster.metrics.consumer.register", List, Metrics),
    of_daemons("storm.cluster.mode", Text, r#""distributed""#),
    accepted("storm.cluster.state.store", Text, Unread),
    accepted("storm.codedistributor.class", Text, Leftover),
    accepted("storm.compression.gzip.max.decompressed.bytes", AMOUNT, Unread),
    accepted("storm.compression.zstd.level", INT, Unread),
    accepted("storm.compression.zstd.max.decompressed.bytes", AMOUNT, Unread),
    accepted("storm.daemon.metrics.reporter.csv.log.dir", Text, Metrics),
    accepted("storm.daemon.metrics.reporter.interval.secs", INT, Metrics),
    accepted("storm.daemon.metrics.reporter.plugin.domain", Text, Metrics),
    accepted("storm.daemon.metrics.reporter.plugin.duration.unit", Text, Metrics),
    accepted("storm.daemon.metrics.reporter.plugin.locale", Text, Metrics),
    accepted("storm.daemon.metrics.reporter.plugin.rate.unit", Text, Metrics),
    accepted("storm.daemon.metrics.reporter.plugins", List, Metrics),
    accepted("storm.disable.symlinks", Bool, Unread),
    accepted("storm.doAsUser", Text, Security),
    accepted("storm.group.mapping.service", Text, Security),
    accepted("storm.group.mapping.service.cache.duration.secs", INT, Security),
    accepted("storm.group.mapping.service.params", Map, Security),
    accepted("storm.hdfs.login.keytab", Text, Unread),
    accepted("storm.hdfs.login.principal", Text, Unread),
    accepted("storm.health.check.dir", Text, Unread),
    accepted("storm.health.check.fail.on.timeouts", Bool, Unread),
    accepted("storm.health.check.timeout.ms", NUMBER, Unread),
    accepted("storm.id", Text, System),
    of_daemons("storm.local.dir", Text, r#""storm-local""#),
    of_daemons("storm.local.hostname", Text, "null"),
    accepted("storm.local.mode.zmq", Bool, Links),
    of_daemons("storm.log.dir", Text, r#""logs""#),
    accepted("storm.log4j2.conf.dir", Text, Jvm),
    accepted("storm.messaging.netty.authentication", Bool, Links),
    accepted("storm.messaging.netty.buffer.high.watermark", COUNT, Links),
    accepted("storm.messaging.netty.buffer.low.watermark", COUNT, Links),
    accepted("storm.messaging.netty.buffer_size", COUNT, Links),
    accepted("storm.messaging.netty.client_worker_threads", INT, Links),
    accepted("storm.messaging.netty.flush.check.interval.ms", INT, Leftover),
    accepted("storm.messaging.netty.flush_timeout_ms", COUNT, Links),
    accepted("storm.messaging.netty.max_wait_ms", COUNT, Links),
    accepted("storm.messaging.netty.min_wait_ms", COUNT, Links),
    accepted("storm.messaging.netty.server_worker_threads", COUNT, Links),
    accepted("storm.messaging.netty.socket.backlog", COUNT, Links),
    accepted("storm.messaging.netty.tls.ciphers", TextOrList, Links),
    accepted("storm.messaging.netty.tls.client.keystore.password", Text, Links),
    accepted("storm.messaging.netty.tls.client.keystore.path", Text, Links),
    accepted("storm.messaging.netty.tls.client.truststore.password", Text, Links),
    accepted("storm.messaging.netty.tls.client.truststore.path", Text, Links),
    accepted("storm.messaging.netty.tls.enable", Bool, Links),
    accepted("storm.messaging.netty.tls.keystore.password", Text, Links),
    accepted("storm.messaging.netty.tls.keystore.path", Text, Links),
    accepted("storm.messaging.netty.tls.require.open.ssl", Bool, Links),
    accepted("storm.messaging.netty.tls.ssl.protocols", Text, Links),
    accepted("storm.messaging.netty.tls.truststore.password", Text, Links),
    accepted("storm.messaging.netty.tls.truststore.path", Text, Links),
    accepted("storm.messaging.netty.transfer.batch.size", INT, Links),
    accepted("storm.messaging.transport", Text, Links),
    accepted("storm.meta.serialization.delegate", Text, Jvm),
    accepted("storm.metricprocessor.class", Text, Metrics),
    accepted("storm.metrics.reporters", List, Metrics),
    accepted("storm.metricstore.class", Text, Metrics),
    accepted("storm.metricstore.rocksdb.create_if_missing", Bool, Metrics),
    accepted("storm.metricstore.rocksdb.deletion_period_hours", INT, Metrics),
    accepted("storm.metricstore.rocksdb.location", Text, Metrics),
    accepted("storm.metricstore.rocksdb.metadata_string_cache_capacity", INT, Metrics),
    accepted("storm.metricstore.rocksdb.retention_hours", INT, Metrics),
    of_daemons("storm.network.allow.unauthenticated", Bool, "false"),
    accepted("storm.network.topography.plugin", Text, Unread),
    accepted("storm.nimbus.retry.interval.millis", NUMBER, Unread),
    accepted("storm.nimbus.retry.intervalceiling.millis", NUMBER, Unread),
    accepted("storm.nimbus.retry.times", NUMBER, Unread),
    accepted("storm.nimbus.zookeeper.acls.check", Bool, Unread),
    accepted("storm.nimbus.zookeeper.acls.fixup", Bool, Unread),
    accepted("storm.oci.allowed.images", TextOrList, Containers),
    accepted("storm.oci.cgroup.parent", Text, Containers),
    accepted("storm.oci.cgroup.root", Text, Containers),
    accepted("storm.oci.image", Text, Containers),
    accepted("storm.oci.image.hdfs.toplevel.dir", Text, Containers),
    accepted("storm.oci.image.tag.to.manifest.plugin", Text, Containers),
    accepted("storm.oci.layer.mounts.to.keep", INT, Containers),
    accepted("storm.oci.manifest.to.resources.plugin", Text, Containers),
    accepted("storm.oci.nscd.dir", Text, Containers),
    accepted("storm.oci.readonly.bindmounts", TextOrList, Containers),
    accepted("storm.oci.readwrite.bindmounts", TextOrList, Containers),
    accepted("storm.oci.resources.local.dir", Text, Containers),
    accepted("storm.oci.resources.localizer", Text, Containers),
    accepted("storm.oci.seccomp.profile", Text, Containers),
    accepted("storm.principal.tolocal", Text, Security),
    accepted("storm.resource.isolation.plugin", Text, Containers),
    accepted("storm.resource.isolation.plugin.enable", Bool, Containers),
    accepted("storm.scheduler", Text, Scheduling),
    accepted("storm.supervisor.cgroup.rootdir", Text, Containers),
    accepted("storm.supervisor.hard.memory.limit.multiplier", NUMBER, Containers),
    accepted("storm.supervisor.hard.memory.limit.overage.mb", NUMBER, Containers),
    accepted("storm.supervisor.low.memory.threshold.mb", NUMBER, Containers),
    accepted("storm.supervisor.medium.memory.threshold.grace.period.ms", NUMBER, Containers),
    accepted("storm.supervisor.medium.memory.threshold.mb", NUMBER, Containers),
    accepted("storm.supervisor.memory.limit.tolerance.margin.mb", NUMBER, Containers),
    accepted("storm.thrift.socket.timeout.ms", INT, Unread),
    accepted("storm.thrift.tls.socket.timeout.ms", INT, Security),
    accepted("storm.thrift.transport", Text, Unread),
    accepted("storm.topology.classpath.beginning.enabled", Bool, Jvm),
    accepted("storm.topology.metrics.system.reporters", List, Metrics),
    accepted("storm.topology.submission.notifier.plugin.class", Text, Unread),
    accepted("storm.worker.cgroup.cpu.limit", NUMBER, Containers),
    accepted("storm.worker.cgroup.memory.mb.limit", NUMBER, Containers),
    accepted("storm.worker.min.cpu.pcore.percent", NUMBER, Unread),
    accepted("storm.worker.token.life.time.hours", INT, Security),
    accepted("storm.workers.artifacts.dir", Text, Unread),
    accepted("storm.zookeeper.auth.password", Text, Leftover),
    of_daemons("storm.zookeeper.auth.payload", Text, "null"),
    of_daemons("storm.zookeeper.auth.scheme", Text, "null"),
    accepted("storm.zookeeper.auth.user", Text, Leftover),
    accepted("storm.zookeeper.connection.timeout", INT, Unread),
    accepted("storm.zookeeper.drpcACL", Text, Unread),
    of_daemons("storm.zookeeper.port", Int { min: 1, max: 65_535 }, "2181"),
    accepted("storm.zookeeper.retry.interval", INT, Unread),
    accepted("storm.zookeeper.retry.intervalceiling.millis", INT, Unread),
    accepted("storm.zookeeper.retry.times", INT, Unread),
    of_daemons("storm.zookeeper.root", Text, r#""/storm""#),
    of_daemons("storm.zookeeper.servers", List, r#"["localhost"]"#),
    of_daemons("storm.zookeeper.session.timeout", Int { min: 100, max: 3_600_000 }, "6000"),
    accepted("storm.zookeeper.ssl.enable", Bool, Unread),
    accepted("storm.zookeeper.ssl.hostnameVerification", Bool, Unread),
    accepted("storm.zookeeper.ssl.keystore.password", Text, Unread),
    accepted("storm.zookeeper.ssl.keystore.path", Text, Unread),
    accepted("storm.zookeeper.ssl.truststore.password", Text, Unread),
    accepted("storm.zookeeper.ssl.truststore.path", Text, Unread),
    accepted("storm.zookeeper.superACL", Text, Unread),
    accepted("storm.zookeeper.topology.auth.payload", Text, Unread),
    accepted("storm.zookeeper.topology.auth.scheme", Text, Unread),
    accepted("supervisor.authorizer", Text, Security),
    accepted("supervisor.blobstore.class", Text, Unread),
    accepted("supervisor.blobstore.download.max_retries", COUNT, Unread),
    accepted("supervisor.blobstore.download.thread.count", COUNT, Unread),
    accepted("supervisor.childopts", TextOrList, Jvm),
    accepted("supervisor.cpu.capacity", AMOUNT, Unread),
    accepted("supervisor.enable", Bool, Unread),
    accepted("supervisor.heartbeat.frequency.secs", INT, Unread),
    accepted("supervisor.localizer.cache.target.size.mb", COUNT, Unread),
    accepted("supervisor.localizer.cleanup.interval.ms", COUNT, Unread),
    accepted("supervisor.localizer.update.blob.interval.secs", COUNT, Unread),
    accepted("supervisor.memory.capacity.mb", AMOUNT, Unread),
    accepted("supervisor.monitor.frequency.secs", COUNT, Unread),
    accepted("supervisor.numa.meta", Map, Unread),
    accepted("supervisor.queue.size", COUNT, Unread),
    accepted("supervisor.resources.map", Map, Unread),
    accepted("supervisor.run.worker.as.user", Bool, Unread),
    accepted("supervisor.scheduler.meta", Map, Unread),
    of_daemons("supervisor.slots.ports", List, "[6700,6701,6702,6703]"),
    accepted("supervisor.supervisors", List, Leftover),
    accepted("supervisor.supervisors.commands", List, Leftover),
    accepted("supervisor.thrift.client.use.tls", Bool, Security),
    accepted("supervisor.thrift.max_buffer_size", AMOUNT, Unread),
    accepted("supervisor.thrift.port", COUNT, Unread),
    accepted("supervisor.thrift.socket.timeout.ms", INT, Unread),
    accepted("supervisor.thrift.threads", COUNT, Unread),
    accepted("supervisor.thrift.tls.client.auth.required", Bool, Security),
    accepted("supervisor.thrift.tls.client.cert.path", Text, Security),
    accepted("supervisor.thrift.tls.client.key.path", Text, Security),
    accepted("supervisor.thrift.tls.client.keystore.password", Text, Security),
    accepted("supervisor.thrift.tls.client.keystore.path", Text, Security),
    accepted("supervisor.thrift.tls.client.truststore.password", Text, Security),
    accepted("supervisor.thrift.tls.client.truststore.path", Text, Security),
    accepted("supervisor.thrift.tls.server.keystore.password", Text, Security),
    accepted("supervisor.thrift.tls.server.keystore.path", Text, Security),
    accepted("supervisor.thrift.tls.server.truststore.password", Text, Security),
    accepted("supervisor.thrift.tls.server.truststore.path", Text, Security),
    accepted("supervisor.thrift.transport", Text, Unread),
    accepted("supervisor.worker.default.version", Text, Unread),
    accepted("supervisor.worker.heartbeats.max.timeout.secs", INT, Unread),
    accepted("supervisor.worker.launcher", Text, Unread),
    of_daemons("supervisor.worker.shutdown.sleep.secs", Seconds, "3"),
    of_daemons("supervisor.worker.start.timeout.secs", Seconds, "120"),
    of_daemons("supervisor.worker.timeout.secs", Seconds, "30"),
    accepted("supervisor.worker.version.classpath.map", Map, Jvm),
    accepted("supervisor.worker.version.logwriter.map", Map, Jvm),
    accepted("supervisor.worker.version.main.map", Map, Jvm),
    accepted("task.credentials.poll.secs", COUNT, Security),
    accepted("task.heartbeat.frequency.secs", COUNT, Pacemaker),
    accepted("task.refresh.poll.secs", COUNT, Unread),
    accepted("topology.acker.cpu.pcore.percent", AMOUNT, Scheduling),
    honoured("topology.acker.executors", COUNT, "null"),
    accepted("topology.acker.resources.offheap.memory.mb", AMOUNT, Scheduling),
    accepted("topology.acker.resources.onheap.memory.mb", AMOUNT, Scheduling),
    accepted("topology.auto-credentials", List, Security),
    accepted("topology.auto.task.hooks", List, Jvm),
    accepted("topology.backpressure.check.millis", COUNT, Flow),
    accepted("topology.backpressure.enable", Bool, Leftover),
    accepted("topology.backpressure.wait.park.microsec", AMOUNT, Flow),
    accepted("topology.backpressure.wait.progressive.level1.count", COUNT, Flow),
    accepted("topology.backpressure.wait.progressive.level2.count", COUNT, Flow),
    accepted("topology.backpressure.wait.progressive.level3.sleep.millis", AMOUNT, Flow),
    accepted("topology.backpressure.wait.strategy", Text, Flow),
    accepted("topology.batch.flush.interval.millis", COUNT, Flow),
    accepted("topology.blobstore.map", Map, Unread),
    accepted("topology.bolt.wait.park.microsec", AMOUNT, Flow),
    accepted("topology.bolt.wait.progressive.level1.count", COUNT, Flow),
    accepted("topology.bolt.wait.progressive.level2.count", COUNT, Flow),
    accepted("topology.bolt.wait.progressive.level3.sleep.millis", AMOUNT, Flow),
    accepted("topology.bolt.wait.strategy", Text, Flow),
    accepted("topology.bolts.late.tuple.stream", Text, Windows).of_components(),
    accepted("topology.bolts.message.id.field.name", Text, Windows).of_components(),
    accepted("topology.bolts.tuple.timestamp.max.lag.ms", COUNT, Windows).of_components(),
    accepted("topology.bolts.watermark.event.interval.ms", COUNT, Windows).of_components(),
    accepted("topology.bolts.window.length.count", COUNT, Windows).of_components(),
    accepted("topology.bolts.window.length.duration.ms", COUNT, Windows).of_components(),
    accepted("topology.bolts.window.sliding.interval.count", COUNT, Windows).of_components(),
    accepted("topology.bolts.window.sliding.interval.duration.ms", COUNT, Windows).of_components(),
    accepted("topology.builtin.metrics.bucket.size.secs", INT, Metrics),
    accepted("topology.classpath", TextOrList, Jvm),
    accepted("topology.classpath.beginning", TextOrList, Jvm),
    accepted("topology.component.cpu.pcore.percent", AMOUNT, Scheduling).of_components(),
    accepted("topology.component.resources.map", Map, Scheduling).of_components(),
    accepted("topology.component.resources.offheap.memory.mb", AMOUNT, Scheduling).of_components(),
    accepted("topology.component.resources.onheap.memory.mb", AMOUNT, Scheduling).of_components(),
    honoured("topology.debug", Bool, "false").of_components(),
    accepted("topology.disable.loadaware.messaging", Bool, Flow),
    honoured("topology.enable.message.timeouts", Bool, "true"),
    accepted("topology.enable.send.iconnection.metrics", Bool, Metrics),
    accepted("topology.enable.v2.metrics.tick", Bool, Metrics),
    accepted("topology.environment", Map, Unread),
    honoured("topology.error.throttle.interval.secs", Seconds, "10"),
    accepted("topology.event.logger.register", List, Metrics),
    accepted("topology.eventlogger.executors", COUNT, Metrics),
    accepted("topology.eventlogger.max.retained.files", COUNT, Metrics),
    accepted("topology.eventlogger.rotation.size.mb", COUNT, Metrics),
    accepted("topology.executor.overflow.limit", COUNT, Flow),
    honoured("topology.executor.receive.buffer.size", Int { min: 1, max: 1_048_576 }, "4096"),
    accepted("topology.fall.back.on.java.serialization", Bool, Serialization),
    accepted("topology.groups", TextOrList, Security),
    accepted("topology.isolate.machines", COUNT, Scheduling),
    accepted("topology.kryo.decorators", List, Serialization).of_components(),
    accepted("topology.kryo.factory", Text, Serialization),
    accepted("topology.kryo.register", List, Serialization).of_components(),
    accepted("topology.localityaware.higher.bound", AMOUNT, Flow),
    accepted("topology.localityaware.lower.bound", AMOUNT, Flow),
    accepted("topology.logging.config", Text, Metrics),
    accepted("topology.logging.sensitivity", Text, Metrics),
    honoured("topology.max.error.report.per.interval", Int { min: 1, max: 1_000_000 }, "5"),
    honoured("topology.max.replication.wait.time.sec", Number { min: -1.0 }, "60"),
    honoured("topology.max.spout.pending", Int { min: 1, max: 1_048_576 }, "null").of_components(),
    honoured("topology.max.task.parallelism", Int { min: 1, max: MAX_TASKS }, "null").of_components(),
    honoured("topology.message.timeout.secs", Seconds, "30"),
    accepted("topology.metrics.consumer.cpu.pcore.percent", AMOUNT, Scheduling),
    accepted("topology.metrics.consumer.register", List, Metrics),
    accepted("topology.metrics.consumer.resources.offheap.memory.mb", AMOUNT, Scheduling),
    accepted("topology.metrics.consumer.resources.onheap.memory.mb", AMOUNT, Scheduling),
    accepted("topology.metrics.reporters", List, Metrics),
    honoured("topology.min.replication.count", Int { min: 1, max: 1000 }, "1"),
    accepted("topology.multilang.log.handler", Text, Multilang),
    accepted("topology.multilang.serializer", Text, Multilang),
    honoured("topology.name", Text, "null"),
    accepted("topology.oci.image", Text, Containers),
    accepted("topology.priority", COUNT, Scheduling),
    accepted("topology.producer.batch.dynamic", Bool, Flow),
    accepted("topology.producer.batch.size", COUNT, Flow),
    accepted("topology.ras.acker.executors.per.worker", COUNT, Scheduling),
    accepted("topology.ras.constraint.max.state.search", COUNT, Scheduling),
    accepted("topology.ras.constraint.max.time.secs", COUNT, Scheduling),
    accepted("topology.ras.constraints", MapOrList, Scheduling),
    accepted("topology.ras.one.component.per.worker", Bool, Scheduling),
    accepted("topology.ras.one.executor.per.worker", Bool, Scheduling),
    accepted("topology.ras.order.executors.by.proximity.needs", Bool, Scheduling),
    accepted("topology.readonly.groups", TextOrList, Security),
    accepted("topology.readonly.users", TextOrList, Security),
    accepted("topology.scheduler.favored.nodes", List, Scheduling),
    accepted("topology.scheduler.strategy", Text, Scheduling),
    accepted("topology.scheduler.unfavored.nodes", List, Scheduling),
    accepted("topology.serialized.message.size.metrics", Bool, Metrics),
    accepted("topology.shellbolt.max.pending", COUNT, Multilang),
    accepted("topology.skip.missing.kryo.registrations", Bool, Serialization),
    accepted("topology.sleep.spout.wait.strategy.time.ms", COUNT, Leftover).of_components(),
    accepted("topology.spout.max.batch.size", COUNT, Trident),
    accepted("topology.spout.recvq.skips", COUNT, Flow),
    accepted("topology.spout.wait.park.microsec", AMOUNT, Flow),
    accepted("topology.spout.wait.progressive.level1.count", COUNT, Flow),
    accepted("topology.spout.wait.progressive.level2.count", COUNT, Flow),
    accepted("topology.spout.wait.progressive.level3.sleep.millis", AMOUNT, Flow),
    accepted("topology.spout.wait.strategy", Text, Flow).of_components(),
    accepted("topology.spread.components", List, Scheduling),
    accepted("topology.state.checkpoint.interval.ms", COUNT, Windows),
    accepted("topology.state.kryo.register", List, Serialization),
    accepted("topology.state.provider", Text, Windows).of_components(),
    accepted("topology.state.provider.config", Text, Windows).of_components(),
    accepted("topology.state.synchronization.timeout.secs", COUNT, Leftover),
    accepted("topology.stats.ewma.enable", Bool, Metrics),
    accepted("topology.stats.ewma.smoothing.factor", NUMBER, Metrics),
    accepted("topology.stats.sample.rate", AMOUNT, Metrics),
    accepted("topology.submitter.principal", Text, System),
    accepted("topology.submitter.user", Text, System),
    accepted("topology.subprocess.timeout.secs", COUNT, Multilang),
    honoured("topology.tasks", Int { min: 1, max: MAX_TASKS }, "null").of_components(),
    honoured("topology.testing.always.try.serialize", Bool, "false"),
    honoured("topology.tick.tuple.freq.secs", Seconds, "null").of_components(),
    accepted("topology.transactional.id", Text, Trident).of_components(),
    accepted("topology.transfer.batch.size", COUNT, Flow),
    accepted("topology.transfer.buffer.size", COUNT, Flow),
    accepted("topology.trident.batch.emit.interval.millis", COUNT, Trident),
    accepted("topology.trident.windowing.cache.tuple.limit", COUNT, Trident),
    accepted("topology.tuple.compression.enable", Bool, Serialization),
    accepted("topology.tuple.compression.max.decompressed.bytes", AMOUNT, Serialization),
    accepted("topology.tuple.compression.threshold", AMOUNT, Serialization),
    accepted("topology.tuple.serializer", Text, Serialization),
    accepted("topology.tuple.serializer.blowfish.key", Text, Serialization),
    accepted("topology.upstream.feedback.enable", Bool, Metrics),
    accepted("topology.upstream.feedback.freq.secs", COUNT, Metrics),
    accepted("topology.users", TextOrList, Security),
    accepted("topology.v2.metrics.tick.interval.seconds", COUNT, Metrics),
    accepted("topology.version", Text, Unread),
    accepted("topology.worker.childopts", TextOrList, Jvm),
    accepted("topology.worker.gc.childopts", TextOrList, Jvm),
    accepted("topology.worker.logwriter.childopts", TextOrList, Jvm),
    accepted("topology.worker.max.heap.size.mb", AMOUNT, Jvm),
    accepted("topology.worker.metrics", Map, Metrics),
    accepted("topology.worker.nimbus.thrift.client.use.tls", Bool, Security),
    accepted("topology.worker.receiver.thread.count", COUNT, Leftover),
    accepted("topology.worker.shared.thread.pool.size", INT, Flow),
    accepted("topology.worker.timeout.secs", COUNT, Unread),
    honoured("topology.workers", Int { min: 1, max: 65_535 }, "1"),
    accepted("transactional.zookeeper.port", COUNT, Trident),
    accepted("transactional.zookeeper.root", Text, Trident),
    accepted("transactional.zookeeper.servers", List, Trident),
    accepted("ui.actions.enabled", Bool, Leftover),
    of_daemons("ui.central.logging.url", Text, "null"),
    accepted("ui.childopts", TextOrList, Jvm),
    accepted("ui.disable.http.binding", Bool, Unread),
    accepted("ui.disable.spout.lag.monitoring", Bool, Unread),
    accepted("ui.filter", Text, Unread),
    accepted("ui.filter.params", Map, Unread),
    accepted("ui.header.buffer.bytes", COUNT, Unread),
    of_daemons("ui.host", Text, "null"),
    accepted("ui.http.creds.plugin", Text, Unread),
    accepted("ui.https.enable.ssl.reload", Bool, Unread),
    accepted("ui.https.key.password", Text, Unread),
    accepted("ui.https.keystore.password", Text, Unread),
    accepted("ui.https.keystore.path", Text, Unread),
    accepted("ui.https.keystore.type", Text, Unread),
    accepted("ui.https.need.client.auth", Bool, Unread),
    accepted("ui.https.port", INT, Unread),
    accepted("ui.https.truststore.password", Text, Unread),
    accepted("ui.https.truststore.path", Text, Unread),
    accepted("ui.https.truststore.type", Text, Unread),
    accepted("ui.https.want.client.auth", Bool, Unread),
    accepted("ui.pagination", INT, Unread),
    of_daemons("ui.port", PORT, "8080"),
    of_daemons("ui.project.bugtracker.url", Text, "null"),
    of_daemons("ui.title", Text, r#""Storm UI""#),
    accepted("ui.users", Any, Leftover),
    accepted("worker.blob.update.poll.interval.secs", COUNT, Unread),
    accepted("worker.childopts", TextOrList, Jvm),
    accepted("worker.gc.childopts", TextOrList, Jvm),
    accepted("worker.heap.memory.mb", COUNT, Jvm),
    accepted("worker.heartbeat.frequency.secs", COUNT, Unread),
    accepted("worker.log.level.reset.poll.secs", COUNT, Unread),
    accepted("worker.max.timeout.secs", COUNT, Unread),
    accepted("worker.metrics", Map, Metrics),
    accepted("worker.profiler.childopts", TextOrList, Jvm),
    accepted("worker.profiler.command", Text, Jvm),
    accepted("worker.profiler.enabled", Bool, Jvm),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_unique() {
        for pair in KEYS.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} stands before {}", pair[0].name, pair[1].name);
        }
    }

    #[test]
    fn every_key_has_one_of_storms_prefixes_and_every_prefix_a_key() {
        for key in KEYS {
            assert!(storms_prefix(key.name).is_some(), "{}", key.name);
        }
        for prefix in PREFIXES {
            assert!(KEYS.iter().any(|key| key.name.starts_with(prefix)), "{prefix}");
        }
    }

    #[test]
    fn every_default_is_json_that_its_key_takes() {
        for key in KEYS {
            let (Stance::Honoured { default } | Stance::OfDaemons { default }) = key.stance else { continue };
            let value: Value = serde_json::from_str(default).unwrap();
            assert!(value.is_null() || key.kind.takes(&value), "{} = {default}", key.name);
        }
    }

    #[test]
    fn the_keys_that_a_component_may_have_are_storms() {
        let names: Vec<_> = KEYS.iter().filter(|key| key.of_components).map(|key| key.name).collect();
        assert_eq!(
            names,
            [
                "topology.bolts.late.tuple.stream",
                "topology.bolts.message.id.field.name",
                "topology.bolts.tuple.timestamp.max.lag.ms",
                "topology.bolts.watermark.event.interval.ms",
                "topology.bolts.window.length.count",
                "topology.bolts.window.length.duration.ms",
                "topology.bolts.window.sliding.interval.count",
                "topology.bolts.window.sliding.interval.duration.ms",
                "topology.component.cpu.pcore.percent",
                "topology.component.resources.map",
                "topology.component.resources.offheap.memory.mb",
                "topology.component.resources.onheap.memory.mb",
                "topology.debug",
                "topology.kryo.decorators",
                "topology.kryo.register",
                "topology.max.spout.pending",
                "topology.max.task.parallelism",
                "topology.sleep.spout.wait.strategy.time.ms",
                "topology.spout.wait.strategy",
                "topology.state.provider",
                "topology.state.provider.config",
                "topology.tasks",
                "topology.tick.tuple.freq.secs",
                "topology.transactional.id",
            ]
        );
    }

    #[test]
    fn suggestions() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(nearest(name).map(KeyInfo::name), expected, "{name}");
        };
        check("topology.mesage.timeout.secs", Some("topology.message.timeout.secs"));
        check("topology.message.timeout", Some("topology.message.timeout.secs"));
        check("topology.message.timeout.seconds", Some("topology.message.timeout.secs"));
        check("topology.max_spout_pending", Some("topology.max.spout.pending"));
        check("topology.maxSpoutPending", Some("topology.max.spout.pending"));
        check("TOPOLOGY_WORKERS", Some("topology.workers"));
        check("topology.worker", Some("topology.workers"));
        check("topolgy.workers", Some("topology.workers"));
        check("topology.ackers.executors", Some("topology.acker.executors"));
        check("topology.acker.executor", Some("topology.acker.executors"));
        check("topology.tick.tuple.freq", Some("topology.tick.tuple.freq.secs"));
        check("nimbus.seed", Some("nimbus.seeds"));
        check("supervisor.slot.ports", Some("supervisor.slots.ports"));
        check("storm.zookeeper.server", Some("storm.zookeeper.servers"));
        check("ui.prot", Some("ui.port"));
        check("topology.colour", None);
        check("storm.banana", None);
        check("", None);
        check(&"topology.workers".repeat(100), None);
    }

    #[test]
    fn no_two_keys_have_one_variable() {
        let variables: std::collections::BTreeSet<_> = KEYS.iter().map(KeyInfo::variable).collect();
        assert_eq!(variables.len(), KEYS.len());
    }

    /// The rows of the document's tables: key, what it takes, default.
    fn documented() -> Vec<[String; 3]> {
        let row = |line: &str| {
            let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
            [(); 3].map(|()| cells.next().unwrap_or_default())
        };
        include_str!("../../../docs/configuration.md").lines().filter(|line| line.starts_with("| `")).map(row).collect()
    }

    #[test]
    fn the_document_lists_what_is_acted_on() {
        let expected: Vec<_> = honoured_keys()
            .chain(keys_of_daemons())
            .map(|key| {
                let default = key.default_value();
                let default = if default.is_null() { "none".to_owned() } else { default.to_string() };
                [key.name().to_owned(), key.takes(), default]
            })
            .collect();
        assert_eq!(documented(), expected);
    }
}
