//! Which task of a subscriber a tuple goes to: the groupings by name, keys, and the trait for one's own.
//!
//! Not here: moving tuples to those tasks (`output::route`). Invariant: the task of a key depends on the key's canonical
//! bytes and the number of tasks alone, so typed and dynamic wiring agree in every worker.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::TaskId;
use crate::tuple::{FieldTokens, Key, KeyBytes, KeyGroup, Tuple};

/// How a subscriber's tasks share a stream, as it stands in the graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type", content = "fields")]
#[non_exhaustive]
pub enum Grouping {
    /// Evenly, in whole batches, to tasks that have room.
    Shuffle,
    /// As shuffle, among the tasks of the same worker if it has any.
    LocalOrShuffle,
    /// By the named fields: the same key always goes to the same task.
    Fields(Vec<String>),
    /// By the named fields to one of two tasks, the one that had less.
    PartialKey(Vec<String>),
    /// To every task.
    All,
    /// To the task with the lowest id.
    Global,
    /// Wherever; today as shuffle.
    None,
    /// To the task that the emitter names.
    Direct,
    /// By the author's own rule, named here for the graph.
    Custom(String),
}

impl Grouping {
    /// Fields grouping by names: `Grouping::fields(["word"])`.
    pub fn fields<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Grouping::Fields(names.into_iter().map(Into::into).collect())
    }

    /// Partial key grouping by names.
    pub fn partial_key<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Grouping::PartialKey(names.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grouping::Shuffle => f.write_str("shuffle"),
            Grouping::LocalOrShuffle => f.write_str("local-or-shuffle"),
            Grouping::Fields(names) => write!(f, "fields({})", names.join(", ")),
            Grouping::PartialKey(names) => write!(f, "partial-key({})", names.join(", ")),
            Grouping::All => f.write_str("all"),
            Grouping::Global => f.write_str("global"),
            Grouping::None => f.write_str("none"),
            Grouping::Direct => f.write_str("direct"),
            Grouping::Custom(name) => write!(f, "custom({name})"),
        }
    }
}

/// A grouping of one's own. One instance serves one sending task and one subscription, so instances do not see each
/// other's choices.
///
/// ```
/// use topology_api::grouping::CustomGrouping;
/// use topology_api::ids::TaskId;
///
/// /// The first tasks get the short ones.
/// struct ByLength;
/// impl CustomGrouping<String> for ByLength {
///     fn choose(&mut self, text: &String, tasks: &[TaskId], chosen: &mut Vec<TaskId>) {
///         chosen.push(tasks[text.len().min(tasks.len() - 1)]);
///     }
/// }
/// let mut chosen = Vec::new();
/// ByLength.choose(&"hello".into(), &[TaskId(4), TaskId(5)], &mut chosen);
/// assert_eq!(chosen, [TaskId(5)]);
/// ```
pub trait CustomGrouping<T>: Send + 'static {
    /// Called once before the first tuple, with the subscriber's tasks in ascending order.
    fn prepare(&mut self, tasks: &[TaskId]) {
        let _ = tasks;
    }

    /// Puts the tasks that shall get this tuple into `chosen`, which is empty; left empty, nobody gets it and its branch
    /// of the tree is complete. A task that is not among `tasks` fails the tuple's root. Called from the sending task.
    fn choose(&mut self, tuple: &T, tasks: &[TaskId], chosen: &mut Vec<TaskId>);
}

/// Keys of a whole batch at once, so that the user's closure is inlined in the loop.
pub(crate) trait KeyOf<T>: Send + Sync {
    /// Appends one entry for each tuple: the hash of its key.
    fn hashes(&self, tuples: &[T], key: &mut KeyBytes, hashes: &mut Vec<KeyHash>);
}

/// The 64-bit hash of a key; its group is a function of it.
pub(crate) type KeyHash = u64;

pub(crate) struct ByReference<F, K: ?Sized>(pub(crate) F, pub(crate) PhantomData<fn(&K)>);

impl<T, K: Key + ?Sized, F: for<'a> Fn(&'a T) -> &'a K + Send + Sync> KeyOf<T> for ByReference<F, K> {
    fn hashes(&self, tuples: &[T], key: &mut KeyBytes, hashes: &mut Vec<KeyHash>) {
        hashes.extend(tuples.iter().map(|tuple| (self.0)(tuple).hash_key(key)));
    }
}

pub(crate) struct ByValue<F, K>(pub(crate) F, pub(crate) PhantomData<fn(K)>);

impl<T, K: Key, F: Fn(&T) -> K + Send + Sync> KeyOf<T> for ByValue<F, K> {
    fn hashes(&self, tuples: &[T], key: &mut KeyBytes, hashes: &mut Vec<KeyHash>) {
        hashes.extend(tuples.iter().map(|tuple| (self.0)(tuple).hash_key(key)));
    }
}

pub(crate) struct ByTokens<F>(pub(crate) F);

impl<T, F: FieldTokens<T> + Send + Sync> KeyOf<T> for ByTokens<F> {
    fn hashes(&self, tuples: &[T], key: &mut KeyBytes, hashes: &mut Vec<KeyHash>) {
        hashes.extend(tuples.iter().map(|tuple| self.0.hash_key(tuple, key)));
    }
}

/// Fields by their place in the tuple: what names come down to, once the stream's fields are known.
pub(crate) struct ByIndex(pub(crate) Vec<usize>);

impl<T: Tuple> KeyOf<T> for ByIndex {
    fn hashes(&self, tuples: &[T], key: &mut KeyBytes, hashes: &mut Vec<KeyHash>) {
        hashes.extend(tuples.iter().map(|tuple| {
            key.clear();
            key.begin_fields(self.0.len());
            tuple.write_key_of(&self.0, key);
            key.hash()
        }));
    }
}

/// The part of a grouping that needs the stream's type.
pub(crate) enum TypedGrouping<T> {
    Key(Arc<dyn KeyOf<T>>),
    Custom(Arc<dyn Fn() -> Box<dyn CustomGrouping<T>> + Send + Sync>),
}

/// A grouping as a subscription holds it: what the graph shows, and the typed part behind `Any`.
#[derive(Clone)]
pub(crate) struct GroupingSpec {
    pub(crate) shown: Grouping,
    pub(crate) typed: Option<Arc<dyn Any + Send + Sync>>,
}

impl GroupingSpec {
    pub(crate) fn plain(shown: Grouping) -> Self {
        GroupingSpec { shown, typed: None }
    }

    pub(crate) fn typed<T: Tuple>(shown: Grouping, typed: TypedGrouping<T>) -> Self {
        GroupingSpec { shown, typed: Some(Arc::new(typed)) }
    }
}

/// The two tasks that a key may go to under partial key grouping; equal if there is one task only.
pub(crate) fn two_candidates(hash: KeyHash, tasks: usize) -> (usize, usize) {
    let first = KeyGroup::of_hash(hash).task_index(tasks);
    if tasks < 2 {
        return (first, first);
    }
    let second = (first + 1 + (hash >> 32) as usize % (tasks - 1)) % tasks;
    (first, second)
}
