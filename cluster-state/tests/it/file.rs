//! What is special to the embedded file: who may use it, damage, a full disk, a kill.
//!
//! Not here: what every store does. Invariant: each test has a folder of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use cluster_state::file;
use cluster_state::paths;
use cluster_state::store::{Op, Store, StoreError, Version};
use tempfile::TempDir;

/// Set for a process that a test starts of itself: the file to use.
const CHILD: &str = "CLUSTER_STATE_FILE";

fn refusal(path: &Path) -> String {
    match file::open(path) {
        Err(StoreError::Refused(why)) => why,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("{} was opened", path.display()),
    }
}

async fn fill(store: &Arc<dyn Store>) {
    for byte in 0..20 {
        let part = paths::plan_part(&"a-1-1".parse().unwrap(), &worker_api::ids::BlobHash::of([byte; 32]));
        store.commit(vec![Op::Create(part, vec![byte; 5000])]).await.unwrap();
    }
}

/// Runs `test` alone in a process of its own with a file-size limit, in blocks of 512 bytes.
fn child(test: &str, path: &Path, blocks: &str) -> std::process::Output {
    Command::new("sh")
        // Without the signal, writing beyond the limit is an error like that of a full disk.
        .args(["-c", r#"trap "" XFSZ; ulimit -f "$1"; shift; exec "$@""#, "sh", blocks])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, path)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[tokio::test]
async fn one_process_at_a_time() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    let _held = file::open(&path).unwrap();
    let expected =
        format!("the state file {} is in use by another process: end that one, or use another folder", path.display());
    assert_eq!(refusal(&path), expected);
}

#[tokio::test]
async fn only_its_owner_reads_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    drop(file::open(&path).unwrap());
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(file::open(&path).unwrap());
    assert_eq!(mode(), 0o600);
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("missing/state");
    let expected = format!(
        "the state file {} cannot be opened for writing: No such file or directory (os error 2); give this user a folder \
         to write in",
        path.display()
    );
    assert_eq!(refusal(&path), expected);
    let expected = format!(
        "the state file {} cannot be opened for writing: Is a directory (os error 21); give this user a folder to write in",
        folder.path().display()
    );
    assert_eq!(refusal(folder.path()), expected);
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    fs::write(&path, "this is no state file, but somebody's notes\n".repeat(1000)).unwrap();
    assert!(refusal(&path).contains("is damaged"), "{}", refusal(&path));
    fs::remove_file(&path).unwrap();

    let store = file::open(&path).unwrap();
    fill(&store).await;
    drop(store);
    crate::homes::eventually("the file is free", async || file::open(&path).is_ok()).await;
    let whole = fs::read(&path).unwrap();
    let filled = whole.chunks(4096).rposition(|page| page.iter().any(|byte| *byte != 0)).unwrap();
    // All values, the second half, and the first page.
    let mut values = whole.clone();
    values.chunks_mut(4096).take(filled).skip(1).for_each(|page| page.fill(0x5a));
    let half = whole[..filled * 2048].to_vec();
    let mut first = whole.clone();
    first[..4096].fill(0x5a);
    for damaged in [values, half, first] {
        fs::write(&path, damaged).unwrap();
        let why = refusal(&path);
        let expected = format!("the state file {} is damaged (", path.display());
        assert!(why.starts_with(&expected), "{why}");
        assert!(why.ends_with("): put back a copy of it, or move it away to begin with none"), "{why}");
    }
    fs::write(&path, whole).unwrap();
    let store = file::open(&path).unwrap();
    assert_eq!(store.children(&paths::plan_parts(&"a-1-1".parse().unwrap())).await.unwrap().len(), 20);
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let path = paths::topology(&"a-1-1".parse().unwrap());
    if let Some(file) = std::env::var_os(CHILD) {
        let store = file::open(Path::new(&file)).unwrap();
        fill(&store).await;
        store.commit(vec![Op::Create(path.clone(), b"one".to_vec())]).await.unwrap();
        store.commit(vec![Op::Set(path.clone(), b"two".to_vec(), Version(0))]).await.unwrap();
        let gone = Op::CreateEphemeral(paths::leader(), b"me".to_vec());
        store.commit(vec![gone]).await.unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("state");
    let ended = child("file::what_was_answered_survives_a_kill", &file, "unlimited");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.status), Some(9), "{ended:?}");
    let store = file::open(&file).unwrap();
    let read = store.read(&path).await.unwrap().unwrap();
    assert_eq!((read.value.as_slice(), read.version), (b"two".as_slice(), Version(1)));
    assert_eq!(store.children(&paths::plan_parts(&"a-1-1".parse().unwrap())).await.unwrap().len(), 20);
    assert_eq!(store.read(&paths::leader()).await.unwrap(), None);
}

#[tokio::test]
async fn a_full_disk_fails_writes_and_nothing_else() {
    let part = |byte| paths::plan_part(&"a-1-1".parse().unwrap(), &worker_api::ids::BlobHash::of([byte; 32]));
    let parts = paths::plan_parts(&"a-1-1".parse().unwrap());
    if let Some(file) = std::env::var_os(CHILD) {
        let store = file::open(Path::new(&file)).unwrap();
        let mut written = 0;
        let failure = loop {
            match store.commit(vec![Op::Create(part(written), vec![written; 200_000])]).await {
                Ok(()) => written += 1,
                Err(failure) => break failure.to_string(),
            }
        };
        let expected = format!(
            "the cluster state cannot be reached: writing the state file {} failed: I/O error: File too large (os error 27); \
             see whether its disk is full or broken",
            Path::new(&file).display()
        );
        assert_eq!(failure, expected);
        // All that was answered is there, and nothing of what was not.
        assert_eq!(store.children(&parts).await.unwrap().len(), usize::from(written));
        assert_eq!(store.read(&part(written)).await.unwrap(), None);
        assert!(written > 10, "{written}");
        // With room again, it goes on by itself.
        for byte in 0..written - 1 {
            store.commit(vec![Op::Delete(part(byte), None)]).await.unwrap();
        }
        store.commit(vec![Op::Create(part(written), vec![written; 200_000])]).await.unwrap();
        return;
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("state");
    let ended = child("file::a_full_disk_fails_writes_and_nothing_else", &file, "16384");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let store = file::open(&file).unwrap();
    assert_eq!(store.children(&parts).await.unwrap().len(), 2);
}
