//! Configuration of topologies, daemons and tools: Storm's keys, layered, checked, and told the truth.
//!
//! Not here: reading a file from disk (the caller has its text), and what the daemons do with their keys.
//! Invariant: which layer wins depends on the layers alone, never on the order in which they were added.

mod error;
mod keys;
mod topology;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

pub use error::{ConfigError, ConfigErrors};
pub use keys::{KeyInfo, all_known, known, nearest};
pub use topology::{ComponentSettings, TopologySettings};

/// Where a value came from. A later one here wins over an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A file of this name; of several, the one added last wins.
    File(String),
    /// An environment variable of this name.
    Environment(String),
    /// The topology's own code.
    Code,
    /// `-c KEY=VALUE` on the command line; of several, the last wins.
    Flag,
    /// The code, for the component of this name alone.
    Component(String),
}

impl Origin {
    fn layer(&self) -> u8 {
        match self {
            Origin::Default => 0,
            Origin::File(_) => 1,
            Origin::Environment(_) => 2,
            Origin::Code => 3,
            Origin::Flag => 4,
            Origin::Component(_) => 5,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("the defaults"),
            Origin::File(name) => f.write_str(name),
            Origin::Environment(name) => write!(f, "the environment's `{name}`"),
            Origin::Code => f.write_str("the topology's code"),
            Origin::Flag => f.write_str("`-c`"),
            Origin::Component(name) => write!(f, "component `{name}`"),
        }
    }
}

/// Configuration by key, with where each value came from. Collects without complaint; [`Config::check`] and
/// [`Config::settings`] report all mistakes at once.
///
/// ```
/// use std::time::Duration;
/// use topology_api::config::Config;
///
/// let mut config = Config::new();
/// config.add_flag("topology.workers=2");
/// config.add_yaml("conf.yaml", "topology.workers: 4\ntopology.message.timeout.secs: 1.5\nmy.greeting: hello");
/// let settings = config.settings()?;
/// assert_eq!(settings.workers, 2);
/// assert_eq!(settings.message_timeout, Some(Duration::from_millis(1500)));
/// assert_eq!(config.get("my.greeting"), Some(&"hello".into()));
///
/// config.set("topology.mesage.timeout.secs", 3);
/// assert_eq!(
///     config.settings().unwrap_err().to_string(),
///     "unknown key `topology.mesage.timeout.secs` in the topology's code; did you mean `topology.message.timeout.secs`?"
/// );
/// # Ok::<(), topology_api::config::ConfigErrors>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Config {
    entries: BTreeMap<String, Entry>,
    /// What could not even be read.
    unreadable: Vec<ConfigError>,
    whose: Whose,
}

/// Who reads it.
#[derive(Clone, Copy, PartialEq)]
enum Whose {
    /// Daemons and the command line.
    Daemons,
    Topology,
    /// One component: the topology's own mistakes are not told again.
    Component,
}

#[derive(Clone, PartialEq)]
struct Entry {
    value: Value,
    origin: Origin,
}

impl Default for Config {
    fn default() -> Self {
        Config::new()
    }
}

impl Config {
    /// The defaults of a topology.
    pub fn new() -> Self {
        Config::with_defaults(Whose::Topology, keys::honoured_keys())
    }

    /// The defaults of the daemons and the command line, and those of topologies among them.
    pub fn of_daemons() -> Self {
        Config::with_defaults(Whose::Daemons, keys::keys_of_daemons().chain(keys::honoured_keys()))
    }

    fn with_defaults(whose: Whose, keys: impl Iterator<Item = &'static KeyInfo>) -> Self {
        let default =
            |key: &KeyInfo| (key.name().to_owned(), Entry { value: key.default_value(), origin: Origin::Default });
        Config { entries: keys.map(default).collect(), unreadable: Vec::new(), whose }
    }

    /// Sets a key by the topology's code. Null stands for the default.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) -> &mut Self {
        self.put(Origin::Code, key, value)
    }

    /// Adds a `-c KEY=VALUE` of the command line. The value is JSON; what is no JSON, or belongs to a key that takes text,
    /// is text.
    pub fn add_flag(&mut self, assignment: &str) -> &mut Self {
        let Some((key, text)) = assignment.split_once('=').filter(|(key, _)| !key.trim().is_empty()) else {
            self.unreadable.push(ConfigError::NotAnAssignment { found: assignment.to_owned() });
            return self;
        };
        let key = key.trim();
        self.put(Origin::Flag, key, read_value(key, text))
    }

    /// Adds each known key whose [variable](KeyInfo::variable) `variable` has a value for; an empty one counts as none.
    /// Values are read as after `-c`.
    pub fn add_environment(&mut self, variable: impl Fn(&str) -> Option<String>) -> &mut Self {
        for key in keys::all_known() {
            let name = key.variable();
            if let Some(text) = variable(&name).filter(|text| !text.is_empty()) {
                self.put(Origin::Environment(name), key.name(), read_value(key.name(), &text));
            }
        }
        self
    }

    /// Adds the text of a YAML file: a map of flat keys, as in `storm.yaml`, or such a map under the sole key `config`.
    /// `name` is what messages call the file. Within limits of size and depth; a key that stands twice is a mistake.
    pub fn add_yaml(&mut self, name: &str, text: &str) -> &mut Self {
        let origin = Origin::File(name.to_owned());
        let entries = match serde_saphyr::from_str::<Value>(text) {
            Ok(Value::Null) => return self,
            Ok(Value::Object(mut entries)) => match entries.remove("config") {
                Some(Value::Object(inner)) if entries.is_empty() => inner,
                Some(own) => {
                    entries.insert("config".to_owned(), own);
                    entries
                }
                None => entries,
            },
            Ok(other) => {
                self.unreadable.push(ConfigError::NotAMap { origin, found: error::describe(&other, None) });
                return self;
            }
            Err(error) => {
                self.unreadable.push(ConfigError::Malformed { origin, reason: yaml_reason(&error) });
                return self;
            }
        };
        for (key, value) in entries {
            self.put(origin.clone(), key, value);
        }
        self
    }

    /// Sets a key as coming from `origin`, unless a stronger origin has set it. Null stands for the default.
    pub fn put(&mut self, origin: Origin, key: impl Into<String>, value: impl Into<Value>) -> &mut Self {
        let (key, mut value) = (key.into(), value.into());
        if value.is_null() {
            value = known(&key).map_or(Value::Null, KeyInfo::default_value);
        }
        if self.entries.get(&key).is_none_or(|entry| entry.origin.layer() <= origin.layer()) {
            self.entries.insert(key, Entry { value, origin });
        }
        self
    }

    /// Adds all that `other` has: stronger origins win, `other` at the same origin.
    pub fn merge(&mut self, other: Config) -> &mut Self {
        for (key, Entry { value, origin }) in other.entries {
            self.put(origin, key, value);
        }
        self.unreadable.extend(other.unreadable);
        self
    }

    /// What the tasks of one component have: its own values over the topology's. Its mistakes and notices are those of its
    /// own values alone.
    pub fn for_component(&self, name: &str, own: impl IntoIterator<Item = (String, Value)>) -> Config {
        let mut config = Config { unreadable: Vec::new(), whose: Whose::Component, ..self.clone() };
        for (key, value) in own {
            config.put(Origin::Component(name.to_owned()), key, value);
        }
        config
    }

    /// The value of a key; `None` if it has none, or null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).map(|entry| &entry.value).filter(|value| !value.is_null())
    }

    /// Where the value of a key came from.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.entries.get(key).map(|entry| &entry.origin)
    }

    /// Every key that has a value, by name, with where it came from.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value, &Origin)> {
        let with_value = self.entries.iter().filter(|(_, entry)| !entry.value.is_null());
        with_value.map(|(key, entry)| (key.as_str(), &entry.value, &entry.origin))
    }

    /// Looks for keys that do not exist, values that their keys do not take, and keys that a component cannot have.
    ///
    /// # Errors
    /// All of them at once.
    pub fn check(&self) -> Result<(), ConfigErrors> {
        let mut errors = self.unreadable.clone();
        errors.extend(self.own_entries().filter_map(|(key, entry)| entry.mistake(key)));
        ConfigErrors::unless_empty(errors)
    }

    /// What is worth saying although nothing is wrong: which keys have no effect, one line for each reason, and which keys
    /// of the user's look like misspelt ones of Storm's.
    pub fn notices(&self) -> Vec<String> {
        let mut without_effect: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut notices = Vec::new();
        for (key, entry) in self.own_entries() {
            match known(key) {
                Some(info) => {
                    let is_read = info.is_of_daemons() && self.whose == Whose::Daemons;
                    if let Some(why) = info.without_effect().filter(|_| !is_read) {
                        without_effect.entry(why).or_default().push(format!("`{key}`"));
                    }
                }
                None if keys::storms_prefix(key).is_none() => {
                    if let Some(meant) = keys::nearest(key) {
                        let (origin, meant) = (&entry.origin, meant.name());
                        notices.push(format!(
                            "`{key}` in {origin} is taken as a key of your own; did you mean `{meant}`?"
                        ));
                    }
                }
                None => {}
            }
        }
        let on = if self.whose == Whose::Daemons { "" } else { " on a topology" };
        let lines = without_effect.into_iter();
        notices.extend(lines.map(|(why, keys)| format!("without effect{on}, as {why}: {}", keys.join(", "))));
        notices
    }

    /// What was set; for a component, by its own code.
    fn own_entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let own = |entry: &Entry| match entry.origin {
            Origin::Default => false,
            Origin::Component(_) => true,
            Origin::File(_) | Origin::Environment(_) | Origin::Code | Origin::Flag => self.whose != Whose::Component,
        };
        self.entries.iter().filter(move |(_, entry)| own(entry)).map(|(key, entry)| (key.as_str(), entry))
    }
}

impl Entry {
    fn mistake(&self, key: &str) -> Option<ConfigError> {
        let origin = self.origin.clone();
        let Some(info) = known(key) else {
            let flat = flattened(key, &self.value);
            keys::storms_prefix(&flat)?;
            return Some(if flat == key {
                let suggestion = keys::nearest(key).map(KeyInfo::name);
                ConfigError::UnknownKey { key: key.to_owned(), origin, suggestion }
            } else {
                ConfigError::NestedKey { key: key.to_owned(), origin, flat: flat.into_owned() }
            });
        };
        if matches!(origin, Origin::Component(_)) && !info.is_of_components() {
            let why = match info.without_effect() {
                Some(why) if !key.starts_with("topology.") => why,
                _ => "it holds for the whole topology: set it there",
            };
            return Some(ConfigError::NotOfComponents { key: info.name(), origin, why });
        }
        if self.value.is_null() || info.kind.takes(&self.value) {
            return None;
        }
        let found = error::describe(&self.value, Some(info));
        Some(ConfigError::WrongValue { key: info.name(), origin, expected: info.takes(), found })
    }
}

/// The key with the first keys of the maps in its value: what somebody meant who wrote `topology: {workers: 3}`.
fn flattened<'a>(key: &'a str, value: &Value) -> Cow<'a, str> {
    match value.as_object().and_then(|map| map.iter().next()) {
        Some((inner, value)) if known(key).is_none() => {
            Cow::Owned(flattened(&format!("{key}.{inner}"), value).into_owned())
        }
        _ => Cow::Borrowed(key),
    }
}

/// The value that a text stands for: JSON, unless it is none or the key takes text.
fn read_value(key: &str, text: &str) -> Value {
    let as_text = Value::from(text);
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_null() || known(key).is_none_or(|info| info.kind.takes(&value)) => value,
        Ok(_) if known(key).is_some_and(|info| info.kind.takes(&as_text)) => as_text,
        Ok(value) => value,
        Err(_) => as_text,
    }
}

/// The library's words, but for those that speak to a programmer.
fn yaml_reason(error: &serde_saphyr::Error) -> String {
    let error = error.without_snippet();
    match error {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), location } => {
            format!("key `{key}` stands there twice, again at line {}, column {}", location.line(), location.column())
        }
        _ => error.to_string(),
    }
}

/// Values stay out: some are secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.entries.iter().map(|(key, entry)| (key, &entry.origin))).finish()
    }
}

#[cfg(test)]
mod tests;
