//! Every mistake of a graph that can be found without running it, all at once.
//!
//! Not here: mistakes that the compiler finds. Invariant: a problem names what the author wrote, and what to do.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::builder::{Draft, DraftInput};
use super::{Component, StreamInfo, Subscription, Topology, TopologyBuilder};
use crate::anchor::LedgerId;
use crate::config::{Config, ConfigErrors};
use crate::grouping::Grouping;
use crate::ids::TaskId;
use crate::output::DeclaredStream;
use crate::tuple::{KEY_GROUPS, Values};

/// Why a topology cannot be built: all of its mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    topology: String,
    problems: Vec<String>,
}

impl BuildError {
    /// The mistakes, one sentence each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [problem] => write!(f, "topology `{}` has a mistake: {problem}", self.topology),
            problems => {
                write!(f, "topology `{}` has {} mistakes:", self.topology, problems.len())?;
                problems.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
            }
        }
    }
}

impl std::error::Error for BuildError {}

/// Longest name of a topology, component or stream.
const NAME_BYTES: usize = 96;

/// What is wrong with a name, if anything: `[A-Za-z0-9_][A-Za-z0-9._-]{0,95}`, no `..`, not beginning with `__`.
fn wrong_name(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        Some("is empty".to_owned())
    } else if name.len() > NAME_BYTES {
        Some(format!("is longer than {NAME_BYTES} characters"))
    } else if let Some(c) = name.chars().find(|c| !allowed(*c)) {
        Some(format!("has the character {c:?}; letters, digits, `.`, `_` and `-` are allowed"))
    } else if name.starts_with(['.', '-']) {
        Some("begins with `.` or `-`".to_owned())
    } else if name.starts_with("__") {
        Some("begins with `__`, which is kept for the system".to_owned())
    } else if name.contains("..") {
        Some("has `..` in it".to_owned())
    } else {
        None
    }
}

/// "; did you mean `x`?" for the nearest of the known names.
fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = known.into_iter().map(|name| (strsim::damerau_levenshtein(wrong, name), name)).min();
    match near {
        Some((distance, name)) if distance <= 1 + wrong.len() / 4 => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}

fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

pub(super) fn build(builder: TopologyBuilder) -> Result<Topology, BuildError> {
    let TopologyBuilder { mut name, components: drafts, config, mut problems } = builder;
    let tell =
        |errors: ConfigErrors, problems: &mut Vec<String>| problems.extend(errors.iter().map(ToString::to_string));
    let settings = config.settings().map_err(|errors| tell(errors, &mut problems)).ok();
    if let Some(configured) = settings.as_ref().and_then(|settings| settings.name.clone()) {
        name = configured;
    }
    if let Some(wrong) = wrong_name(&name) {
        problems.push(format!("the topology's name `{name}` {wrong}"));
    }
    names(&drafts, &mut problems);
    for draft in &drafts {
        numbers(draft, &mut problems);
        inputs(draft, &drafts, &mut problems);
    }
    if !drafts.iter().any(|draft| draft.spout) {
        problems.push("it has no spout, so no tuple would ever flow; add one with `.spout(name, …)`".to_owned());
    }
    let cycles = closes_cycle(&drafts);
    unreached(&drafts, &mut problems);
    let mut made: Vec<Unplaced> = Vec::new();
    for (draft, cycles) in drafts.into_iter().zip(cycles) {
        let component = component(draft, &cycles, &config, &mut problems);
        made.extend(component);
    }
    let spout_tasks: usize =
        made.iter().filter(|made| made.component.spout).map(|made| made.component.tasks.len()).sum();
    if spout_tasks > MOST_SPOUT_TASKS {
        problems
            .push(format!("its spouts have {spout_tasks} tasks together; a topology has at most {MOST_SPOUT_TASKS}"));
    }
    let (Some(settings), true) = (settings, problems.is_empty()) else {
        return Err(BuildError { topology: name, problems });
    };
    Ok(assemble(name, made, config, settings))
}

fn names(drafts: &[Draft], problems: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for draft in drafts {
        let kind = kind(draft);
        if let Some(wrong) = wrong_name(&draft.name) {
            problems.push(format!("the name of {kind} `{}` {wrong}", draft.name));
        }
        if !seen.insert(&draft.name) {
            problems.push(format!("two components have the name `{}`", draft.name));
        }
        let mut streams = BTreeSet::new();
        for stream in &draft.streams {
            if let Some(wrong) = wrong_name(&stream.name) {
                problems.push(format!("the name of stream `{}` of {kind} `{}` {wrong}", stream.name, draft.name));
            }
            if !streams.insert(&stream.name) {
                problems.push(format!("{kind} `{}` has two streams with the name `{}`", draft.name, stream.name));
            }
            let mut fields = BTreeSet::new();
            for field in stream.fields.iter().filter(|field| !fields.insert(*field)) {
                problems.push(format!(
                    "stream `{}` of {kind} `{}` has two fields with the name `{field}`",
                    stream.name, draft.name
                ));
            }
        }
    }
}

fn kind(draft: &Draft) -> &'static str {
    if draft.spout { "spout" } else { "bolt" }
}

/// Most tasks of a component: with more, some would get no key group.
const MOST_TASKS: usize = KEY_GROUPS as usize;
/// Most spout tasks of a topology: each has a ledger of its own number.
const MOST_SPOUT_TASKS: usize = LedgerId::LAST.0 as usize + 1;

fn numbers(draft: &Draft, problems: &mut Vec<String>) {
    let (kind, name) = (kind(draft), &draft.name);
    if draft.parallelism == 0 {
        problems.push(format!("{kind} `{name}` has parallelism 0; give at least 1"));
    }
    if draft.parallelism.max(draft.tasks.unwrap_or(0)) > MOST_TASKS {
        let tasks = draft.parallelism.max(draft.tasks.unwrap_or(0));
        problems.push(format!("{kind} `{name}` has {tasks} tasks; a component has at most {MOST_TASKS}"));
    }
    match draft.tasks {
        Some(0) => problems.push(format!("{kind} `{name}` has 0 tasks; give at least 1")),
        Some(tasks) if tasks < draft.parallelism => problems.push(format!(
            "{kind} `{name}` has {} executors for {tasks} tasks; an executor runs at least one task",
            draft.parallelism
        )),
        _ => {}
    }
    if draft.tick.is_some_and(|tick| tick.as_millis() == 0) {
        problems.push(format!(
            "{kind} `{name}` ticks every {:?}; give at least one millisecond",
            draft.tick.unwrap_or_default()
        ));
    }
}

fn inputs(draft: &Draft, drafts: &[Draft], problems: &mut Vec<String>) {
    if !draft.spout && draft.inputs.is_empty() {
        problems.push(format!(
            "bolt `{}` subscribes to no stream, so it would never get a tuple; chain a grouping, as `.shuffle(&stream)`",
            draft.name
        ));
    }
    let mut seen = BTreeSet::new();
    for input in &draft.inputs {
        if !seen.insert((&input.component, &input.stream)) {
            problems.push(format!(
                "bolt `{}` subscribes twice to stream `{}` of `{}`",
                draft.name, input.stream, input.component
            ));
        }
        if let Err(problem) = source_of(draft, input, drafts) {
            problems.push(problem);
        }
    }
}

/// Checks one subscription against the component that it names.
fn source_of(draft: &Draft, input: &DraftInput, drafts: &[Draft]) -> Result<(), String> {
    let (bolt, component, stream) = (&draft.name, &input.component, &input.stream);
    let Some(source) = drafts.iter().find(|draft| draft.name == *component) else {
        let names = || drafts.iter().map(|draft| draft.name.as_str());
        return Err(format!(
            "bolt `{bolt}` subscribes to `{component}`, which is not in the topology{}",
            match suggestion(component, names()) {
                none if none.is_empty() => format!("; its components are {}", list(names())),
                near => near,
            }
        ));
    };
    let Some(declared) = source.streams.iter().find(|declared| declared.name == *stream) else {
        let names = || source.streams.iter().map(|stream| stream.name.as_str());
        return Err(format!(
            "bolt `{bolt}` subscribes to stream `{stream}` of `{component}`, which it does not emit; its streams are {}{}",
            list(names()),
            suggestion(stream, names())
        ));
    };
    if let Some((tuple, tuple_name)) = input.tuple
        && tuple != declared.tuple_type
    {
        return Err(format!(
            "bolt `{bolt}` takes stream `{stream}` of `{component}` as one of `{tuple_name}`, but it carries `{}`",
            declared.tuple
        ));
    }
    grouping(bolt, component, declared, &input.grouping.shown)
}

fn grouping(bolt: &str, component: &str, stream: &DeclaredStream, grouping: &Grouping) -> Result<(), String> {
    let name = &stream.name;
    match (stream.direct, grouping) {
        (true, Grouping::Direct) => return Ok(()),
        (true, other) => {
            return Err(format!(
                "bolt `{bolt}` subscribes to the direct stream `{name}` of `{component}` by {other} grouping; only `.direct(…)` fits, as its emitter names the task"
            ));
        }
        (false, Grouping::Direct) => {
            return Err(format!(
                "bolt `{bolt}` subscribes by direct grouping to stream `{name}` of `{component}`, whose emitter names no task; make it a `Direct<…>` port, or use another grouping"
            ));
        }
        (false, _) => {}
    }
    let (Grouping::Fields(fields) | Grouping::PartialKey(fields)) = grouping else { return Ok(()) };
    let known = || stream.fields.iter().map(String::as_str);
    if let Some(field) = fields.iter().find(|field| stream.opaque.contains(&field.as_str())) {
        return Err(format!(
            "bolt `{bolt}` groups stream `{name}` of `{component}` by field `{field}`, which is #[tuple(serde)] and has no key; group by another, or by a computed key with `.fields_with(…)`"
        ));
    }
    if let Some(field) = fields.iter().find(|field| !stream.fields.contains(field)) {
        if stream.fields.is_empty() && stream.tuple_type == TypeId::of::<Values>() {
            return Err(format!(
                "bolt `{bolt}` groups stream `{name}` of `{component}` by field `{field}`, but the stream's fields have no names; name them with `.output_fields([…])` where `{component}` is added"
            ));
        }
        return Err(format!(
            "bolt `{bolt}` groups stream `{name}` of `{component}` by field `{field}`, which it does not have; its fields are {}{}",
            list(known()),
            suggestion(field, known())
        ));
    }
    Ok(())
}

/// Bolts that no spout leads to: cycles that feed on themselves.
fn unreached(drafts: &[Draft], problems: &mut Vec<String>) {
    let mut reached: BTreeSet<&str> =
        drafts.iter().filter(|draft| draft.spout).map(|draft| draft.name.as_str()).collect();
    // A bolt with an unknown source or none at all is reported as such.
    let known = |input: &DraftInput| drafts.iter().any(|draft| draft.name == input.component);
    let whole = |draft: &&Draft| !draft.inputs.is_empty() && draft.inputs.iter().all(known);
    for _ in drafts {
        let next = drafts.iter().filter(|draft| {
            !whole(draft) || draft.inputs.iter().any(|input| reached.contains(input.component.as_str()))
        });
        reached = next.map(|draft| draft.name.as_str()).chain(reached.iter().copied()).collect();
    }
    for draft in drafts.iter().filter(|draft| !reached.contains(draft.name.as_str())) {
        problems.push(format!(
            "no spout leads to bolt `{}`, so it would never get a tuple; subscribe it, or what it subscribes to, to a spout's stream",
            draft.name
        ));
    }
}

/// For each draft's inputs, whether the edge leads back to a component upstream: depth first from the spouts, in the order
/// in which the author added them.
fn closes_cycle(drafts: &[Draft]) -> Vec<Vec<bool>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        Open,
        Done,
    }
    fn visit(at: usize, edges: &BTreeMap<usize, Vec<(usize, usize)>>, seen: &mut [Seen], closes: &mut [Vec<bool>]) {
        seen[at] = Seen::Open;
        for &(subscriber, input) in edges.get(&at).map_or(&[][..], Vec::as_slice) {
            match seen[subscriber] {
                Seen::No => visit(subscriber, edges, seen, closes),
                Seen::Open => closes[subscriber][input] = true,
                Seen::Done => {}
            }
        }
        seen[at] = Seen::Done;
    }
    let mut edges: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
    for (subscriber, draft) in drafts.iter().enumerate() {
        for (index, input) in draft.inputs.iter().enumerate() {
            if let Some(source) = drafts.iter().position(|draft| draft.name == input.component) {
                edges.entry(source).or_default().push((subscriber, index));
            }
        }
    }
    let mut seen = vec![Seen::No; drafts.len()];
    let mut closes: Vec<Vec<bool>> = drafts.iter().map(|draft| vec![false; draft.inputs.len()]).collect();
    let spouts_first = (0..drafts.len()).filter(|at| drafts[*at].spout).chain(0..drafts.len());
    for at in spouts_first {
        if seen[at] == Seen::No {
            visit(at, &edges, &mut seen, &mut closes);
        }
    }
    closes
}

/// A component whose task ids and places of its sources are not known yet, with the names of those sources.
struct Unplaced {
    component: Component,
    sources: Vec<(String, String)>,
}

fn component(mut draft: Draft, cycles: &[bool], config: &Config, problems: &mut Vec<String>) -> Option<Unplaced> {
    let own = std::mem::take(&mut draft.conf);
    let conf = config.for_component(&draft.name, own.clone());
    let settings = match conf.component_settings() {
        Ok(settings) => settings,
        Err(errors) => {
            problems.extend(errors.iter().map(ToString::to_string));
            return None;
        }
    };
    let wanted = draft.tasks.or_else(|| settings.tasks.map(|tasks| tasks as usize)).unwrap_or(draft.parallelism);
    let most = settings.max_task_parallelism.map_or(usize::MAX, |most| most as usize);
    let tasks = wanted.max(1).min(most);
    let sources = draft.inputs.iter().map(|input| (input.component.clone(), input.stream.clone())).collect();
    let component = Component {
        name: draft.name,
        spout: draft.spout,
        blocking: draft.blocking,
        streams: draft
            .streams
            .iter()
            .map(|stream| StreamInfo {
                name: stream.name.clone(),
                fields: stream.fields.clone(),
                direct: stream.direct,
                tuple: stream.tuple.to_owned(),
                decode: stream.decode,
            })
            .collect(),
        subscriptions: draft
            .inputs
            .iter()
            .zip(cycles)
            .map(|(input, closes_cycle)| Subscription {
                source: 0,
                stream: 0,
                closes_cycle: *closes_cycle,
                grouping: input.grouping.clone(),
            })
            .collect(),
        tasks: (0..tasks).map(|task| TaskId(task as u32)).collect(),
        executors: draft.parallelism.clamp(1, tasks),
        tick: draft.tick,
        own_conf: own.into_iter().collect(),
        conf: Arc::new(conf.iter().map(|(key, value, _)| (key.to_owned(), value.clone())).collect()),
        settings,
        node: draft.node,
    };
    Some(Unplaced { component, sources })
}

fn assemble(
    name: String,
    mut made: Vec<Unplaced>,
    config: Config,
    settings: crate::config::TopologySettings,
) -> Topology {
    made.sort_by(|a, b| a.component.name.cmp(&b.component.name));
    let mut places: BTreeMap<(String, String), (usize, usize)> = BTreeMap::new();
    for (place, Unplaced { component, .. }) in made.iter().enumerate() {
        for (stream, info) in component.streams.iter().enumerate() {
            places.insert((component.name.clone(), info.name.clone()), (place, stream));
        }
    }
    let mut next_task = 1;
    let components = made
        .into_iter()
        .map(|Unplaced { mut component, sources }| {
            for task in &mut component.tasks {
                *task = TaskId(next_task);
                next_task += 1;
            }
            for (subscription, source) in component.subscriptions.iter_mut().zip(&sources) {
                (subscription.source, subscription.stream) = places[source];
            }
            component
        })
        .collect();
    Topology { name, components, config, settings }
}
