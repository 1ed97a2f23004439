//! The typed settings that the runtime reads: made once, when a topology starts.
//!
//! Not here: which keys there are and what they take (`keys`). Invariant: a setting that was made is within its key's range.

use std::time::Duration;

use serde_json::Value;

use super::error::ConfigErrors;
use super::{Config, keys};

/// What holds for the whole topology.
#[derive(Clone, Debug, PartialEq)]
pub struct TopologySettings {
    /// `topology.name`, if it is set; the graph's builder checks its grammar.
    pub name: Option<String>,
    /// `topology.workers`: worker processes, at least one.
    pub workers: u16,
    /// `topology.message.timeout.secs`: how long a tuple may be held. `None` if `topology.enable.message.timeouts` is false.
    pub message_timeout: Option<Duration>,
    /// `topology.max.spout.pending`: roots that a spout task may have pending; `None`: the limit adapts.
    pub max_spout_pending: Option<u32>,
    /// Whether tuple trees are tracked: `topology.acker.executors` is not 0.
    pub tracking: bool,
    /// `topology.executor.receive.buffer.size`: tuples that an executor's inbox holds, at least one.
    pub inbox_tuples: u32,
    /// `topology.max.task.parallelism`: most tasks and executors that a component gets.
    pub max_task_parallelism: Option<u32>,
    /// `topology.debug`: log each batch that is sent or executed, and each root's end.
    pub debug: bool,
    /// `topology.testing.always.try.serialize`: serialize between executors of one worker too.
    pub always_serialize: bool,
    /// `topology.error.throttle.interval.secs`: the span in which a task's reported errors are counted.
    pub error_interval: Duration,
    /// `topology.max.error.report.per.interval`: most errors that a task reports in that span.
    pub max_errors_per_interval: u32,
}

/// What a single component may have its own value of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ComponentSettings {
    /// `topology.max.spout.pending`: roots that each of a spout's tasks may have pending; `None`: the limit adapts.
    pub max_spout_pending: Option<u32>,
    /// `topology.tick.tuple.freq.secs`: how often a bolt's tasks get a tick; `None`: never.
    pub tick: Option<Duration>,
    /// `topology.debug`: log each batch that is sent or executed, and each root's end.
    pub debug: bool,
    /// `topology.tasks`: tasks; `None`: one for each executor.
    pub tasks: Option<u32>,
    /// `topology.max.task.parallelism`: most tasks and executors.
    pub max_task_parallelism: Option<u32>,
}

const HAS_DEFAULT: &str = "the key has a default, and every value of it was checked";

impl Config {
    /// What the runtime reads for the whole topology.
    ///
    /// # Errors
    /// All that [`Config::check`] finds.
    pub fn settings(&self) -> Result<TopologySettings, ConfigErrors> {
        self.check()?;
        let message_timeout = self.seconds("topology.message.timeout.secs").expect(HAS_DEFAULT);
        let timeouts = self.bool("topology.enable.message.timeouts").expect(HAS_DEFAULT);
        Ok(TopologySettings {
            name: self.usable("topology.name").and_then(Value::as_str).map(str::to_owned),
            workers: self.whole("topology.workers").expect(HAS_DEFAULT),
            message_timeout: timeouts.then_some(message_timeout),
            max_spout_pending: self.whole("topology.max.spout.pending"),
            tracking: self.whole::<i64>("topology.acker.executors") != Some(0),
            inbox_tuples: self.whole("topology.executor.receive.buffer.size").expect(HAS_DEFAULT),
            max_task_parallelism: self.whole("topology.max.task.parallelism"),
            debug: self.bool("topology.debug").expect(HAS_DEFAULT),
            always_serialize: self.bool("topology.testing.always.try.serialize").expect(HAS_DEFAULT),
            error_interval: self.seconds("topology.error.throttle.interval.secs").expect(HAS_DEFAULT),
            max_errors_per_interval: self.whole("topology.max.error.report.per.interval").expect(HAS_DEFAULT),
        })
    }

    /// What the runtime reads for one component: call it on what [`Config::for_component`] made. On the topology's own it
    /// gives what components without own values have.
    ///
    /// # Errors
    /// All that [`Config::check`] finds. A value of the topology that is wrong counts as not set: `settings` reports it.
    pub fn component_settings(&self) -> Result<ComponentSettings, ConfigErrors> {
        self.check()?;
        Ok(ComponentSettings {
            max_spout_pending: self.whole("topology.max.spout.pending"),
            tick: self.seconds("topology.tick.tuple.freq.secs"),
            debug: self.bool("topology.debug").unwrap_or(false),
            tasks: self.whole("topology.tasks"),
            max_task_parallelism: self.whole("topology.max.task.parallelism"),
        })
    }

    /// The value of a known key, if there is one and it is what the key takes.
    pub fn usable(&self, key: &str) -> Option<&Value> {
        let kind = keys::known(key)?.kind;
        self.get(key).filter(|value| kind.takes(value))
    }

    /// The whole number of a known key, if it has one that fits.
    pub fn whole<T: TryFrom<i64>>(&self, key: &str) -> Option<T> {
        self.usable(key).and_then(keys::whole).and_then(|number| T::try_from(number).ok())
    }

    /// The time of a known key that takes seconds, if it has one.
    pub fn seconds(&self, key: &str) -> Option<Duration> {
        self.usable(key).and_then(Value::as_f64).map(Duration::from_secs_f64)
    }

    /// Whether a known key is set, if it has a value that it takes.
    pub fn bool(&self, key: &str) -> Option<bool> {
        self.usable(key).and_then(Value::as_bool)
    }
}
