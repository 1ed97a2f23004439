//! From what Nimbus says to Storm's JSON, as pure functions: one file for each resource.
//!
//! Not here: asking, routes, headers (`rest`). Invariant: every key that Storm sends is sent, null or empty where there is
//! nothing to say; times of day come as arguments.

pub(crate) mod cluster;
pub(crate) mod component;
pub(crate) mod format;
pub(crate) mod nimbus;
pub(crate) mod owner;
pub(crate) mod secrets;
mod statistics;
pub(crate) mod supervisor;
pub(crate) mod topology;
pub(crate) mod window;

use std::collections::BTreeMap;

use serde_json::Value;

/// What of the machine's own configuration shows in answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// `logviewer.port`: where links to logs lead, on the worker's machine.
    pub(crate) logviewer_port: u16,
    /// `ui.project.bugtracker.url`.
    pub(crate) bugtracker_url: Option<String>,
    /// `ui.central.logging.url`.
    pub(crate) central_log_url: Option<String>,
    /// `scheduler.display.resource`: whether Storm's pages show columns of resources.
    pub(crate) display_resource: bool,
    /// `host:port` of each Nimbus that should be there.
    pub(crate) nimbuses: Vec<String>,
}

impl Site {
    /// From a machine's configuration, with Storm's defaults for what is not set.
    pub(crate) fn of(configuration: &BTreeMap<String, Value>, nimbuses: Vec<String>) -> Site {
        let text = |key: &str| configuration.get(key).and_then(Value::as_str).map(str::to_owned);
        let port = configuration.get("logviewer.port").and_then(Value::as_u64);
        Site {
            logviewer_port: port.and_then(|port| port.try_into().ok()).unwrap_or(8000),
            bugtracker_url: text("ui.project.bugtracker.url"),
            central_log_url: text("ui.central.logging.url"),
            display_resource: configuration.get("scheduler.display.resource") == Some(&Value::Bool(true)),
            nimbuses,
        }
    }

    /// The link to a worker's log.
    fn worker_log(&self, host: &str, topology: &str, port: u16) -> String {
        let file = format::form_encoded(&format!("{topology}/{port}/worker.log"));
        format!("http://{}:{}/api/v1/log?file={file}", format::url_host(host), self.logviewer_port)
    }

    /// The link to a daemon's log.
    fn daemon_log(&self, host: &str, file: &str) -> String {
        format!("http://{}:{}/api/v1/daemonlog?file={file}", format::url_host(host), self.logviewer_port)
    }
}
