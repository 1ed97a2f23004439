//! Names and numbers of a cluster: topologies, machines, workers and their lives, blobs.
//!
//! Not here: tasks and components (`topology_api::ids`). Invariants: a name that exists fits its grammar, so it is safe in a
//! path, a URL and a page; an incarnation only counts up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a topology, a component, a stream, a file.
pub const NAME_BYTES: usize = 96;
/// Longest id.
pub const ID_BYTES: usize = 128;

/// A name or an id outside its grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{found}` is not allowed: {why}")]
pub struct BadName {
    /// What it should name.
    pub what: &'static str,
    /// What was given, cut to a length that fits a line.
    pub found: String,
    /// Which rule it breaks.
    pub why: String,
}

/// Checks `[A-Za-z0-9_][A-Za-z0-9._-]*` of at most `most` bytes, without `..`, not beginning with `__`.
fn check_name(what: &'static str, name: &str, most: usize) -> Result<(), BadName> {
    let bad = |why: String| {
        let found = name.chars().take(ID_BYTES).flat_map(char::escape_default).collect();
        Err(BadName { what, found, why })
    };
    let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let rest = |byte: u8| first(byte) || byte == b'.' || byte == b'-';
    match name.as_bytes() {
        [] => bad("it is empty".to_owned()),
        bytes if bytes.len() > most => bad(format!("it has {} bytes, at most {most} are allowed", bytes.len())),
        bytes if !first(bytes[0]) => bad("it must begin with a letter, a digit or `_`".to_owned()),
        bytes if !bytes.iter().all(|byte| rest(*byte)) => {
            bad("it may have letters, digits, `_`, `.` and `-` only".to_owned())
        }
        _ if name.contains("..") => bad("`..` must not stand in it".to_owned()),
        _ if name.starts_with("__") => bad("names that begin with `__` are the runtime's own".to_owned()),
        _ => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $most:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks it.
            ///
            /// # Errors
            /// If it is outside the grammar.
            pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
                let name = name.into();
                check_name($what, &name, $most)?;
                Ok($name(name))
            }

            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(name: String) -> Result<Self, BadName> {
                $name::new(name)
            }
        }

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(name: &str) -> Result<Self, BadName> {
                $name::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// What a user calls a topology; one that runs has it alone.
    TopologyName,
    "the topology name",
    NAME_BYTES
);
name!(
    /// One submission: `NAME-COUNT-SECONDS`, as Storm forms it.
    TopologyId,
    "the topology id",
    ID_BYTES
);
name!(
    /// A machine's Supervisor, kept on its disk.
    SupervisorId,
    "the Supervisor id",
    ID_BYTES
);
name!(
    /// A Nimbus, kept on its disk.
    NimbusId,
    "the Nimbus id",
    ID_BYTES
);
name!(
    /// A file that lies in a worker's folder: `--file NAME=PATH`.
    FileName,
    "the file name",
    NAME_BYTES
);

impl TopologyId {
    /// The id of a submission: the `count`-th of the cluster, made at this second since 1970.
    pub fn of(name: &TopologyName, count: u64, epoch_secs: u64) -> Self {
        // 96 + 2 + at most 20 + 10 digits fit 128 bytes, and the grammar.
        TopologyId(format!("{name}-{count}-{epoch_secs}"))
    }
}

/// SHA-256 of a blob's bytes, as 64 lower-case hexadecimal digits; it is the blob's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobHash(String);

impl BlobHash {
    /// From the digest's bytes.
    pub fn of(digest: [u8; 32]) -> Self {
        BlobHash(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BlobHash {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(digit) {
            return Ok(BlobHash(text));
        }
        let found = text.chars().take(ID_BYTES).flat_map(char::escape_default).collect();
        let why = "a SHA-256 has 64 lower-case hexadecimal digits".to_owned();
        Err(BadName { what: "the blob hash", found, why })
    }
}

impl FromStr for BlobHash {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        text.to_owned().try_into()
    }
}

impl From<BlobHash> for String {
    fn from(hash: BlobHash) -> String {
        hash.0
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a slot: the port that its worker listens at for links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(pub u16);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A worker of the topology: its place in the plan, 0-based.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerIndex(pub u16);

impl fmt::Display for WorkerIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One start of a slot's worker; its Supervisor counts it up, durably, before each start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A version of a topology's plan; 0 is none yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanVersion(pub u64);

impl fmt::Display for PlanVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the changes of a topology's record: who acts on one says which, so that others know what it has heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of a plan's worker. A later life is greater: first the plan counts, then the incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Life {
    /// The version of the plan at which the slot or its tasks last changed.
    pub plan: PlanVersion,
    /// The start of the worker that it is.
    pub incarnation: Incarnation,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "incarnation {} of plan {}", self.incarnation, self.plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_the_grammar() {
        for good in ["word-count", "_x", "0", "a.b", &"n".repeat(96)] {
            assert_eq!(TopologyName::new(good).map(String::from).as_deref(), Ok(good));
        }
        for (bad, why) in [
            ("", "it is empty"),
            ("a/b", "it may have letters, digits, `_`, `.` and `-` only"),
            ("a..b", "`..` must not stand in it"),
            (".a", "it must begin with a letter, a digit or `_`"),
            ("__a", "names that begin with `__` are the runtime's own"),
            ("ä", "it must begin with a letter, a digit or `_`"),
            (&"n".repeat(97), "it has 97 bytes, at most 96 are allowed"),
        ] {
            assert_eq!(TopologyName::new(bad).unwrap_err().why, why, "{bad}");
        }
        assert_eq!(
            TopologyName::new("<b>\n").unwrap_err().to_string(),
            "the topology name `<b>\\n` is not allowed: it must begin with a letter, a digit or `_`"
        );
        let longest = TopologyId::of(&TopologyName::new("n".repeat(96)).unwrap(), u64::MAX, 9_999_999_999);
        assert_eq!(TopologyId::new(longest.to_string()), Ok(longest));
    }

    #[test]
    fn names_are_checked_where_they_are_read_back() {
        let read = serde_json::from_str::<TopologyId>(r#""../../etc""#).unwrap_err().to_string();
        assert!(read.starts_with("the topology id `../../etc` is not allowed: it must begin with"), "{read}");
        let read = serde_json::from_str::<BlobHash>(r#""ABC""#).unwrap_err().to_string();
        assert!(read.starts_with("the blob hash `ABC` is not allowed: a SHA-256 has 64 lower-case"), "{read}");
    }
}
