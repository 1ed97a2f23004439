//! Blobs on their way in and out: in pieces, several at once, cut short, corrupt, on a full disk, damaged, expired.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cluster_state::memory::Memory;
use nimbus_api::client::BlobState;
use nimbus_api::failure::FailureKind;
use nimbus_api::submission::Blob;
use nimbus_api::topology::StatusWord;
use worker_api::ids::{FileName, TopologyName};

use crate::fixture::*;

const BLOB: &[u8] = b"0123456789";

#[tokio::test]
async fn an_upload_goes_on_where_it_was_left() {
    let fixture = Fixture::start().await;
    let (client, hash) = (&fixture.client, hash_of(BLOB));
    assert_eq!(client.blob_state(&hash).await.unwrap(), None);
    client.upload(&hash, 0, 10, Bytes::from_static(&BLOB[..4])).await.unwrap();
    assert_eq!(client.blob_state(&hash).await.unwrap(), Some(BlobState::Partial(4)));
    let (kind, said) = refusal(client.upload(&hash, 3, 10, Bytes::from_static(&BLOB[3..])).await);
    assert_eq!(kind, FailureKind::WrongState);
    assert_eq!(said, format!("4 bytes of blob {hash} are here, so its upload goes on at 4, not at 3"));
    assert_eq!(refusal(client.download(&hash, 0, &mut Vec::new()).await).0, FailureKind::NotFound);

    let fixture = fixture.restart().await;
    let client = &fixture.client;
    assert_eq!(client.blob_state(&hash).await.unwrap(), Some(BlobState::Partial(4)));
    let part = Blob { hash: hash.clone(), bytes: 4, complete: false, used_by: [].into() };
    assert_eq!(client.blobs().await.unwrap(), [part]);
    client.upload(&hash, 4, 10, Bytes::from_static(&BLOB[4..])).await.unwrap();
    assert_eq!(client.blob_state(&hash).await.unwrap(), Some(BlobState::Complete(10)));
    assert_eq!(fixture.blob_files(), [hash.to_string()]);

    for (from, expected) in [(0, BLOB), (7, &BLOB[7..])] {
        let mut came = Vec::new();
        assert_eq!(client.download(&hash, from, &mut came).await.unwrap(), expected.len() as u64);
        assert_eq!(came, expected);
    }
    let (kind, said) = refusal(client.download(&hash, 10, &mut Vec::new()).await);
    assert_eq!((kind, said), (FailureKind::BadRequest, format!("blob {hash} has 10 bytes, none from 10 on")));
    // Sent once more, it is taken as it is.
    client.upload(&hash, 0, 10, Bytes::from_static(BLOB)).await.unwrap();
}

#[tokio::test]
async fn an_upload_that_broke_off_at_its_very_end_is_finished() {
    let fixture = Fixture::start().await;
    let (hash, other) = (hash_of(BLOB), hash_of(EXECUTABLE));
    let part = |hash| fixture.folder.path().join(format!("nimbus/blobs/{hash}.part"));
    // All bytes came, and what makes a blob of them did not happen: who asks for it has it done.
    std::fs::write(part(&hash), BLOB).unwrap();
    // Not at once, if the disk is slow.
    let whole = Some(BlobState::Complete(10));
    eventually(|| async { (fixture.client.blob_state(&hash).await.unwrap() == whole).then_some(()) }).await;
    // So does an empty piece at the end.
    std::fs::write(part(&other), EXECUTABLE).unwrap();
    let length = EXECUTABLE.len() as u64;
    fixture.client.upload(&other, length, length, Bytes::new()).await.unwrap();
    let mut both = [hash.to_string(), other.to_string()];
    both.sort();
    assert_eq!(fixture.blob_files(), both);

    let Fixture { folder, memory, nimbus, .. } = fixture;
    nimbus.stop().await;
    let blob = folder.path().join(format!("nimbus/blobs/{hash}"));
    std::fs::rename(&blob, blob.with_extension("part")).unwrap();
    let fixture = Fixture::go_on(folder, memory, |_| {}).await;
    eventually(|| async { (fixture.blob_files() == both).then_some(()) }).await;
}

#[tokio::test]
async fn what_does_not_fit_its_hash_leaves_nothing() {
    let fixture = Fixture::start().await;
    let (client, hash) = (&fixture.client, hash_of(BLOB));
    let (kind, said) = refusal(client.upload(&hash, 0, 10, Bytes::from_static(b"0123456780")).await);
    assert_eq!(kind, FailureKind::CorruptBlob);
    assert!(said.starts_with("the 10 bytes that came have the SHA-256 "), "{said}");
    assert_eq!(fixture.blob_files(), Vec::<String>::new());
    let (kind, _) = refusal(client.upload(&hash, 0, 9, Bytes::from_static(BLOB)).await);
    assert_eq!(kind, FailureKind::CorruptBlob);
    assert_eq!(fixture.blob_files(), Vec::<String>::new());
    let (kind, said) = refusal(client.upload(&hash, 0, 5 << 30, Bytes::from_static(BLOB)).await);
    assert_eq!(kind, FailureKind::TooLarge);
    assert!(said.ends_with("would have 5368709120 bytes, at most 4294967296 are allowed"), "{said}");
    assert_eq!(fixture.blob_files(), Vec::<String>::new());
}

#[tokio::test]
async fn several_uploads_of_one_blob_at_once_are_safe() {
    let fixture = Fixture::start().await;
    let bytes: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    let (hash, bytes) = (hash_of(&bytes), Bytes::from(bytes));
    let length = bytes.len() as u64;
    let uploads = (0..4).map(|_| {
        let (client, hash, bytes) = (fixture.client.clone(), hash.clone(), bytes.clone());
        tokio::spawn(async move {
            loop {
                let offset = match client.blob_state(&hash).await.unwrap() {
                    Some(BlobState::Complete(found)) => return found,
                    Some(BlobState::Partial(offset)) => offset,
                    None => 0,
                };
                let piece = bytes.slice(offset as usize..(offset as usize + 500_000).min(bytes.len()));
                // Another one may have been faster: then this one looks again.
                let _ = client.upload(&hash, offset, length, piece).await;
            }
        })
    });
    for upload in uploads.collect::<Vec<_>>() {
        assert_eq!(upload.await.unwrap(), length);
    }
    let mut came = Vec::new();
    fixture.client.download(&hash, 0, &mut came).await.unwrap();
    assert!(came == bytes);
    assert_eq!(fixture.blob_files(), [hash.to_string()]);
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_of_the_upload_stays() {
    // The device is older than uploads may become.
    let long = |config: &mut nimbus::NimbusConfig| config.upload_expiration = Duration::from_secs(u32::MAX.into());
    let fixture = Fixture::go_on(tempfile::tempdir().unwrap(), Memory::default(), long).await;
    let hash = hash_of(BLOB);
    let part = fixture.folder.path().join(format!("nimbus/blobs/{hash}.part"));
    symlink("/dev/full", &part).unwrap();
    let (kind, said) = refusal(fixture.client.upload(&hash, 0, 10, Bytes::from_static(BLOB)).await);
    assert_eq!(kind, FailureKind::NoSpace);
    assert!(said.starts_with("there is no space left in "), "{said}");
    assert_eq!(fixture.blob_files(), Vec::<String>::new());
    // The daemon lives, and takes it once there is space.
    fixture.client.upload(&hash, 0, 10, Bytes::from_static(BLOB)).await.unwrap();
}

#[tokio::test]
async fn blobs_are_kept_while_a_topology_uses_them() {
    let fixture = Fixture::start().await;
    let (executable, model) = (upload(&fixture.client, EXECUTABLE).await, upload(&fixture.client, BLOB).await);
    let mut first = submission("a", executable.clone());
    first.files.insert(FileName::new("model.bin").unwrap(), model.clone());
    let a = fixture.client.submit(&first).await.unwrap().id;
    let b = fixture.client.submit(&submission("b", executable.clone())).await.unwrap().id;
    let graph = hash_of(&serde_json::to_vec(&graph()).unwrap());
    let uses = async || {
        let blobs = fixture.client.blobs().await.unwrap();
        blobs.into_iter().map(|blob| (blob.hash, blob.used_by)).collect::<std::collections::BTreeMap<_, _>>()
    };
    let what = |what: &str| vec![what.to_owned()];
    let of_both = |both: &str| [(a.clone(), what(both)), (b.clone(), what(both))].into();
    assert_eq!(
        uses().await,
        [
            (executable.clone(), of_both("executable")),
            (graph.clone(), of_both("graph")),
            (model.clone(), [(a.clone(), what("model.bin"))].into()),
        ]
        .into()
    );
    kill_and_wait(&fixture, &mut [], "a").await;
    let only_b = |what: &str| [(b.clone(), vec![what.to_owned()])].into();
    assert_eq!(uses().await, [(executable, only_b("executable")), (graph, only_b("graph"))].into());
    kill_and_wait(&fixture, &mut [], "b").await;
    assert_eq!(fixture.blob_files(), Vec::<String>::new());
}

#[tokio::test]
async fn damage_on_the_disk_is_found_at_the_start_and_healed_by_an_upload() {
    let fixture = Fixture::start().await;
    fixture.submit("t").await.unwrap();
    let hash = hash_of(EXECUTABLE);
    let file = fixture.folder.path().join(format!("nimbus/blobs/{hash}"));
    let Fixture { folder, memory, nimbus, .. } = fixture;
    nimbus.stop().await;
    std::fs::write(&file, [b'x'; EXECUTABLE.len()]).unwrap();

    let fixture = Fixture::go_on(folder, memory, |_| {}).await;
    let starting = "starting, 0 of 2 workers are ready; Waiting for 2 of 2 slots: no machine is available; start one by \
                    `storm supervisor`";
    let broken = eventually(|| async {
        let summary = fixture.client.topology("t").await.unwrap().summary;
        let is_told = |reason: &String| reason.starts_with("waiting for its ") && reason.ends_with(starting);
        summary.reason.as_ref().is_some_and(is_told).then_some(summary)
    })
    .await;
    let sentence =
        format!("{}; none that may have it is there: start one; {starting}", waiting("executable", EXECUTABLE));
    assert_eq!((broken.status, broken.reason, broken.replication), (StatusWord::Active, Some(sentence), 0));
    assert_eq!(refusal(fixture.client.download(&hash, 0, &mut Vec::new()).await).0, FailureKind::NotFound);
    upload(&fixture.client, EXECUTABLE).await;
    let healed = fixture.client.topology("t").await.unwrap().summary.reason;
    assert_eq!(healed.as_deref(), Some(starting));
}

#[tokio::test]
async fn damage_while_it_runs_is_found_when_it_is_served() {
    let fixture = Fixture::start().await;
    let hash = upload(&fixture.client, BLOB).await;
    std::fs::write(fixture.folder.path().join(format!("nimbus/blobs/{hash}")), "short").unwrap();
    let (kind, said) = refusal(fixture.client.download(&hash, 0, &mut Vec::new()).await);
    assert_eq!(kind, FailureKind::CorruptBlob);
    assert!(
        said.ends_with("was damaged on the disk of this Nimbus: it has 5 bytes instead of 10; upload it again"),
        "{said}"
    );
    assert_eq!(fixture.client.blob_state(&hash).await.unwrap(), None);
}

#[tokio::test]
async fn uploads_that_nobody_submits_expire() {
    let (folder, memory) = (tempfile::tempdir().unwrap(), Memory::default());
    let fixture = Fixture::go_on(folder, memory, |config| config.upload_expiration = Duration::ZERO).await;
    let used = fixture.submit("t").await.map(|submitted| submitted.id);
    // Its pin ended at once, and a submission needs the blob to be there: both outcomes keep the invariant.
    let hash = hash_of(BLOB);
    fixture.client.upload(&hash, 0, 10, Bytes::from_static(BLOB)).await.unwrap();
    fixture.client.upload(&hash_of(b"part"), 0, 4, Bytes::from_static(b"pa")).await.unwrap();
    let Fixture { folder, memory, nimbus, .. } = fixture;
    nimbus.stop().await;
    // Also what a clock dated that was far ahead.
    for file in std::fs::read_dir(folder.path().join("nimbus/blobs")).unwrap() {
        let file = std::fs::File::options().append(true).open(file.unwrap().path()).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(4_102_444_800)).unwrap();
    }
    let fixture = Fixture::go_on(folder, memory, |config| config.upload_expiration = Duration::ZERO).await;
    let left = eventually(|| async {
        let files = fixture.blob_files();
        (!files.contains(&hash.to_string()) && !files.iter().any(|file| file.ends_with(".part"))).then_some(files)
    })
    .await;
    let graph = hash_of(&serde_json::to_vec(&graph()).unwrap());
    let mut kept = vec![graph.to_string(), hash_of(EXECUTABLE).to_string()];
    kept.sort();
    assert_eq!((used.is_ok(), left), (true, kept));
}

#[tokio::test]
async fn a_graph_that_was_lost_is_healed_by_an_upload() {
    let fixture = Fixture::start().await;
    let id = fixture.submit("t").await.unwrap().id;
    let json = serde_json::to_vec(&graph()).unwrap();
    let hash = hash_of(&json);
    let Fixture { folder, memory, nimbus, .. } = fixture;
    nimbus.stop().await;
    std::fs::remove_file(folder.path().join(format!("nimbus/blobs/{hash}"))).unwrap();
    let fixture = Fixture::go_on(folder, memory, |_| {}).await;
    let shown = fixture.client.topology("t").await.unwrap();
    assert_eq!((shown.summary.status, shown.graph.components.len()), (StatusWord::Active, 0));
    assert!(shown.summary.reason.unwrap().starts_with(&waiting("graph", &json)));
    fixture.client.upload(&hash, 0, json.len() as u64, json.into()).await.unwrap();
    let shown = eventually(|| async {
        let shown = fixture.client.topology("t").await.unwrap();
        (shown.summary.tasks == 4).then_some(shown)
    })
    .await;
    assert_eq!((shown.summary.id, shown.graph.components.len()), (id, 2));
}

/// What may be done with each file and folder from here on, by its path below `folder`.
fn modes(folder: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        found.push((
            path.strip_prefix(folder).unwrap().display().to_string(),
            path.metadata().unwrap().permissions().mode() & 0o777,
        ));
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path()));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn nobody_else_can_look_into_the_folder() {
    let fixture = Fixture::start().await;
    let hash = upload(&fixture.client, BLOB).await;
    let part = hash_of(b"part");
    fixture.client.upload(&part, 0, 4, Bytes::from_static(b"pa")).await.unwrap();
    let path = fixture.folder.path().join("nimbus");
    let mut blobs = [(format!("blobs/{hash}"), 0o600), (format!("blobs/{part}.part"), 0o600)];
    blobs.sort();
    let mut expected = vec![(String::new(), 0o700), ("blobs".to_owned(), 0o700)];
    expected.extend(blobs);
    expected.extend([("id".to_owned(), 0o600), ("lock".to_owned(), 0o600)]);
    assert_eq!(modes(&path), expected);
    // What was made with other modes is closed at the start.
    for (name, mode) in &expected {
        std::fs::set_permissions(path.join(name), Permissions::from_mode(mode | 0o055)).unwrap();
    }
    let fixture = fixture.restart().await;
    assert_eq!(modes(&fixture.folder.path().join("nimbus")), expected);
}

#[tokio::test]
async fn what_a_refused_submission_named_is_deleted_unless_somebody_needs_it() {
    let fixture = Fixture::start().await;
    fixture.submit("t").await.unwrap();
    let used = fixture.blob_files();
    let with_model = async || {
        let mut submission = submission("t", upload(&fixture.client, EXECUTABLE).await);
        submission.files.insert(FileName::new("model.bin").unwrap(), upload(&fixture.client, BLOB).await);
        submission
    };
    let refused = with_model().await;
    assert_eq!(refusal(fixture.client.submit(&refused).await).0, FailureKind::AlreadyAlive);
    assert_eq!(fixture.blob_files(), used);
    // Somebody else is about to submit it too.
    let (refused, mut other) = (with_model().await, with_model().await);
    assert_eq!(refusal(fixture.client.submit(&refused).await).0, FailureKind::AlreadyAlive);
    other.name = TopologyName::new("other").unwrap();
    fixture.client.submit(&other).await.unwrap();
}
