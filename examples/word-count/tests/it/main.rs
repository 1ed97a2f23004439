//! Word count in a local cluster: what it counts, what it replays, what it refuses, and how it follows a file.

// Clippy sees that it is in a test only in the test functions themselves.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use storm::local_cluster::testing::Capture;
use storm::local_cluster::{LocalCluster, LocalError, run_seeded};
use storm::prelude::*;
use tempfile::TempDir;
use word_count::{Args, FileLines, Line};

/// A folder with a text in it, and room for the result.
struct Folder(TempDir);

impl Folder {
    fn with(text: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("text"), text).unwrap();
        Folder(folder)
    }

    fn text(&self) -> PathBuf {
        self.0.path().join("text")
    }

    fn result(&self) -> PathBuf {
        self.0.path().join("result")
    }

    fn args(&self) -> Args {
        Args { input: self.text(), output: self.result(), follow: false, splitters: 2, counters: 2 }
    }

    fn append(&self, text: &str) {
        OpenOptions::new().append(true).open(self.text()).unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Names of all files in it.
    fn files(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// An error's text, without the folder's random name.
    fn told(&self, error: &LocalError) -> String {
        error.to_string().replace(self.0.path().to_str().unwrap(), "FOLDER")
    }
}

fn built(args: Args) -> Topology {
    let mut topology = Topology::builder("word-count");
    word_count::topology(args, &mut topology).unwrap();
    topology.build().unwrap()
}

/// Runs to the end of the input; gives the lines that were acked.
fn count(args: Args, workers: u16) -> Result<u64, LocalError> {
    run_seeded(7, async |seam| {
        let cluster = LocalCluster::builder(built(args)).workers(workers).seam(seam).start().await?;
        let ended = cluster.ended().await;
        let acked = cluster.summary().acked;
        cluster.stop(Duration::ZERO).await;
        ended.map(|()| acked)
    })
}

#[test]
fn the_counts_of_a_book_are_those_of_a_plain_loop() {
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("opticks.txt");
    let text = fs::read_to_string(&book).unwrap();
    let mut expected: HashMap<&str, u64> = HashMap::new();
    text.split_whitespace().for_each(|word| *expected.entry(word).or_default() += 1);
    for workers in [1, 3] {
        let folder = Folder::with("");
        let lines = count(Args { input: book.clone(), ..folder.args() }, workers).unwrap();
        assert_eq!(lines, 9_286, "{workers} workers");

        let result = fs::read_to_string(folder.result()).unwrap();
        let pairs = result.lines().map(|line| line.split_once('\t').unwrap());
        let counts: Vec<(&str, u64)> = pairs.map(|(word, count)| (word, count.parse().unwrap())).collect();
        assert_eq!(counts[..4], [("the", 9_589), ("of", 5_198), ("and", 3_619), ("to", 2_038)]);
        assert!(counts.is_sorted_by(|(one, n), (next, m)| n > m || (n == m && one < next)));
        assert_eq!(counts.len(), 8_833);
        assert_eq!(counts.into_iter().collect::<HashMap<_, _>>(), expected, "{workers} workers");
    }
}

#[test]
fn words_are_not_normalised_and_ties_are_in_the_order_of_the_words() {
    let folder = Folder::with("Light light, light\r\n\n \t\nÆther\u{a0}light\u{3000}Æther zebra");
    assert_eq!(count(folder.args(), 1), Ok(4));
    assert_eq!(fs::read_to_string(folder.result()).unwrap(), "light\t2\nÆther\t2\nLight\t1\nlight,\t1\nzebra\t1\n");
    assert_eq!(folder.files(), ["result", "text"]);
}

#[test]
fn an_empty_text_has_an_empty_result() {
    let folder = Folder::with("");
    assert_eq!(count(folder.args(), 1), Ok(0));
    assert_eq!(fs::read_to_string(folder.result()).unwrap(), "");
}

/// Fails each line the first time that it comes, and knows it by the digit that it begins with.
struct FailFirst(Arc<AtomicU64>);

impl Bolt for FailFirst {
    type Input = Line;
    type Output = Line;

    fn execute(&mut self, line: Line, out: &mut Emitter<Line>) -> Result {
        let bit = 1 << line.text[..1].parse::<u32>()?;
        if self.0.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            return Err(Error::retry("not yet"));
        }
        out.emit(line);
        Ok(())
    }
}

#[test]
fn a_line_that_failed_is_read_again_where_it_begins() {
    let folder = Folder::with("0 zero\n1 one\r\n2 zwei, drei\n3 the last has no end");
    let (captured, summary) = run_seeded(7, async |seam| {
        let (text, seen) = (folder.text(), Arc::default());
        let mut topology = Topology::builder("lines");
        let lines = topology.spout("lines", move || FileLines::new(&text)).add();
        let lines = topology.bolt("fail-first", move || FailFirst(Arc::clone(&seen))).shuffle(&lines).add();
        let captured = Capture::of(&mut topology, &lines);
        let cluster = LocalCluster::builder(topology.build().unwrap()).seam(seam).start().await.unwrap();
        cluster.ended().await.unwrap();
        (captured.tuples(), cluster.summary())
    });
    let mut lines: Vec<&str> = captured.iter().map(|line| line.text.as_str()).collect();
    lines.sort();
    assert_eq!(lines, ["0 zero", "1 one", "2 zwei, drei", "3 the last has no end"]);
    assert_eq!((summary.acked, summary.failed), (4, 4));
}

#[test]
fn what_cannot_be_counted_is_told_in_a_sentence() {
    let folder = Folder::with(b"fine\nnot \xff\n");
    let refused = || folder.told(&count(folder.args(), 1).unwrap_err());
    assert_eq!(
        refused(),
        "component `lines` stopped: `FOLDER/text` is not UTF-8 text at byte 9; convert it first, with iconv for example"
    );
    fs::write(folder.text(), vec![b'x'; (16 << 20) + 1]).unwrap();
    assert_eq!(
        refused(),
        "component `lines` stopped: `FOLDER/text` has a line of more than 16 MiB at byte 0; break it into several"
    );
    fs::remove_file(folder.text()).unwrap();
    assert_eq!(
        refused(),
        "component `lines` stopped: cannot read `FOLDER/text`: No such file or directory (os error 2); check the path"
    );
    assert_eq!(folder.files(), [""; 0]);

    fs::create_dir(folder.result()).unwrap();
    assert_eq!(
        refused(),
        "component `write` stopped: cannot write the result to `FOLDER/result`: what is there is not a file; name another path"
    );
    fs::remove_dir(folder.result()).unwrap();
    let args = Args { output: folder.0.path().join("none/result"), ..folder.args() };
    assert_eq!(
        folder.told(&count(args, 1).unwrap_err()),
        "component `write` stopped: cannot write the result to `FOLDER/none/result`: there is no folder `FOLDER/none`; make it first"
    );
}

#[test]
fn the_result_may_not_replace_the_text() {
    let folder = Folder::with("a text");
    let args = Args { output: folder.0.path().join(".").join("text"), ..folder.args() };
    let error = word_count::topology(args, &mut Topology::builder("word-count")).unwrap_err();
    assert!(error.to_string().starts_with("--input and --output are the same file"), "{error}");
}

/// Waits until `now` is what is expected, for ten seconds on the run's own clock.
async fn becomes(sleep: impl AsyncFn(Duration), now: impl Fn() -> String, expected: &str) {
    for _ in 0..100 {
        if now() == expected {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(now(), expected);
}

#[test]
fn a_file_that_is_followed_is_counted_as_it_grows_and_once_more_at_the_stop() {
    let folder = Folder::with("be or no");
    let result = || fs::read_to_string(folder.result()).unwrap_or_default();
    run_seeded(7, async |seam| {
        let topology = built(Args { follow: true, ..folder.args() });
        let cluster = LocalCluster::builder(topology).workers(2).seam(seam.clone()).start().await.unwrap();
        let sleep = async |time| seam.sleep(time).await;
        // A line is counted when its end is there, however long before its beginning was read.
        seam.sleep(Duration::from_secs(3)).await;
        assert_eq!(result(), "");
        folder.append("t to be\n");
        becomes(sleep, result, "be\t2\nnot\t1\nor\t1\nto\t1\n").await;
        folder.append("to be\n");
        becomes(sleep, result, "be\t3\nto\t2\nnot\t1\nor\t1\n").await;
        // Stopped as soon as the line is read, before the next write is due.
        folder.append("that is\n");
        while cluster.summary().acked < 3 {
            seam.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(result(), "be\t3\nto\t2\nnot\t1\nor\t1\n");
        cluster.stop(Duration::from_secs(30)).await;
    });
    assert_eq!(result(), "be\t3\nto\t2\nis\t1\nnot\t1\nor\t1\nthat\t1\n");
}

#[test]
fn a_file_that_is_followed_may_only_grow() {
    let told_after = |change: fn(&Folder)| {
        let folder = Folder::with("one\ntwo\n");
        let result = || fs::read_to_string(folder.result()).unwrap_or_default();
        let error = run_seeded(7, async |seam| {
            let topology = built(Args { follow: true, ..folder.args() });
            let cluster = LocalCluster::builder(topology).seam(seam.clone()).start().await.unwrap();
            becomes(async |time| seam.sleep(time).await, result, "one\t1\ntwo\t1\n").await;
            change(&folder);
            cluster.ended().await.unwrap_err()
        });
        folder.told(&error)
    };
    let may = "a file that is read may only be appended to: start again to count it anew";
    assert_eq!(
        told_after(|folder| fs::write(folder.text(), "one\n").unwrap()),
        format!("component `lines` stopped: `FOLDER/text` was cut to 4 bytes after 8 had been read; {may}")
    );
    assert_eq!(
        told_after(|folder| {
            fs::write(folder.0.path().join("new"), "one\ntwo\nthree\n").unwrap();
            fs::rename(folder.0.path().join("new"), folder.text()).unwrap();
        }),
        format!("component `lines` stopped: `FOLDER/text` was replaced by another file; {may}")
    );
    assert_eq!(
        told_after(|folder| fs::remove_file(folder.text()).unwrap()),
        format!("component `lines` stopped: `FOLDER/text` is gone: No such file or directory (os error 2); {may}")
    );
}
