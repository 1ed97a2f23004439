//! The rules of the house about source text that no compiler knows: seams, purity, names, module docs.
//!
//! Not here: lints (`clippy.toml`, the workspace's lint table). Invariant: the rules see Rust tokens, so a comment or a
//! string never breaks one; only words of unfinished work are looked for in comments too.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::workspace::Workspace;

/// Where threads, tasks, time and randomness come through the seam alone.
const BEHIND_THE_SEAM: &[&str] = &["worker/src", "topology-api/src", "local-cluster/src"];

/// The seam itself.
const SEAM: &str = "seam/src/tasks.rs";

/// State machines: functions of (state, event, now, random).
const PURE: &[&str] = &[
    "cluster-state/src/transaction.rs",
    "supervisor/src/reconcile.rs",
    "supervisor/src/slot.rs",
    "worker/src/acking/pending.rs",
    "worker/src/acking/window.rs",
    "worker/src/transfer/handshake.rs",
    "worker/src/transfer/link.rs",
    "worker/src/transfer/permits.rs",
];

/// Where a map whose order differs from run to run needs a reason.
const ORDERED: &[&str] = &["cluster-state/src", "worker/src"];

/// Folders of programs that must not compile: samples, not modules.
const COMPILE_FAIL: &[&str] = &["compile-fail", "compile_fail"];

/// Paths that go round the seam, and what to write instead. The two names match anywhere in a path, however it was
/// imported.
const AROUND_THE_SEAM: &[(&str, &str)] = &[
    ("tokio::spawn", "a task starts through `Seam::spawn`"),
    ("task::spawn", "a task starts through `Seam::spawn`"),
    ("task::spawn_local", "a task starts through `Seam::spawn`"),
    ("task::JoinSet", "tasks start through `Seam::spawn`"),
    ("task::spawn_blocking", "blocking work starts through `Seam::spawn_blocking`"),
    ("task::block_in_place", "blocking work starts through `Seam::spawn_blocking`"),
    ("Handle::current", "the runtime is known to the seam alone"),
    ("thread::spawn", "a thread starts through `Seam::spawn_blocking`"),
    ("thread::scope", "a thread starts through `Seam::spawn_blocking`"),
    ("thread::Builder", "a thread starts through `Seam::spawn_blocking`"),
    ("Instant::now", "the time comes from `Seam::now`, or as an argument"),
    ("SystemTime::now", "the time comes from `Seam::now`, or as an argument"),
    ("time::sleep", "waiting goes through `Seam::sleep`"),
    ("time::sleep_until", "waiting goes through `Seam::sleep_until`"),
    ("time::interval", "waiting goes through `Seam::sleep_until`"),
    ("time::interval_at", "waiting goes through `Seam::sleep_until`"),
    ("time::timeout", "waiting goes through `Seam::sleep`, in a biased `select!`"),
    ("time::timeout_at", "waiting goes through `Seam::sleep_until`, in a biased `select!`"),
    ("rand::rng", "randomness comes from `Seam::random` or a generator that it seeds"),
    ("rand::random", "randomness comes from `Seam::random` or a generator that it seeds"),
    ("rngs::SysRng", "randomness comes from `Seam::random` or a generator that it seeds"),
    ("sync::watch", "a watched value that wakes in order is in `watch`"),
    ("rngs::ThreadRng", "randomness comes from `Seam::random` or a generator that it seeds"),
];

/// Names that go round the seam wherever they stand.
const AROUND_THE_SEAM_ALONE: &[(&str, &str)] =
    &[("thread_rng", "randomness comes from `Seam::random` or a generator that it seeds")];

/// Names that a state machine does not know.
const IMPURE: &[&str] =
    &["tokio", "Seam", "net", "TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener"];

/// Names of drawers, as a whole or as one word of a file's or folder's name.
const DRAWERS: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"];

/// A rule that is broken, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    /// Counted from 1; 0 if the finding is about the file as a whole.
    line: usize,
    problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.problem),
            line => write!(f, "{}:{line}: {}", self.path, self.problem),
        }
    }
}

/// All findings in the workspace, in the order of paths and lines.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut files = Vec::new();
    walk(&workspace.root, &mut files)?;
    let mut sources = Vec::new();
    for path in files {
        let text = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs" | "toml") => fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?,
            _ => String::new(),
        };
        sources.push((workspace.relative(&path).display().to_string().replace('\\', "/"), text));
    }
    Ok(findings(&sources))
}

/// Every file below `folder`, but for what git and cargo keep there.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry.with_context(|| format!("listing {}", folder.display()))?.path();
        let is_kept_by_a_tool =
            path.join("CACHEDIR.TAG").exists() || path.file_name().is_some_and(|name| name == ".git");
        if path.is_dir() {
            if !is_kept_by_a_tool {
                walk(&path, files)?;
            }
        } else if !is_kept_by_a_tool {
            files.push(path);
        }
    }
    Ok(())
}

/// The findings in `sources`, which are all files as (path from the root, text).
fn findings(sources: &[(String, String)]) -> Vec<Finding> {
    let mut findings = BTreeSet::new();
    let mut tests = BTreeSet::new();
    let mut parsed = Vec::new();
    for (path, text) in sources {
        let mut note = |line, problem: String| {
            findings.insert(Finding { path: path.clone(), line, problem });
        };
        if let Some(drawer) = drawer(path) {
            note(
                0,
                format!("`{drawer}` is a drawer, not a name: call it what it does, or put it beside its only caller"),
            );
        }
        for (line, word) in unfinished(text) {
            note(line, format!("`{word}`: finish it, or leave it out"));
        }
        if !path.ends_with(".rs") {
            continue;
        }
        if !is_compile_fail_sample(path) && !text.starts_with("//!") {
            note(1, "a module begins with `//!`: what it is, what it is not, its one invariant".into());
        }
        match text.parse::<TokenStream>() {
            Ok(tokens) => {
                let tokens = Tokens::of(tokens);
                tests.extend(tokens.test_modules.iter().flat_map(|module| files_of_module(path, module)));
                parsed.push((path, text, tokens));
            }
            // A sample that must not compile may well be no Rust at all.
            Err(_) if is_compile_fail_sample(path) => {}
            Err(error) => note(error.span().start().line, format!("not Rust tokens: {error}")),
        }
    }
    for (path, text, tokens) in &parsed {
        let is_test_file = tests.iter().any(|test| *path == test || path.starts_with(&format!("{test}/")))
            || path.split('/').any(|folder| folder == "tests" || folder == "benches");
        for (line, problem) in problems(path, text, tokens, is_test_file) {
            findings.insert(Finding { path: (*path).clone(), line, problem });
        }
    }
    for pure in PURE {
        if !sources.iter().any(|(path, _)| path == pure) {
            let problem = "the list of pure files names it, but it does not exist".into();
            findings.insert(Finding { path: (*pure).into(), line: 0, problem });
        }
    }
    findings.into_iter().collect()
}

/// What is wrong with one Rust file, as (line, problem).
fn problems(path: &str, text: &str, tokens: &Tokens, is_test_file: bool) -> Vec<(usize, String)> {
    let mut problems = Vec::new();
    let is_in_tests = |place: &Place| is_test_file || place.is_in_tests;
    let is_behind_the_seam = path != SEAM && BEHIND_THE_SEAM.iter().any(|folder| is_below(path, folder));
    let is_pure = PURE.contains(&path);

    for (place, name) in &tokens.names {
        let parts: Vec<&str> = name.split("::").collect();
        let last = parts[parts.len() - 1];
        let is = |pattern: &str| parts.windows(2).any(|pair| pattern.split("::").eq(pair.iter().copied()));
        if is("thread::sleep") && (is_behind_the_seam || is_in_tests(place)) {
            problems.push((place.line, "`thread::sleep` waits on the clock: wait on a condition".into()));
        }
        if is_in_tests(place) {
            continue;
        }
        if is_behind_the_seam {
            for (refused, instead) in AROUND_THE_SEAM.iter().filter(|(refused, _)| is(refused)) {
                problems.push((place.line, format!("`{refused}` goes round the seam: {instead}")));
            }
            for (refused, instead) in AROUND_THE_SEAM_ALONE.iter().filter(|(refused, _)| parts.contains(refused)) {
                problems.push((place.line, format!("`{refused}` goes round the seam: {instead}")));
            }
        }
        if is_pure {
            for refused in parts.iter().filter(|part| IMPURE.contains(part)) {
                problems
                    .push((place.line, format!("`{refused}` in a state machine: it takes events and returns effects")));
            }
        }
        let has_no_order = matches!(last, "HashMap" | "HashSet" | "AHashMap" | "AHashSet") && parts.len() > 1;
        let gives_its_reason = text.lines().nth(place.line - 1).is_some_and(|line| line.contains("// order:"));
        if ORDERED.iter().any(|folder| is_below(path, folder)) && has_no_order && !gives_its_reason {
            let advice = "use a BTreeMap or a Vec, or say `// order: WHY` on this line";
            problems.push((place.line, format!("the order of a `{}` differs from run to run: {advice}", last)));
        }
    }
    for place in tokens.unbiased_selects.iter().filter(|_| path != SEAM) {
        problems.push((place.line, "`select!` without `biased;` first draws its order at random".into()));
    }
    for place in &tokens.ignored_tests {
        problems.push((place.line, "an ignored test proves nothing: repair it or remove it".into()));
    }
    for (place, name) in &tokens.unfinished_macros {
        problems.push((place.line, format!("`{name}!`: finish it, or leave it out")));
    }
    problems
}

/// Where a token stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    line: usize,
    /// Below `#[cfg(test)]`.
    is_in_tests: bool,
}

/// What the rules look at in one file.
#[derive(Default)]
struct Tokens {
    /// Each path with `::`, and each name alone, as written; those of a `use` tree in full.
    names: Vec<(Place, String)>,
    unbiased_selects: Vec<Place>,
    ignored_tests: Vec<Place>,
    unfinished_macros: Vec<(Place, String)>,
    /// Modules in files of their own that exist in tests alone.
    test_modules: Vec<String>,
}

impl Tokens {
    fn of(stream: TokenStream) -> Self {
        let mut tokens = Tokens::default();
        tokens.read(stream, false);
        tokens
    }

    fn read(&mut self, stream: TokenStream, is_in_tests: bool) {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        // Whether the item that begins here exists in tests alone.
        let mut item_is_test = false;
        let mut at = 0;
        while at < trees.len() {
            let place = Place { line: trees[at].span().start().line, is_in_tests: is_in_tests || item_is_test };
            match &trees[at] {
                TokenTree::Punct(hash) if hash.as_char() == '#' => {
                    if let Some(TokenTree::Group(attribute)) = trees.get(at + 1)
                        && attribute.delimiter() == Delimiter::Bracket
                    {
                        item_is_test |= is_test_only(attribute.stream());
                        if begins_with(attribute.stream(), "ignore") {
                            self.ignored_tests.push(place);
                        }
                        at += 1;
                    }
                }
                TokenTree::Punct(mark) => {
                    // The end of an item without a body.
                    if mark.as_char() == ';' {
                        item_is_test = false;
                    }
                }
                TokenTree::Group(group) => {
                    self.read(group.stream(), place.is_in_tests);
                    if group.delimiter() == Delimiter::Brace {
                        item_is_test = false;
                    }
                }
                TokenTree::Ident(word) if word == "use" => {
                    let end = trees[at..]
                        .iter()
                        .position(|tree| is_mark(tree, ';'))
                        .map_or(trees.len(), |length| at + length);
                    self.read_use_tree(&trees[at + 1..end], "", place.is_in_tests);
                    at = end;
                    item_is_test = false;
                }
                TokenTree::Ident(_) => {
                    let (name, length) = path_at(&trees[at..]);
                    let last = name.rsplit("::").next().unwrap_or_default();
                    if trees.get(at + length).is_some_and(|tree| is_mark(tree, '!'))
                        && let Some(TokenTree::Group(body)) = trees.get(at + length + 1)
                    {
                        match last {
                            "select" if !begins_with(body.stream(), "biased") => self.unbiased_selects.push(place),
                            "todo" | "unimplemented" => self.unfinished_macros.push((place, last.to_owned())),
                            _ => {}
                        }
                    }
                    if item_is_test
                        && name == "mod"
                        && let (Some(TokenTree::Ident(module)), Some(end)) = (trees.get(at + 1), trees.get(at + 2))
                        && is_mark(end, ';')
                    {
                        self.test_modules.push(module.to_string());
                    }
                    self.names.push((place, name));
                    at += length - 1;
                }
                TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }

    /// Notes the full paths of `tree`, which stands below `prefix`.
    fn read_use_tree(&mut self, tree: &[TokenTree], prefix: &str, is_in_tests: bool) {
        for branch in tree.split(|tree| is_mark(tree, ',')) {
            let mut path = prefix.to_owned();
            let mut place = None;
            for token in branch {
                match token {
                    // A new name for it does not change what it is.
                    TokenTree::Ident(word) if word == "as" => break,
                    TokenTree::Ident(word) => {
                        if !path.is_empty() {
                            path += "::";
                        }
                        path += &word.to_string();
                        place = Some(Place { line: word.span().start().line, is_in_tests });
                    }
                    TokenTree::Group(group) => {
                        let branches: Vec<TokenTree> = group.stream().into_iter().collect();
                        self.read_use_tree(&branches, &path, is_in_tests);
                        place = None;
                    }
                    TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                }
            }
            if let Some(place) = place {
                self.names.push((place, path));
            }
        }
    }
}

/// The path `a::b::c` that `trees` begin with, and how many of them it takes.
fn path_at(trees: &[TokenTree]) -> (String, usize) {
    let mut path = trees[0].to_string();
    let mut length = 1;
    while let [first, second, TokenTree::Ident(next), ..] = &trees[length..] {
        if !is_mark(first, ':') || !is_mark(second, ':') {
            break;
        }
        path += &format!("::{next}");
        length += 3;
    }
    (path, length)
}

fn is_mark(tree: &TokenTree, mark: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == mark)
}

fn begins_with(stream: TokenStream, word: &str) -> bool {
    matches!(stream.into_iter().next(), Some(TokenTree::Ident(first)) if first == word)
}

/// Whether an attribute is `cfg(test)`, or `cfg(all(…, test, …))`, or marks a test function.
fn is_test_only(attribute: TokenStream) -> bool {
    let mut trees = attribute.into_iter();
    match (trees.next(), trees.next()) {
        (Some(TokenTree::Ident(cfg)), Some(TokenTree::Group(condition))) if cfg == "cfg" => {
            requires_test(condition.stream())
        }
        (Some(TokenTree::Ident(name)), None) => name == "test",
        _ => false,
    }
}

/// Whether `condition` cannot hold outside tests: `any` and `not` are not followed, so they promise nothing.
fn requires_test(condition: TokenStream) -> bool {
    let trees: Vec<TokenTree> = condition.into_iter().collect();
    trees.iter().enumerate().any(|(at, tree)| match tree {
        TokenTree::Ident(word) if word == "test" => true,
        TokenTree::Group(inner) => {
            matches!(at.checked_sub(1).map(|before| &trees[before]), Some(TokenTree::Ident(all)) if all == "all")
                && requires_test(inner.stream())
        }
        _ => false,
    })
}

/// Where the module `name` of the file `parent` may lie: a file, or a folder.
fn files_of_module(parent: &str, name: &str) -> [String; 2] {
    let (folder, file) = parent.rsplit_once('/').unwrap_or(("", parent));
    let stem = file.trim_end_matches(".rs");
    let home = if matches!(stem, "lib" | "main" | "mod") { folder.to_owned() } else { format!("{folder}/{stem}") };
    [format!("{home}/{name}.rs"), format!("{home}/{name}")]
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn is_compile_fail_sample(path: &str) -> bool {
    path.split('/').any(|folder| COMPILE_FAIL.contains(&folder))
}

/// The word of `path` that is a drawer's.
fn drawer(path: &str) -> Option<&str> {
    path.split(['/', '_', '-', '.']).find(|word| DRAWERS.contains(word))
}

/// Words of unfinished work in `text`, with their lines.
fn unfinished(text: &str) -> Vec<(usize, &'static str)> {
    // Put together here, so that this file does not break its own rule.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let on = |line: &str| marks.into_iter().find(|mark| line.contains(mark));
    text.lines().enumerate().filter_map(|(at, line)| Some((at + 1, on(line)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "//! A module.\n";

    /// The problems that `text` (after its head line) has at `path`, each as `line: problem`.
    fn problems_of(path: &str, text: &str) -> Vec<String> {
        of_files(&[(path, &format!("{HEAD}{text}"))])
    }

    fn of_files(files: &[(&str, &str)]) -> Vec<String> {
        let mut sources: Vec<(String, String)> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        for pure in PURE {
            if !files.iter().any(|(path, _)| path == pure) {
                sources.push(((*pure).to_owned(), HEAD.to_owned()));
            }
        }
        findings(&sources).iter().map(|finding| format!("{}: {}", finding.line, finding.problem)).collect()
    }

    /// Checks that `text` is refused at `path` once, on line 2, with `problem` in what is said.
    fn refused(path: &str, text: &str, problem: &str) {
        let found = problems_of(path, text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with("2: ") && found[0].contains(problem), "{text}: {found:?}");
    }

    fn accepted(path: &str, text: &str) {
        assert_eq!(problems_of(path, text), [""; 0], "{text}");
    }

    const WORKER: &str = "worker/src/executor/bolt.rs";

    #[test]
    fn tasks_and_threads_start_through_the_seam() {
        refused(WORKER, "fn f() { tokio::spawn(async {}); }", "`tokio::spawn` goes round the seam");
        refused(WORKER, "fn f() { tokio::task::spawn_blocking(|| ()); }", "`task::spawn_blocking`");
        refused(WORKER, "fn f() { std::thread::spawn(|| ()); }", "`thread::spawn`");
        refused(WORKER, "fn f() { std::thread::Builder::new(); }", "`thread::Builder`");
        accepted(WORKER, "fn f(seam: &Seam) { seam.spawn(async {}); seam.spawn_blocking(\"spout\", async {}); }");
    }

    #[test]
    fn an_import_hides_nothing() {
        refused(WORKER, "use tokio::{sync::mpsc, task::{spawn_blocking as later}};", "`task::spawn_blocking`");
        refused(WORKER, "use tokio::time::{Duration, sleep};", "`time::sleep`");
        refused(WORKER, "use tokio::spawn;", "`tokio::spawn`");
    }

    #[test]
    fn time_comes_through_the_seam() {
        refused(WORKER, "fn f() { let now = Instant::now(); }", "`Instant::now`");
        refused(WORKER, "fn f() { let now = std::time::SystemTime::now(); }", "`SystemTime::now`");
        refused(WORKER, "async fn f() { tokio::time::sleep(WEEK).await; }", "`time::sleep`");
        refused(WORKER, "async fn f() { tokio::time::interval(WEEK); }", "`time::interval`");
        refused(WORKER, "async fn f() { time::timeout(WEEK, g()).await; }", "`time::timeout`");
        refused("topology-api/src/bolt.rs", "fn f() { Instant::now(); }", "`Instant::now`");
        refused("local-cluster/src/lib.rs", "fn f() { Instant::now(); }", "`Instant::now`");
    }

    #[test]
    fn randomness_comes_through_the_seam() {
        refused(WORKER, "fn f() { rand::rng(); }", "`rand::rng`");
        refused(WORKER, "fn f() { thread_rng(); }", "`thread_rng`");
        refused(WORKER, "fn f() -> u64 { rand::random() }", "`rand::random`");
        accepted(WORKER, "fn f(seam: &Seam) { seam.random(); }");
    }

    #[test]
    fn the_seam_itself_and_other_crates_are_free() {
        accepted(SEAM, "fn f() { tokio::spawn(async {}); Instant::now(); std::thread::Builder::new(); }");
        accepted("baseline/src/hop.rs", "fn f() { tokio::spawn(async {}); Instant::now(); }");
    }

    #[test]
    fn comments_and_strings_break_no_rule() {
        accepted(WORKER, "/// Like tokio::spawn.\nfn f() { g(\"Instant::now\"); } // thread_rng");
    }

    #[test]
    fn tests_may_go_round_the_seam() {
        accepted(WORKER, "#[cfg(test)]\nmod tests { fn f() { tokio::spawn(async {}); } }");
        accepted(WORKER, "#[cfg(all(test, not(loom)))]\nmod tests { fn f() { tokio::spawn(async {}); } }");
        accepted("worker/tests/it/links.rs", "fn f() { tokio::spawn(async {}); }");
        assert_eq!(
            of_files(&[
                ("worker/src/link.rs", "//! A module.\n#[cfg(test)]\nmod tests;\n"),
                ("worker/src/link/tests.rs", "//! Tests.\nfn f() { tokio::spawn(async {}); }\n"),
            ]),
            [""; 0]
        );
    }

    #[test]
    fn what_is_not_only_for_tests_is_no_test() {
        let found = problems_of(WORKER, "#[cfg(not(test))]\nfn f() { tokio::spawn(async {}); }");
        assert_eq!(found.len(), 1, "{found:?}");
        let found = problems_of(WORKER, "#[cfg(any(test, loom))]\nfn f() { tokio::spawn(async {}); }");
        assert_eq!(found.len(), 1, "{found:?}");
        let found = problems_of(WORKER, "#[cfg(test)]\nmod tests {}\nfn f() { tokio::spawn(async {}); }");
        assert_eq!(found.len(), 1, "{found:?}");
        let found = problems_of(WORKER, "#[cfg(test)]\nmod tests;\nfn f() { tokio::spawn(async {}); }");
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn nobody_sleeps_in_a_test() {
        refused("worker/tests/it/links.rs", "fn f() { std::thread::sleep(WEEK); }", "wait on a condition");
        refused("storm/tests/it/main.rs", "use std::thread::sleep;", "wait on a condition");
    }

    #[test]
    fn select_is_biased() {
        refused(WORKER, "async fn f() { tokio::select! { _ = a => {} } }", "without `biased;`");
        refused("worker/tests/it/links.rs", "async fn f() { select! { _ = a => {} } }", "without `biased;`");
        accepted(WORKER, "async fn f() { tokio::select! { biased; _ = a => {} } }");
    }

    #[test]
    fn a_map_without_order_gives_its_reason() {
        refused(WORKER, "use std::collections::{BTreeMap, HashMap};", "the order of a `HashMap`");
        refused(WORKER, "use ahash::AHashSet;", "the order of a `AHashSet`");
        refused("cluster-state/src/memory.rs", "use std::collections::HashMap;", "the order of a `HashMap`");
        accepted(WORKER, "use std::collections::HashMap; // order: only looked up, never walked");
        accepted("baseline/src/hop.rs", "use std::collections::HashMap;");
    }

    #[test]
    fn state_machines_know_no_runtime() {
        refused(PURE[0], "use tokio::sync::mpsc;", "`tokio` in a state machine");
        refused(PURE[0], "use std::net::SocketAddr;", "`net` in a state machine");
        refused(PURE[0], "fn f(seam: &Seam) {}", "`Seam` in a state machine");
        accepted(PURE[0], "use std::time::Duration;");
        accepted(PURE[0], "#[cfg(test)]\nmod tests { use tokio::time::Instant; }");
    }

    #[test]
    fn a_pure_file_that_is_gone_is_missed() {
        let found = findings(&[]);
        assert_eq!(found.len(), PURE.len());
        assert!(found[0].to_string().ends_with("the list of pure files names it, but it does not exist"));
    }

    #[test]
    fn drawers_are_refused() {
        for path in ["worker/src/util.rs", "worker/src/link_helpers.rs", "common/Cargo.toml", "docs/misc/a.md"] {
            let found = of_files(&[(path, HEAD)]);
            assert!(found.len() == 1 && found[0].contains("a drawer"), "{path}: {found:?}");
        }
        accepted("worker/src/utility_of_money.rs", "");
    }

    #[test]
    fn a_module_says_what_it_is() {
        let found = of_files(&[(WORKER, "fn f() {}\n")]);
        assert!(found.len() == 1 && found[0].contains("begins with `//!`"), "{found:?}");
        assert_eq!(of_files(&[("storm/tests/compile-fail/wrong_stream.rs", "fn f() {}\n")]), [""; 0]);
    }

    #[test]
    fn nothing_is_left_unfinished() {
        refused(WORKER, concat!("// TO", "DO: the rest"), "finish it");
        refused(WORKER, concat!("fn f() {} // FIX", "ME"), "finish it");
        refused(WORKER, "fn f() { todo!() }", "`todo!`");
        refused(WORKER, "fn f() { unimplemented!() }", "`unimplemented!`");
    }

    #[test]
    fn no_test_is_ignored() {
        refused(WORKER, "#[test] #[ignore] fn f() {}", "ignored");
        refused(WORKER, "#[test] #[ignore = \"slow\"] fn f() {}", "ignored");
    }
}
