//! What every store does, and the board on it.
//!
//! Not here: what is special to one of them (`file`, `zookeeper`). Invariant: one text for all three.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use cluster_state::board::{Board, ReadError};
use cluster_state::memory::Memory;
use cluster_state::paths;
use cluster_state::records::{Lead, Leader, NameTaken, Submissions};
use cluster_state::store::{
    COMMIT_BYTES, Conflict, Op, Path, RECORD_BYTES, Session, Store, StoreError, Version, Versioned,
};
use futures_util::{FutureExt, poll};
use worker_api::ids::{BlobHash, NimbusId, SupervisorId, TopologyId, TopologyName};

use crate::homes::{Home, TestSession, connected, eventually};

/// Makes a test of each case for a home.
macro_rules! cases {
    ($home:ident: $($case:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let case = async { super::$case(&crate::homes::Home::$home()).await };
            tokio::time::timeout(crate::homes::LONGEST_CASE, case).await.expect("the case does not end");
        })*
    };
}

/// What holds for every store.
macro_rules! all_cases {
    ($home:ident) => {
        cases! { $home:
            a_value_is_made_replaced_and_removed
            what_does_not_fit_is_a_conflict
            a_transaction_happens_as_a_whole_or_not
            an_op_sees_those_before_it
            children_are_sorted_and_folders_come_and_go
            long_values_are_kept_and_longer_ones_refused
            ephemeral_values_go_with_their_session
            a_watch_tells_of_changes_below_it_alone
            no_change_is_lost_between_reading_and_watching
            several_sessions_see_one_order
            sessions_share_folders
            a_leader_that_lost_its_session_writes_no_more
            an_unreadable_record_is_named_and_leaves_the_others
            each_record_names_its_writer_and_a_number
            a_record_that_is_too_long_is_refused_before_anything_happens
        }
    };
}

/// What holds for those that are reached over a connection.
macro_rules! connection_cases {
    ($home:ident) => {
        cases! { $home:
            a_cut_connection_is_told_and_comes_back
            a_lost_session_is_told
            a_lost_answer_may_mean_either
            the_board_settles_lost_answers
        }
    };
}

mod on_memory {
    all_cases!(memory);
    connection_cases!(memory);
}

mod on_a_file {
    all_cases!(file);
}

mod on_zookeeper {
    all_cases!(zookeeper);
    connection_cases!(zookeeper);
}

fn topology(id: &str) -> Path {
    paths::topology(&id.parse::<TopologyId>().unwrap())
}

fn part(id: &str, byte: u8) -> Path {
    paths::plan_part(&id.parse().unwrap(), &BlobHash::of([byte; 32]))
}

fn head(id: &str) -> Path {
    paths::plan_head(&id.parse().unwrap())
}

fn create(path: &Path, value: &str) -> Op {
    Op::Create(path.clone(), value.into())
}

fn set(path: &Path, value: &str, version: u64) -> Op {
    Op::Set(path.clone(), value.into(), Version(version))
}

fn delete(path: &Path) -> Op {
    Op::Delete(path.clone(), None)
}

fn conflict(path: &Path, conflict: Conflict) -> Result<(), StoreError> {
    Err(StoreError::Conflict { path: path.clone(), conflict })
}

async fn read(store: &Arc<dyn Store>, path: &Path) -> Option<(String, u64)> {
    let Versioned { value, version } = store.read(path).await.unwrap()?;
    Some((String::from_utf8(value).unwrap(), version.0))
}

fn found(value: &str, version: u64) -> Option<(String, u64)> {
    Some((value.to_owned(), version))
}

async fn a_value_is_made_replaced_and_removed(home: &Home) {
    let TestSession { store, .. } = &home.session().await;
    let path = topology("a-1-1");
    assert_eq!(read(store, &path).await, None);
    store.commit(vec![create(&path, "one")]).await.unwrap();
    assert_eq!(read(store, &path).await, found("one", 0));
    store.commit(vec![set(&path, "two", 0)]).await.unwrap();
    assert_eq!(read(store, &path).await, found("two", 1));
    store.commit(vec![Op::Check(path.clone(), Some(Version(1))), Op::Check(path.clone(), None)]).await.unwrap();
    store.commit(vec![Op::Delete(path.clone(), Some(Version(1)))]).await.unwrap();
    assert_eq!(read(store, &path).await, None);
    store.commit(vec![create(&path, "again")]).await.unwrap();
    assert_eq!(read(store, &path).await, found("again", 0));
    store.commit(Vec::new()).await.unwrap();
}

async fn what_does_not_fit_is_a_conflict(home: &Home) {
    let TestSession { store, .. } = &home.session().await;
    let (here, missing) = (topology("here-1-1"), topology("missing-2-1"));
    store.commit(vec![create(&here, "one")]).await.unwrap();
    store.commit(vec![set(&here, "two", 0)]).await.unwrap();
    let all = [
        (create(&here, "x"), conflict(&here, Conflict::Exists)),
        (Op::CreateEphemeral(here.clone(), b"x".to_vec()), conflict(&here, Conflict::Exists)),
        (set(&here, "x", 0), conflict(&here, Conflict::Changed)),
        (set(&here, "x", u64::MAX), conflict(&here, Conflict::Changed)),
        (set(&missing, "x", 0), conflict(&missing, Conflict::Missing)),
        (delete(&missing), conflict(&missing, Conflict::Missing)),
        (Op::Delete(missing.clone(), Some(Version(0))), conflict(&missing, Conflict::Missing)),
        (Op::Delete(here.clone(), Some(Version(0))), conflict(&here, Conflict::Changed)),
        (Op::Check(missing.clone(), None), conflict(&missing, Conflict::Missing)),
        (Op::Check(missing.clone(), Some(Version(0))), conflict(&missing, Conflict::Missing)),
        (Op::Check(here.clone(), Some(Version(0))), conflict(&here, Conflict::Changed)),
    ];
    for (op, expected) in all {
        assert_eq!(store.commit(vec![op.clone()]).await, expected, "{op:?}");
        assert_eq!(read(store, &here).await, found("two", 1));
        assert_eq!(read(store, &missing).await, None);
    }
}

async fn a_transaction_happens_as_a_whole_or_not(home: &Home) {
    let TestSession { store, .. } = &home.session().await;
    let (one, two, deep) = (topology("one-1-1"), topology("two-2-1"), part("one-1-1", 7));
    store.commit(vec![create(&one, "one")]).await.unwrap();
    let ops = vec![
        set(&one, "changed", 0),
        create(&deep, "part"),
        Op::CreateEphemeral(paths::leader(), b"me".to_vec()),
        delete(&two),
        create(&one, "never looked at"),
    ];
    assert_eq!(store.commit(ops).await, conflict(&two, Conflict::Missing));
    assert_eq!(read(store, &one).await, found("one", 0));
    assert_eq!(read(store, &paths::leader()).await, None);
    assert_eq!(store.children(&paths::plans()).await.unwrap(), [""; 0]);
    let ops = vec![set(&one, "changed", 0), create(&deep, "part"), create(&two, "two")];
    store.commit(ops).await.unwrap();
    assert_eq!(read(store, &one).await, found("changed", 1));
    assert_eq!(read(store, &deep).await, found("part", 0));
    assert_eq!(read(store, &two).await, found("two", 0));
}

async fn an_op_sees_those_before_it(home: &Home) {
    let TestSession { store, .. } = &home.session().await;
    let (one, two) = (topology("one-1-1"), topology("two-2-1"));
    let ops = vec![create(&one, "a"), set(&one, "b", 0), Op::Check(one.clone(), Some(Version(1))), create(&two, "c")];
    store.commit(ops).await.unwrap();
    assert_eq!(read(store, &one).await, found("b", 1));
    store.commit(vec![delete(&one), create(&one, "d")]).await.unwrap();
    assert_eq!(read(store, &one).await, found("d", 0));
    let refused = store.commit(vec![delete(&one), Op::Check(one.clone(), None)]).await;
    assert_eq!(refused, conflict(&one, Conflict::Missing));
    assert_eq!(read(store, &one).await, found("d", 0));
    let refused = store.commit(vec![delete(&two), delete(&two)]).await;
    assert_eq!(refused, conflict(&two, Conflict::Missing));
    store.commit(vec![create(&part("x-1-1", 1), "1"), delete(&part("x-1-1", 1))]).await.unwrap();
    assert_eq!(store.children(&paths::plans()).await.unwrap(), [""; 0]);
}

async fn children_are_sorted_and_folders_come_and_go(home: &Home) {
    let TestSession { store, .. } = &home.session().await;
    let plan = |id: &str| paths::plan(&id.parse().unwrap());
    assert_eq!(store.children(&paths::plans()).await.unwrap(), [""; 0]);
    let ids = ["b-1-1", "a-b-2-1", "a-3-1", "a.c-4-1", "a"];
    for id in ids {
        store.commit(vec![create(&part(id, 1), "1"), create(&part(id, 2), "2"), create(&head(id), "h")]).await.unwrap();
    }
    assert_eq!(store.children(&paths::plans()).await.unwrap(), ["a", "a-3-1", "a-b-2-1", "a.c-4-1", "b-1-1"]);
    assert_eq!(store.children(&plan("a")).await.unwrap(), ["head", "parts"]);
    let parts = paths::plan_parts(&"a".parse().unwrap());
    assert_eq!(store.children(&parts).await.unwrap(), ["01".repeat(32), "02".repeat(32)]);
    // A folder is no value, and a value no folder.
    assert_eq!(read(store, &plan("a")).await, None);
    assert_eq!(read(store, &paths::plans()).await, None);
    assert_eq!(store.children(&head("a")).await.unwrap(), [""; 0]);
    store.commit(vec![delete(&part("a", 1))]).await.unwrap();
    assert_eq!(store.children(&parts).await.unwrap(), ["02".repeat(32)]);
    store.commit(vec![delete(&part("a", 2))]).await.unwrap();
    assert_eq!(store.children(&plan("a")).await.unwrap(), ["head"]);
    store.commit(vec![delete(&head("a"))]).await.unwrap();
    assert_eq!(store.children(&paths::plans()).await.unwrap(), ["a-3-1", "a-b-2-1", "a.c-4-1", "b-1-1"]);
    for id in &ids[..4] {
        store.commit(vec![delete(&head(id)), delete(&part(id, 2)), delete(&part(id, 1))]).await.unwrap();
    }
    assert_eq!(store.children(&paths::plans()).await.unwrap(), [""; 0]);
    store.commit(vec![create(&head("a"), "h")]).await.unwrap();
    assert_eq!(store.children(&paths::plans()).await.unwrap(), ["a"]);
}

async fn long_values_are_kept_and_longer_ones_refused(home: &Home) {
    let TestSession { store, .. } = &home.session().await;
    let path = topology("long-1-1");
    let longest: Vec<u8> = (0..RECORD_BYTES).map(|at| (at % 251) as u8).collect();
    store.commit(vec![Op::Create(path.clone(), longest.clone())]).await.unwrap();
    assert_eq!(store.read(&path).await.unwrap().unwrap().value, longest);
    let longer = vec![0; RECORD_BYTES + 1];
    let refused = store.commit(vec![delete(&path), Op::Set(path.clone(), longer, Version(0))]).await.unwrap_err();
    assert_eq!(refused, StoreError::TooLong { path: path.clone(), bytes: 262_145 });
    assert_eq!(refused.to_string(), "`topologies/long-1-1` would have 262145 bytes, at most 262144 are allowed");
    assert_eq!(store.read(&path).await.unwrap().unwrap().value, longest);

    let refused = store.commit(vec![delete(&path), create(&path, "")]).await.unwrap_err().to_string();
    assert_eq!(refused, "`topologies/long-1-1` would be empty: a value has at least one byte");
    assert_eq!(store.read(&path).await.unwrap().unwrap().value, longest);

    // As much as a transaction may have, and one byte more.
    let big = |bytes: usize| -> Vec<Op> {
        let paths = [part("big", 1), part("big", 2), part("big", 3), part("big", 4)];
        let rest = bytes - 3 * 200_000 - paths.iter().map(|path| path.as_str().len()).sum::<usize>();
        let sizes = [200_000, 200_000, 200_000, rest];
        paths.into_iter().zip(sizes).map(|(path, bytes)| Op::Create(path, vec![b'x'; bytes])).collect()
    };
    let refused = store.commit(big(COMMIT_BYTES + 1)).await.unwrap_err().to_string();
    assert_eq!(refused, "a transaction of 4 steps would have 786433 bytes, at most 786432 are allowed: split it");
    assert_eq!(store.children(&paths::plans()).await.unwrap(), [""; 0]);
    store.commit(big(COMMIT_BYTES)).await.unwrap();
    assert_eq!(store.children(&paths::plan_parts(&"big".parse().unwrap())).await.unwrap().len(), 4);
}

async fn ephemeral_values_go_with_their_session(home: &Home) {
    let session = home.short_session().await;
    let supervisor = paths::supervisor(&SupervisorId::new("m1").unwrap());
    let kept = topology("kept-1-1");
    let ops = vec![
        Op::CreateEphemeral(paths::leader(), b"me".to_vec()),
        Op::CreateEphemeral(supervisor.clone(), b"one".to_vec()),
        create(&kept, "kept"),
    ];
    session.store.commit(ops).await.unwrap();
    session.store.commit(vec![set(&supervisor, "two", 0)]).await.unwrap();
    assert_eq!(read(&session.store, &supervisor).await, found("two", 1));
    assert_eq!(session.store.children(&paths::supervisors()).await.unwrap(), ["m1"]);
    let session = home.lose(session).await;
    assert_eq!(read(&session.store, &paths::leader()).await, None);
    assert_eq!(read(&session.store, &supervisor).await, None);
    assert_eq!(session.store.children(&paths::supervisors()).await.unwrap(), [""; 0]);
    assert_eq!(read(&session.store, &kept).await, found("kept", 0));
    // The next session makes its own.
    session.store.commit(vec![Op::CreateEphemeral(paths::leader(), b"me again".to_vec())]).await.unwrap();
    assert_eq!(read(&session.store, &paths::leader()).await, found("me again", 0));
}

async fn a_watch_tells_of_changes_below_it_alone(home: &Home) {
    let (session, writer) = (home.session().await, home.session().await);
    let (store, writer) = (&session.store, &writer.store);
    let (path, id) = (head("a-1-1"), "a-1-1".parse().unwrap());
    let mut watches =
        [store.watch(&paths::plans()), store.watch(&paths::plan(&id)), store.watch(&paths::plan_head(&id))];
    let mut others = [store.watch(&paths::topologies()), store.watch(&paths::plan(&"a".parse().unwrap()))];
    // What the connecting counts for is told once.
    for watch in watches.iter_mut().chain(&mut others) {
        assert_eq!(watch.changed().now_or_never(), None);
    }
    let ops = [create(&path, "one"), set(&path, "two", 0), delete(&path)];
    for op in ops {
        writer.commit(vec![op]).await.unwrap();
        for watch in &mut watches {
            watch.changed().await;
        }
        // Reading after the change finds no further one on its way.
        read(store, &path).await;
        for watch in &mut watches {
            while watch.changed().now_or_never().is_some() {}
        }
    }
    for other in &mut others {
        assert_eq!(other.changed().now_or_never(), None);
    }
    // A wait that is given up loses nothing.
    assert_eq!(watches[0].changed().now_or_never(), None);
    writer.commit(vec![create(&path, "three")]).await.unwrap();
    watches[0].changed().await;
}

async fn no_change_is_lost_between_reading_and_watching(home: &Home) {
    const CHANGES: u64 = 200;
    let (reader, writer) = (home.session().await, home.session().await);
    let path = topology("counted-1-1");
    writer.store.commit(vec![create(&path, "0")]).await.unwrap();
    let writing = tokio::spawn({
        let path = path.clone();
        async move {
            let writer = &writer;
            for version in 0..CHANGES {
                writer.store.commit(vec![set(&path, "x", version)]).await.unwrap();
            }
        }
    });
    let mut watch = reader.store.watch(&path);
    let mut seen = 0;
    while seen < CHANGES {
        let (_, version) = read(&reader.store, &path).await.unwrap();
        assert!(version >= seen, "{version} after {seen}");
        seen = version;
        if seen < CHANGES {
            watch.changed().await;
        }
    }
    writing.await.unwrap();
}

async fn several_sessions_see_one_order(home: &Home) {
    const EACH: u64 = 25;
    let path = topology("shared-1-1");
    let first = home.session().await;
    first.store.commit(vec![create(&path, ":")]).await.unwrap();
    let mut writers = Vec::new();
    for name in ["a", "b", "c"] {
        let (session, path) = (home.session().await, path.clone());
        writers.push(tokio::spawn(async move {
            let session = &session;
            let mut done = 0;
            while done < EACH {
                let (value, version) = read(&session.store, &path).await.unwrap();
                match session.store.commit(vec![set(&path, &format!("{value}{name}"), version)]).await {
                    Ok(()) => {
                        done += 1;
                        // Its own write is seen at once.
                        assert!(read(&session.store, &path).await.unwrap().1 > version);
                    }
                    Err(error) => assert_eq!(Err(error), conflict(&path, Conflict::Changed)),
                }
            }
        }));
    }
    let (mut value, mut version) = (":".to_owned(), 0);
    while version < 3 * EACH {
        let (now, count) = read(&first.store, &path).await.unwrap();
        assert!(now.starts_with(&value) && now.len() as u64 == count + 1, "{now} after {value}");
        (value, version) = (now, count);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for name in ["a", "b", "c"] {
        assert_eq!(value.matches(name).count() as u64, EACH);
    }
}

async fn sessions_share_folders(home: &Home) {
    let sessions = [home.session().await, home.session().await, home.session().await];
    let mut tasks = Vec::new();
    for (at, session) in sessions.into_iter().enumerate() {
        tasks.push(tokio::spawn(async move {
            let session = &session;
            let mine = part("shared-1-1", at as u8);
            for _ in 0..20 {
                session.store.commit(vec![create(&mine, "x")]).await.unwrap();
                session.store.commit(vec![delete(&mine)]).await.unwrap();
            }
            session.store.commit(vec![create(&mine, "x")]).await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let TestSession { store, .. } = &home.session().await;
    assert_eq!(store.children(&paths::plan_parts(&"shared-1-1".parse().unwrap())).await.unwrap().len(), 3);
}

async fn a_cut_connection_is_told_and_comes_back(home: &Home) {
    let (session, other) = (home.session().await, home.session().await);
    let path = topology("a-1-1");
    let store = &session.store;
    store.commit(vec![Op::CreateEphemeral(paths::leader(), b"me".to_vec())]).await.unwrap();
    let before = store.session();
    assert_eq!(before, Session { epoch: 1, connected: true });
    let mut watch = store.watch(&path);
    session.cut().await;
    assert_eq!(store.session(), Session { epoch: 1, connected: false });
    assert!(matches!(store.read(&path).await, Err(StoreError::Away(_))));
    assert!(matches!(store.children(&path).await, Err(StoreError::Away(_))));
    let refused = store.commit(vec![create(&path, "x")]).await;
    assert!(matches!(refused, Err(StoreError::Away(_))), "{refused:?}");
    other.store.commit(vec![create(&path, "meanwhile")]).await.unwrap();
    session.mend().await;
    // What happened meanwhile is told, and the session is the same.
    watch.changed().await;
    assert_eq!(read(store, &path).await, found("meanwhile", 0));
    assert_eq!(store.session(), before);
    assert_eq!(read(&other.store, &paths::leader()).await, found("me", 0));
    // The watch still lives.
    while watch.changed().now_or_never().is_some() {}
    other.store.commit(vec![set(&path, "later", 0)]).await.unwrap();
    watch.changed().await;
}

async fn a_lost_session_is_told(home: &Home) {
    let (session, other) = (home.short_session().await, home.session().await);
    session.store.commit(vec![Op::CreateEphemeral(paths::leader(), b"me".to_vec())]).await.unwrap();
    let mut watches = [session.store.watch(&paths::topologies()), other.store.watch(&paths::leader())];
    assert_eq!(session.store.session(), Session { epoch: 1, connected: true });
    let session = home.lose(session).await;
    assert_eq!(session.store.session(), Session { epoch: 2, connected: true });
    for watch in &mut watches {
        watch.changed().await;
    }
    assert_eq!(read(&other.store, &paths::leader()).await, None);
    let [watch, _] = &mut watches;
    while watch.changed().now_or_never().is_some() {}
    other.store.commit(vec![create(&topology("later-1-1"), "x")]).await.unwrap();
    watch.changed().await;
}

async fn a_lost_answer_may_mean_either(home: &Home) {
    let session = home.session().await;
    for (happens, id) in [(true, "happened-1-1"), (false, "lost-2-1")] {
        let path = topology(id);
        session.lose_next_answer(happens);
        assert_eq!(session.store.commit(vec![create(&path, "x")]).await, Err(StoreError::AnswerLost));
        eventually("it is connected again", async || session.store.read(&path).await.is_ok()).await;
        assert_eq!(read(&session.store, &path).await.is_some(), happens);
    }
}

fn hash(byte: u8) -> BlobHash {
    BlobHash::of([byte; 32])
}

fn submissions(count: u64) -> Submissions {
    Submissions { count }
}

async fn the_board_settles_lost_answers(home: &Home) {
    let session = home.session().await;
    let board = Board::new(session.store.clone(), "nimbus-1/a".into());
    let (path, id) = (paths::submissions(), "a-1-1".parse::<TopologyId>().unwrap());
    let name = paths::name(&TopologyName::new("a").unwrap());
    let taken = || NameTaken { topology: id.clone() };
    for happens in [true, false] {
        session.lose_next_answer(happens);
        board.commit(board.change().create(path.clone(), submissions(1))).await.unwrap();
        let read = board.read::<Submissions>(&path).await.unwrap().unwrap();
        assert_eq!((read.record.count, read.version), (1, Version(0)));

        session.lose_next_answer(happens);
        let change = board.change().set(path.clone(), submissions(2), read.version).create(name.clone(), taken());
        board.commit(change).await.unwrap();
        let read = board.read::<Submissions>(&path).await.unwrap().unwrap();
        assert_eq!((read.record.count, read.version), (2, Version(1)));
        assert_eq!(board.read::<NameTaken>(&name).await.unwrap().unwrap().record, taken());

        session.lose_next_answer(happens);
        board.commit(board.change().delete(path.clone()).delete(name.clone())).await.unwrap();
        assert_eq!(board.read::<Submissions>(&path).await.unwrap(), None);

        // A conflict stays one.
        board.commit(board.change().create(path.clone(), submissions(1))).await.unwrap();
        session.lose_next_answer(happens);
        let refused = board.commit(board.change().create(path.clone(), submissions(9))).await;
        assert_eq!(refused, conflict(&path, Conflict::Changed));
        assert_eq!(board.read::<Submissions>(&path).await.unwrap().unwrap().record, submissions(1));
        board.commit(board.change().delete(path.clone())).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_board_waits_for_the_store_to_settle() {
    let memory = Memory::default();
    let (session, other) = (memory.session(), memory.session());
    let board = Board::new(session.clone(), "nimbus-1/a".into());
    let path = paths::submissions();
    for (happens, expected) in [(true, Ok(())), (false, conflict(&path, Conflict::Changed))] {
        session.lose_next_answer(happens);
        let mut commit = pin!(board.commit(board.change().create(path.clone(), submissions(1))));
        assert_eq!(poll!(commit.as_mut()), Poll::Pending);
        session.go_away();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(poll!(commit.as_mut()), Poll::Pending);
        // Another one may be quicker.
        let quicker = other.commit(vec![create(&path, "{}")]).await;
        assert_eq!(quicker.is_ok(), !happens);
        session.come_back();
        assert_eq!(commit.await, expected);
        other.commit(vec![delete(&path)]).await.unwrap();
    }
}

async fn a_leader_that_lost_its_session_writes_no_more(home: &Home) {
    let session = home.short_session().await;
    let board = Board::new(session.store.clone(), "nimbus-1/a".into());
    let (guard, nimbus) = (paths::lead(&hash(1)), NimbusId::new("nimbus-1").unwrap());
    let leader = |token| Leader { nimbus: nimbus.clone(), host: "one".into(), port: 6628, token };
    let lead = || Lead { nimbus: nimbus.clone() };
    let change = board.change().create_ephemeral(paths::leader(), leader(hash(1)));
    board.commit(change.create_ephemeral(guard.clone(), lead())).await.unwrap();
    let write = |board: &Board, count| {
        board.change().check(guard.clone()).create(topology(&format!("a-{count}-1")), submissions(count))
    };
    board.commit(write(&board, 1)).await.unwrap();
    drop(board);
    let session = home.lose(session).await;
    let board = Board::new(session.store.clone(), "nimbus-1/a".into());
    assert_eq!(board.commit(write(&board, 2)).await, conflict(&guard, Conflict::Missing));
    // Also once it leads again, by another guard.
    let change = board.change().create_ephemeral(paths::leader(), leader(hash(2)));
    board.commit(change.create_ephemeral(paths::lead(&hash(2)), lead())).await.unwrap();
    assert_eq!(board.commit(write(&board, 2)).await, conflict(&guard, Conflict::Missing));
    assert_eq!(session.store.children(&paths::topologies()).await.unwrap(), ["a-1-1"]);
}

async fn an_unreadable_record_is_named_and_leaves_the_others(home: &Home) {
    let session = home.session().await;
    let board = Board::new(session.store.clone(), "nimbus-1/a".into());
    let path = |id: &str| topology(id);
    let other_format = "{\"format\":7,\"writer\":\"nimbus-1/a\",\"number\":1,\"counts\":{}}";
    let ops = vec![
        create(&path("newer-1-1"), other_format),
        create(&path("damaged-2-1"), "{\"format\":1,"),
        create(&path("other-3-1"), "{\"format\":1,\"writer\":\"x\",\"number\":1}"),
    ];
    session.store.commit(ops).await.unwrap();
    board.commit(board.change().create(path("good-4-1"), submissions(4))).await.unwrap();
    let mut said = Vec::new();
    for id in session.store.children(&paths::topologies()).await.unwrap() {
        match board.read::<Submissions>(&path(&id)).await {
            Ok(read) => said.push(format!("{:?}", read.unwrap().record)),
            Err(error @ ReadError::Unreadable { .. }) => said.push(error.to_string()),
            Err(ReadError::Store(error)) => panic!("{error}"),
        }
    }
    assert_eq!(
        said,
        [
            "the count of submissions at `topologies/damaged-2-1` cannot be read: EOF while parsing a value at line 1 column 12; \
             remove it, or run the version that wrote it",
            "Submissions { count: 4 }",
            "the count of submissions at `topologies/newer-1-1` cannot be read: the count of submissions has format 7, and this \
             is built for format 1; build the topology and the daemons with the same version; remove it, or run the version \
             that wrote it",
            "the count of submissions at `topologies/other-3-1` cannot be read: missing field `count` at line 1 column 36; remove \
             it, or run the version that wrote it",
        ]
    );
}

async fn each_record_names_its_writer_and_a_number(home: &Home) {
    let session = home.session().await;
    let board = Board::new(session.store.clone(), "nimbus-1/a".into());
    board.commit(board.change().create(topology("one"), submissions(1))).await.unwrap();
    let change =
        board.change().create(topology("two"), submissions(2)).set(topology("one"), submissions(3), Version(0));
    board.commit(change).await.unwrap();
    let text = |writer: &str, number: u64, count: u64| {
        format!(
            "{{\n  \"format\": 1,\n  \"writer\": \"{writer}\",\n  \"number\": {number},\n  \"count\": {count}\n}}\n"
        )
    };
    assert_eq!(read(&session.store, &topology("one")).await, Some((text("nimbus-1/a", 2, 3), 1)));
    assert_eq!(read(&session.store, &topology("two")).await, Some((text("nimbus-1/a", 2, 2), 0)));
    let other = Board::new(session.store.clone(), "nimbus-2/b".into());
    other.commit(other.change().create(topology("three"), submissions(1))).await.unwrap();
    assert_eq!(read(&session.store, &topology("three")).await, Some((text("nimbus-2/b", 1, 1), 0)));
}

async fn a_record_that_is_too_long_is_refused_before_anything_happens(home: &Home) {
    let session = home.session().await;
    let board = Board::new(session.store.clone(), "nimbus-1/a".into());
    let host = "h".repeat(RECORD_BYTES);
    let long = Leader { nimbus: NimbusId::new("n").unwrap(), host, port: 1, token: hash(1) };
    let change = board.change().create(topology("one"), submissions(1)).create(paths::leader(), long);
    let refused = board.commit(change).await.unwrap_err();
    assert!(matches!(&refused, StoreError::TooLong { path, .. } if *path == paths::leader()), "{refused:?}");
    assert_eq!(read(&session.store, &topology("one")).await, None);
    connected(&session.store).await;
}
