//! Who leads: at most one Nimbus, as there is one record `leader`.
//!
//! Its guard `leads/TOKEN` is made with it in one transaction and goes with the same session; each write of a leader checks
//! it, so one that slept cannot write. A Nimbus that finds its own record, of a life or a session before, takes the lead from
//! itself: its folder is locked, so nobody else has its id.
//!
//! Not here: what a leader does. Invariant: who holds a token led when its record was written; whether it still does is
//! found out by the check.

use cluster_state::board::{Board, Read, ReadError};
use cluster_state::paths;
use cluster_state::records::{Lead, Leader, Nimbus};
use cluster_state::store::StoreError;
use seam::Seam;
use worker_api::ids::BlobHash;

/// What came of an election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Election {
    /// This Nimbus leads: the token names its guard.
    Won(BlobHash),
    /// Another one does.
    Lost(Leader),
}

/// Says that this Nimbus is there, and leads if nobody else does. `held` is the token of the lead that it has already.
///
/// Who has won has written the record of the lead: what it reads from then on is no older than the last write of any lead before.
///
/// # Errors
/// If the cluster state does not answer, or the leader's record cannot be understood.
pub(crate) async fn elect(
    board: &Board,
    me: &Nimbus,
    held: Option<&BlobHash>,
    seam: &Seam,
) -> Result<Election, ReadError> {
    announce(board, me).await?;
    loop {
        let mut change = board.change();
        if let Some(Read { record: found, .. }) = board.read::<Leader>(&paths::leader()).await? {
            if found.nimbus != me.id {
                if let Some(held) = held {
                    // The leader's record was removed by hand: this guard must not let two of them write.
                    match board.commit(board.change().delete(paths::lead(held))).await {
                        Ok(()) | Err(StoreError::Conflict { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                return Ok(Election::Lost(found));
            }
            if held == Some(&found.token) {
                return Ok(Election::Won(found.token));
            }
            change = change.delete(paths::leader());
            let guard = paths::lead(&found.token);
            // Removed by hand, it must not keep everybody from leading.
            if !matches!(board.read::<Lead>(&guard).await, Ok(None)) {
                change = change.delete(guard);
            }
        }
        let token = BlobHash::of(seam.random_key());
        let leader = Leader { nimbus: me.id.clone(), host: me.host.clone(), port: me.port, token: token.clone() };
        let change = change
            .create_ephemeral(paths::leader(), leader)
            .create_ephemeral(paths::lead(&token), Lead { nimbus: me.id.clone() });
        match board.commit(change).await {
            Ok(()) => return Ok(Election::Won(token)),
            // Somebody was faster, or a session ended meanwhile.
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes who this is, in this session; a record of a session before is replaced.
async fn announce(board: &Board, me: &Nimbus) -> Result<(), ReadError> {
    let path = paths::nimbus(&me.id);
    loop {
        let change = match board.read::<Nimbus>(&path).await {
            Ok(None) => board.change(),
            Ok(Some(_)) | Err(ReadError::Unreadable { .. }) => board.change().delete(path.clone()),
            Err(error) => return Err(error),
        };
        match board.commit(change.create_ephemeral(path.clone(), me.clone())).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes back that this Nimbus is there, and the lead if it is `held`, so that others need not wait for the session to end.
///
/// # Errors
/// If the cluster state does not answer.
pub(crate) async fn resign(board: &Board, me: &Nimbus, held: Option<&BlobHash>) -> Result<(), StoreError> {
    let mut change = board.change().delete(paths::nimbus(&me.id));
    if let Some(token) = held {
        change = change.delete(paths::lead(token)).delete(paths::leader());
    }
    board.commit(change).await
}
