//! The typed settings of daemons and tools, made once at their start.
//!
//! Not here: where values come from (`configuration`), and those of topologies (`topology_api::config`). Invariant: what was made
//! makes sense; an address that others can reach is in it only if the operator said so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use topology_api::config::Config;

use crate::configuration::{Configuration, ConfigurationError};

/// What the daemons and tools read.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `storm.local.dir`, absolute.
    pub local_dir: PathBuf,
    /// `storm.log.dir`, absolute.
    pub log_dir: PathBuf,
    /// What this machine is called by others: `storm.local.hostname`, its host name, or `localhost` if all is on loopback.
    pub host: String,
    /// `storm.bind.address`.
    pub bind: IpAddr,
    /// `storm.zookeeper.servers` with `storm.zookeeper.port`: `host:port` of each.
    pub zookeeper_servers: Vec<String>,
    /// `storm.zookeeper.root`.
    pub zookeeper_root: String,
    /// `storm.zookeeper.session.timeout`.
    pub zookeeper_session: Duration,
    /// `nimbus.seeds` with `nimbus.api.port`: `host:port` of each Nimbus.
    pub nimbuses: Vec<String>,
    /// `nimbus.api.port`.
    pub nimbus_port: u16,
    /// `nimbus.supervisor.timeout.secs`.
    pub machine_timeout: Duration,
    /// `nimbus.slots.perTopology`.
    pub most_workers: Option<u32>,
    /// `nimbus.executors.perTopology`.
    pub most_executors: Option<u32>,
    /// `nimbus.inbox.jar.expiration.secs`.
    pub upload_expiration: Duration,
    /// `supervisor.slots.ports`.
    pub slots: Vec<u16>,
    /// `supervisor.worker.start.timeout.secs`.
    pub worker_start_timeout: Duration,
    /// `supervisor.worker.timeout.secs`.
    pub worker_timeout: Duration,
    /// `supervisor.worker.shutdown.sleep.secs`.
    pub shutdown_grace: Duration,
    /// `logviewer.cleanup.age.mins`.
    pub logs_kept: Duration,
    /// `ui.host` (or `storm.bind.address`) and `ui.port`.
    pub ui: SocketAddr,
    /// `storm.cluster.mode` is `distributed`.
    pub is_distributed: bool,
}

impl Settings {
    /// Makes them. `host_name` is what the machine calls itself.
    ///
    /// # Errors
    /// If a value makes no sense, in a sentence that names its key.
    pub fn of(configuration: &Configuration, host_name: &str) -> Result<Self, ConfigurationError> {
        let read = Reader(&configuration.config);
        let folder = |key| configuration.home.join(read.text(key));
        let bind = read.address("storm.bind.address")?;
        let ui = if read.0.get("ui.host").is_some() { read.address("ui.host")? } else { bind };
        let host = match read.0.get("storm.local.hostname") {
            Some(_) => read.host("storm.local.hostname")?,
            None if bind.is_loopback() => "localhost".to_owned(),
            None => host_name.to_owned(),
        };
        let nimbus_port = read.port("nimbus.api.port");
        // On loopback nobody answers under the machine's own name.
        let reachable = |seed: String| {
            let own = bind.is_loopback() && (seed == host_name || seed == host);
            if own { bind.to_string() } else { seed }
        };
        Ok(Settings {
            local_dir: folder("storm.local.dir"),
            log_dir: folder("storm.log.dir"),
            bind,
            zookeeper_servers: read.addresses(
                "storm.zookeeper.servers",
                read.port("storm.zookeeper.port"),
                |host| host,
            )?,
            zookeeper_root: read.text("storm.zookeeper.root"),
            zookeeper_session: Duration::from_millis(read.number("storm.zookeeper.session.timeout")),
            nimbuses: read.nimbuses(nimbus_port, reachable)?,
            nimbus_port,
            machine_timeout: read.seconds("nimbus.supervisor.timeout.secs"),
            most_workers: read.0.whole("nimbus.slots.perTopology"),
            most_executors: read.0.whole("nimbus.executors.perTopology"),
            upload_expiration: read.seconds("nimbus.inbox.jar.expiration.secs"),
            slots: read.slots()?,
            worker_start_timeout: read.seconds("supervisor.worker.start.timeout.secs"),
            worker_timeout: read.seconds("supervisor.worker.timeout.secs"),
            shutdown_grace: read.seconds("supervisor.worker.shutdown.sleep.secs"),
            logs_kept: Duration::from_secs(60 * read.number("logviewer.cleanup.age.mins")),
            ui: SocketAddr::new(ui, read.port("ui.port")),
            is_distributed: read.mode()?,
            host,
        })
    }
}

/// `storm.zookeeper.auth.scheme` and `storm.zookeeper.auth.payload`; apart from [`Settings`], which may be printed.
///
/// # Errors
/// If one stands there without the other, or the scheme is another than `digest`.
pub fn zookeeper_auth(config: &Config) -> Result<Option<(String, String)>, ConfigurationError> {
    let text = |key: &str| config.get(key).and_then(Value::as_str).map(str::to_owned);
    match (text("storm.zookeeper.auth.scheme"), text("storm.zookeeper.auth.payload")) {
        (None, None) => Ok(None),
        (Some(scheme), Some(payload)) if scheme == "digest" && payload.contains(':') => Ok(Some((scheme, payload))),
        (Some(scheme), Some(_)) if scheme == "digest" => {
            Err(wrong("`storm.zookeeper.auth.payload` must be `USER:PASSWORD`".to_owned()))
        }
        (Some(scheme), Some(_)) => Err(wrong(format!(
            "`storm.zookeeper.auth.scheme` is `{scheme}`, and only `digest` is supported; its payload is `USER:PASSWORD`"
        ))),
        (Some(_), None) => Err(wrong(
            "`storm.zookeeper.auth.scheme` is set and `storm.zookeeper.auth.payload` is not; set both or none"
                .to_owned(),
        )),
        (None, Some(_)) => Err(wrong(
            "`storm.zookeeper.auth.payload` is set and `storm.zookeeper.auth.scheme` is not; set both or none"
                .to_owned(),
        )),
    }
}

/// What this machine calls itself.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn wrong(why: String) -> ConfigurationError {
    ConfigurationError::Setting(why)
}

/// Keys that were checked: each has a value of its kind, or its default.
struct Reader<'a>(&'a Config);

impl Reader<'_> {
    fn text(&self, key: &str) -> String {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn number(&self, key: &str) -> u64 {
        self.0.whole(key).unwrap_or_default()
    }

    fn port(&self, key: &str) -> u16 {
        self.0.whole(key).unwrap_or_default()
    }

    fn seconds(&self, key: &str) -> Duration {
        self.0.seconds(key).unwrap_or_default()
    }

    fn host(&self, key: &str) -> Result<String, ConfigurationError> {
        let host = self.text(key);
        check_host(&host).map_err(|why| wrong(format!("`{key}`: {why}")))?;
        Ok(host)
    }

    /// An IP address that this process may listen at.
    fn address(&self, key: &str) -> Result<IpAddr, ConfigurationError> {
        let text = self.text(key);
        let address = match text.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            text => text.parse().map_err(|_| {
                wrong(format!("`{key}` takes an IP address, such as 127.0.0.1 or 0.0.0.0, found `{}`", shortened(text)))
            })?,
        };
        if !address.is_loopback() && self.0.bool("storm.network.allow.unauthenticated") != Some(true) {
            return Err(wrong(format!(
                "`{key}` is {address}, where others could reach this process, and nobody has to prove who they are yet; \
                 on a network that you trust set `storm.network.allow.unauthenticated: true`"
            )));
        }
        Ok(address)
    }

    /// `host:port` of each name in a list.
    fn addresses(
        &self,
        key: &str,
        port: u16,
        reachable: impl Fn(String) -> String,
    ) -> Result<Vec<String>, ConfigurationError> {
        let names = self.0.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        if names.is_empty() {
            return Err(wrong(format!("`{key}` is an empty list; name at least one host")));
        }
        let address = |name: &Value| {
            let name =
                name.as_str().ok_or_else(|| wrong(format!("`{key}` takes a list of host names, found {name}")))?;
            let (host, port) = split_port(name, port).map_err(|why| wrong(format!("`{key}`: {why}")))?;
            let host = reachable(host.to_owned());
            Ok(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
        };
        names.iter().map(address).collect()
    }

    fn nimbuses(&self, port: u16, reachable: impl Fn(String) -> String) -> Result<Vec<String>, ConfigurationError> {
        use topology_api::config::Origin;
        let seeds_are_set = self.0.origin("nimbus.seeds").is_some_and(|origin| *origin != Origin::Default);
        if seeds_are_set || self.0.get("nimbus.host").is_none() {
            return self.addresses("nimbus.seeds", port, reachable);
        }
        let host = reachable(self.host("nimbus.host")?);
        Ok(vec![if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }])
    }

    fn slots(&self) -> Result<Vec<u16>, ConfigurationError> {
        let key = "supervisor.slots.ports";
        let mut slots = Vec::new();
        for value in self.0.get(key).and_then(Value::as_array).into_iter().flatten() {
            let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
            let port = port
                .ok_or_else(|| wrong(format!("`{key}` takes a list of ports in 1 ..= 65535, found {value} in it")))?;
            if slots.contains(&port) {
                return Err(wrong(format!("`{key}` names port {port} twice; a slot has a port of its own")));
            }
            slots.push(port);
        }
        Ok(slots)
    }

    fn mode(&self) -> Result<bool, ConfigurationError> {
        match self.text("storm.cluster.mode").as_str() {
            "distributed" => Ok(true),
            "local" => Ok(false),
            other => {
                Err(wrong(format!("`storm.cluster.mode` takes `distributed` or `local`, found `{}`", shortened(other))))
            }
        }
    }
}

/// The host and the port of `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT` or a bare IPv6 address.
fn split_port(name: &str, port: u16) -> Result<(&str, u16), String> {
    if name.parse::<Ipv6Addr>().is_ok() {
        return Ok((name, port));
    }
    let (host, named) = match name.strip_prefix('[').and_then(|name| name.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, after)) => (host, Some(after.strip_prefix(':').unwrap_or_default())),
        None => name.split_once(':').map_or((name, None), |(host, named)| (host, Some(named))),
    };
    check_host(host)?;
    let Some(named) = named else { return Ok((host, port)) };
    let digits = named.bytes().all(|byte| byte.is_ascii_digit());
    match named.parse().ok().filter(|port| digits && *port > 0) {
        Some(port) => Ok((host, port)),
        None => Err(format!("`{}` has no port in 1 ..= 65535 behind its host", shortened(name))),
    }
}

/// A name or an address, without a port.
fn check_host(host: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    match host {
        "" => Err("a host name is empty".to_owned()),
        host if host.parse::<Ipv6Addr>().is_ok() => Ok(()),
        host if host.len() <= 255 && host.bytes().all(fits) => Ok(()),
        host => Err(format!("`{}` is no host name", shortened(host))),
    }
}

/// Safe to print, and at most a line.
fn shortened(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::{Flags, Surroundings};

    fn settings(assignments: &[&str]) -> Result<Settings, String> {
        let surroundings = Surroundings { storm_home: Some("/opt/storm".into()), ..Surroundings::default() };
        let assignments = assignments.iter().map(|text| (*text).to_owned()).collect();
        let flags = Flags { assignments, ..Flags::default() };
        let configuration = Configuration::read(&surroundings, &flags).unwrap();
        Settings::of(&configuration, "node7").map_err(|error| error.to_string())
    }

    #[test]
    fn defaults() {
        let settings = settings(&[]).unwrap();
        assert_eq!(settings.local_dir, PathBuf::from("/opt/storm/storm-local"));
        assert_eq!(settings.log_dir, PathBuf::from("/opt/storm/logs"));
        assert_eq!((settings.host.as_str(), settings.bind.to_string().as_str()), ("localhost", "127.0.0.1"));
        assert_eq!(settings.zookeeper_servers, ["localhost:2181"]);
        assert_eq!(settings.zookeeper_session, Duration::from_secs(6));
        assert_eq!(settings.nimbuses, ["127.0.0.1:6628"]);
        assert_eq!(settings.slots, [6700, 6701, 6702, 6703]);
        assert_eq!(settings.ui.to_string(), "127.0.0.1:8080");
        assert_eq!(settings.logs_kept, Duration::from_secs(10_080 * 60));
        assert_eq!(settings.worker_timeout, Duration::from_secs(30));
    }

    #[test]
    fn folders_that_are_absolute_stay() {
        let settings = settings(&["storm.local.dir=/var/storm", "storm.log.dir=log"]).unwrap();
        assert_eq!((settings.local_dir, settings.log_dir), ("/var/storm".into(), "/opt/storm/log".into()));
    }

    #[test]
    fn hosts_have_ports_of_their_own_or_the_common_one() {
        let settings = settings(&[
            "storm.zookeeper.servers=[\"zk1\",\"zk2:2182\",\"::1\",\"[::1]:2183\"]",
            "storm.zookeeper.port=2000",
            "nimbus.seeds=[\"n1\",\"n2:7\"]",
        ])
        .unwrap();
        assert_eq!(settings.zookeeper_servers, ["zk1:2000", "zk2:2182", "[::1]:2000", "[::1]:2183"]);
        assert_eq!(settings.nimbuses, ["n1:6628", "n2:7"]);
    }

    #[test]
    fn a_port_that_is_none_is_refused() {
        for (name, why) in [
            ("127.0.0.1:99999", "`127.0.0.1:99999` has no port in 1 ..= 65535 behind its host"),
            ("n1:0", "`n1:0` has no port in 1 ..= 65535 behind its host"),
            ("n1:", "`n1:` has no port in 1 ..= 65535 behind its host"),
            ("n1:+7", "`n1:+7` has no port in 1 ..= 65535 behind its host"),
            ("n1:2:3", "`n1:2:3` has no port in 1 ..= 65535 behind its host"),
            ("[::1]:abc", "`[::1]:abc` has no port in 1 ..= 65535 behind its host"),
            ("[::1]7", "`[::1]7` has no port in 1 ..= 65535 behind its host"),
            (":7", "a host name is empty"),
            ("[n1", "`[n1` is no host name"),
        ] {
            let refused = settings(&[&format!("nimbus.seeds=[\"{name}\"]")]).unwrap_err();
            assert_eq!(refused, format!("`nimbus.seeds`: {why}"));
        }
        let refused = settings(&["nimbus.host=127.0.0.1:16628"]).unwrap_err();
        assert_eq!(refused, "`nimbus.host`: `127.0.0.1:16628` is no host name");
        assert_eq!(settings(&["nimbus.host=::1"]).unwrap().nimbuses, ["[::1]:6628"]);
        assert_eq!(settings(&["nimbus.seeds=[\"[::1]\"]"]).unwrap().nimbuses, ["[::1]:6628"]);
    }

    #[test]
    fn the_old_name_counts_where_the_new_one_is_not_set() {
        assert_eq!(settings(&["nimbus.host=n1"]).unwrap().nimbuses, ["n1:6628"]);
        assert_eq!(settings(&["nimbus.host=n1", "nimbus.seeds=[\"n2\"]"]).unwrap().nimbuses, ["n2:6628"]);
    }

    #[test]
    fn on_loopback_the_machine_is_asked_there() {
        assert_eq!(settings(&["nimbus.host=node7"]).unwrap().nimbuses, ["127.0.0.1:6628"]);
        let open = ["nimbus.host=node7", "storm.bind.address=0.0.0.0", "storm.network.allow.unauthenticated=true"];
        let open = settings(&open).unwrap();
        assert_eq!((open.nimbuses, open.host), (vec!["node7:6628".to_owned()], "node7".to_owned()));
    }

    #[test]
    fn each_address_that_others_reach_needs_a_word() {
        let refused = settings(&["ui.host=10.0.0.1"]).unwrap_err();
        assert!(refused.starts_with("`ui.host` is 10.0.0.1, where others could reach this process"), "{refused}");
        let refused = settings(&["storm.bind.address=example"]).unwrap_err();
        assert_eq!(refused, "`storm.bind.address` takes an IP address, such as 127.0.0.1 or 0.0.0.0, found `example`");
        let settings = settings(&["ui.host=localhost", "ui.port=0"]).unwrap();
        assert_eq!(settings.ui.to_string(), "127.0.0.1:0");
    }

    #[test]
    fn the_secret_of_zookeeper_stands_with_its_scheme_and_stays_out_of_messages() {
        let auth = |assignments: &[&str]| {
            let mut config = Config::of_daemons();
            for assignment in assignments {
                config.add_flag(assignment);
            }
            zookeeper_auth(&config).map_err(|error| error.to_string())
        };
        let (digest, payload) = ("storm.zookeeper.auth.scheme=digest", "storm.zookeeper.auth.payload=storm:hush");
        assert_eq!(auth(&[]), Ok(None));
        assert_eq!(auth(&[digest, payload]), Ok(Some(("digest".to_owned(), "storm:hush".to_owned()))));
        for wrong in [
            &[digest][..],
            &[payload],
            &[digest, "storm.zookeeper.auth.payload=hush"],
            &["storm.zookeeper.auth.scheme=sasl", payload],
        ] {
            let refused = auth(wrong).unwrap_err();
            assert!(refused.contains("`storm.zookeeper.auth.") && !refused.contains("hush"), "{refused}");
        }
    }
}
