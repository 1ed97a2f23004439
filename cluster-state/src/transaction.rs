//! What a transaction does to a tree of values: all its writes, or the first op that does not fit.
//!
//! Not here: the tree (`memory`, `file`; ZooKeeper does this by itself). Invariant: a pure function; each op sees what those
//! before it did.

use std::collections::BTreeMap;

use crate::store::{COMMIT_BYTES, Conflict, Op, Path, RECORD_BYTES, StoreError, Version};

/// What an op has to know of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) version: Version,
    /// The session that it goes with.
    pub(crate) owner: Option<u64>,
}

/// A value to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) value: Vec<u8>,
    pub(crate) standing: Standing,
}

/// What becomes of each path that is touched; `None`: its value goes.
pub(crate) type Writes = BTreeMap<Path, Option<Write>>;

/// Works out `ops` of the session `owner` over the tree that `standing` looks into.
pub(crate) fn writes(
    ops: Vec<Op>,
    owner: u64,
    standing: impl Fn(&Path) -> Result<Option<Standing>, StoreError>,
) -> Result<Writes, StoreError> {
    let mut writes = Writes::new();
    for op in ops {
        let path = path(&op).clone();
        let found = match writes.get(&path) {
            Some(write) => write.as_ref().map(|write| write.standing),
            None => standing(&path)?,
        };
        let expected = match &op {
            Op::Create(..) | Op::CreateEphemeral(..) if found.is_some() => Err(Conflict::Exists),
            Op::Create(..) | Op::CreateEphemeral(..) => Ok(()),
            Op::Check(_, version) | Op::Delete(_, version) => fits(found, *version),
            Op::Set(_, _, version) => fits(found, Some(*version)),
        };
        if let Err(conflict) = expected {
            return Err(StoreError::Conflict { path, conflict });
        }
        let write = |value, version, owner| Some(Write { value, standing: Standing { version, owner } });
        match op {
            Op::Check(..) => {}
            Op::Create(_, value) => drop(writes.insert(path, write(value, Version(0), None))),
            Op::CreateEphemeral(_, value) => drop(writes.insert(path, write(value, Version(0), Some(owner)))),
            Op::Set(_, value, Version(version)) => {
                let owner = found.and_then(|found| found.owner);
                writes.insert(path, write(value, Version(version + 1), owner));
            }
            Op::Delete(..) => drop(writes.insert(path, None)),
        }
    }
    Ok(writes)
}

fn fits(found: Option<Standing>, version: Option<Version>) -> Result<(), Conflict> {
    match (found, version) {
        (None, _) => Err(Conflict::Missing),
        (Some(found), Some(version)) if found.version != version => Err(Conflict::Changed),
        (Some(_), _) => Ok(()),
    }
}

/// The place that an op speaks of.
pub(crate) fn path(op: &Op) -> &Path {
    match op {
        Op::Check(path, _)
        | Op::Create(path, _)
        | Op::CreateEphemeral(path, _)
        | Op::Set(path, ..)
        | Op::Delete(path, _) => path,
    }
}

/// Refuses what no store keeps.
pub(crate) fn check_lengths(ops: &[Op]) -> Result<(), StoreError> {
    let mut total = 0;
    for op in ops {
        let bytes = match op {
            Op::Create(path, value) | Op::CreateEphemeral(path, value) | Op::Set(path, value, _)
                if value.is_empty() =>
            {
                return Err(StoreError::Refused(format!("`{path}` would be empty: a value has at least one byte")));
            }
            Op::Create(_, value) | Op::CreateEphemeral(_, value) | Op::Set(_, value, _) => value.len(),
            Op::Check(..) | Op::Delete(..) => 0,
        };
        if bytes > RECORD_BYTES {
            return Err(StoreError::TooLong { path: path(op).clone(), bytes });
        }
        total += bytes + path(op).as_str().len();
    }
    if total > COMMIT_BYTES {
        return Err(StoreError::Refused(format!(
            "a transaction of {} steps would have {total} bytes, at most {COMMIT_BYTES} are allowed: split it",
            ops.len()
        )));
    }
    Ok(())
}
