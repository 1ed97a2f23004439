//! Who leads: at most one Nimbus, as there is one record `leader`.
//!
//! Its guard `leads/TOKEN` is made with it in one transaction and goes with the same session; each write of a leader checks
//! it, so one that slept cannot write. A Nimbus that finds its own record, of a life or a session before, takes the lead from
//! itself: its folder is locked, so nobody else has its id.
//!
//! Not here: what a leader does. Invariant: who holds a token led when its record was written; whether it still does is
//! found out by the check.

use std::time::Duration;

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

/// Pause before the leader's record is looked at again, while its guard is gone already.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Says that this Nimbus is there, and leads if nobody else does. `held` is the token of the lead that it has already, `won`
/// that of the last one that it won in this session, whether it has it or not.
///
/// Who has won has written the record of the lead: what it reads from then on is no older than the last write of any lead before.
///
/// # Errors
/// If the cluster state does not answer, or the leader's record cannot be understood.
pub(crate) async fn elect(
    board: &Board,
    me: &Nimbus,
    held: Option<&BlobHash>,
    won: Option<&BlobHash>,
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
            let guard = paths::lead(&found.token);
            if matches!(board.read::<Lead>(&guard).await, Ok(None)) {
                if won == Some(&found.token) {
                    // Removed by hand, it must not keep everybody from leading. It is made again, in the record's session.
                    let again = board.change().create_ephemeral(guard, Lead { nimbus: me.id.clone() });
                    match board.commit(again).await {
                        Ok(()) | Err(StoreError::Conflict { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                } else {
                    // The session that made both has ended, or is about to. Without the guard nothing says that the record
                    // that is deleted is the one that was read: it may be another Nimbus's by then.
                    seam.sleep(LOOK_AGAIN).await;
                }
                continue;
            }
            change = change.delete(guard).delete(paths::leader());
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cluster_state::memory::{Memory, MemorySession};
    use worker_api::ids::NimbusId;

    use super::*;

    fn nimbus(name: &str) -> Nimbus {
        let id = NimbusId::new(name).unwrap();
        Nimbus { id, host: name.to_owned(), port: 6628, version: "0.1.0".to_owned(), started_ms: 0 }
    }

    fn board(memory: &Memory, writer: &str) -> (Arc<MemorySession>, Arc<Board>) {
        let session = memory.session();
        (session.clone(), Arc::new(Board::new(session, writer.to_owned())))
    }

    async fn leader(board: &Board) -> Option<String> {
        board.read::<Leader>(&paths::leader()).await.unwrap().map(|found| found.record.nimbus.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_of_a_life_before_whose_guard_is_gone_is_left_to_its_session() {
        let (memory, seam) = (Memory::default(), Seam::seeded(1));
        let (session_before, before) = board(&memory, "n1-before");
        let Ok(Election::Won(token)) = elect(&before, &nimbus("n1"), None, None, &seam).await else {
            panic!("nobody else is there");
        };
        // What a Nimbus sees that reads the record before its session has ended, and the guard after it.
        before.commit(before.change().delete(paths::lead(&token))).await.unwrap();
        let (_session, after) = board(&memory, "n1-after");
        let (on, n1) = (after.clone(), nimbus("n1"));
        let election = tokio::spawn(async move { elect(&on, &n1, None, None, &Seam::seeded(2)).await });
        seam.sleep(Duration::from_secs(5)).await;
        assert_eq!(leader(&after).await.as_deref(), Some("n1"));
        assert!(!election.is_finished());
        // The session ends, and another Nimbus is faster: its lead stays.
        session_before.lose();
        let (_other_session, other) = board(&memory, "n2");
        let won = elect(&other, &nimbus("n2"), None, None, &seam).await;
        assert!(matches!(won, Ok(Election::Won(_))), "{won:?}");
        let lost = election.await.unwrap();
        assert!(matches!(&lost, Ok(Election::Lost(leader)) if leader.host == "n2"), "{lost:?}");
        assert_eq!(leader(&after).await.as_deref(), Some("n2"));
        assert_eq!(after.children(&paths::leads()).await.unwrap().len(), 1);
    }
}
