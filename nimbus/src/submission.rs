//! What is checked of a submission before anything of it is stored.
//!
//! Not here: whether the name is taken and the blobs are there (`process`, in one step with storing it). Invariant: a topology that was stored
//! can be scheduled: its task ids are those that its executables give out.

use std::collections::{BTreeMap, BTreeSet};

use cluster_state::records::Supervisor;
use nimbus_api::failure::{Failure, FailureKind};
use nimbus_api::submission::Submission;
use topology_api::config::{Config, ConfigErrors, Origin, TopologySettings};
use topology_api::grouping::Grouping;
use topology_api::topology::{ComponentGraph, GRAPH_FORMAT, Graph, InputGraph};
use worker_api::check_format;
use worker_api::ids::NAME_BYTES;
use worker_api::launch::{LAUNCH_FILE, LAUNCH_FORMAT};

/// Most tasks of a component, as there are so many key groups.
const COMPONENT_TASKS: usize = 32_768;
/// Most mistakes that are told at once.
const TOLD: usize = 20;

/// What the cluster sets.
pub(crate) struct Limits {
    /// `nimbus.slots.perTopology`.
    pub(crate) most_workers: Option<u32>,
    /// `nimbus.executors.perTopology`.
    pub(crate) most_executors: Option<u32>,
}

/// What is read of a graph that makes sense.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    /// What the runtime reads of its configuration.
    pub(crate) settings: TopologySettings,
    /// What its user should know although nothing is wrong.
    pub(crate) warnings: Vec<String>,
}

/// Checks all of it that can be checked without the cluster's records but the machines.
///
/// # Errors
/// All mistakes at once, in a sentence each.
pub(crate) fn check<'a>(
    submission: &Submission,
    limits: &Limits,
    machines: impl IntoIterator<Item = &'a Supervisor>,
) -> Result<Checked, Failure> {
    let invalid = |why: String| FailureKind::InvalidTopology.with(why);
    let build = &submission.described.build;
    check_format("executable's launch file", LAUNCH_FORMAT, build.launch_format)
        .map_err(|wrong| invalid(wrong.to_string()))?;
    if submission.files.keys().any(|name| name.as_str() == LAUNCH_FILE) {
        return Err(invalid(format!(
            "no file of topology `{}` may be called `{LAUNCH_FILE}`: each worker's folder has one of the runtime's; \
             choose another name",
            submission.name
        )));
    }
    let mut warnings = platform(submission, machines)?;
    if build.panic_aborts {
        warnings.push(
            "the executable is built with `panic = \"abort\"`: a panic ends the whole worker, not one executor"
                .to_owned(),
        );
    }
    let graph = &submission.described.graph;
    let settings = check_graph(graph).map_err(|problems| told(submission, problems))?;
    let executors: usize = graph.components.iter().map(|component| component.executors).sum();
    let (workers, executors) = (u32::from(settings.workers), u32::try_from(executors).unwrap_or(u32::MAX));
    if let Some(most) = limits.most_workers.filter(|most| workers > *most) {
        return Err(invalid(format!(
            "topology `{}` wants {workers} workers by topology.workers, and nimbus.slots.perTopology allows {most}",
            submission.name
        )));
    }
    if let Some(most) = limits.most_executors.filter(|most| executors > *most) {
        return Err(invalid(format!(
            "topology `{}` has {executors} executors, and nimbus.executors.perTopology allows {most}",
            submission.name
        )));
    }
    warnings.extend(idle_workers(workers, executors));
    Ok(Checked { settings, warnings })
}

/// A warning, if there are more workers than executors: the others are not started.
pub(crate) fn idle_workers(workers: u32, executors: u32) -> Option<String> {
    let one = if executors == 1 { "executor" } else { "executors" };
    (executors < workers).then(|| {
        format!("it has {executors} {one}, so {executors} of the {workers} workers that are asked for will be used")
    })
}

/// Whether a machine can start its executable; a warning if none is there.
fn platform<'a>(
    submission: &Submission,
    machines: impl IntoIterator<Item = &'a Supervisor>,
) -> Result<Vec<String>, Failure> {
    let wanted = &submission.described.build.platform;
    let mut known: BTreeMap<&str, u32> = BTreeMap::new();
    for machine in machines {
        *known.entry(&machine.platform).or_default() += 1;
    }
    if known.is_empty() {
        return Ok(vec!["no Supervisor is there: it waits until one is".to_owned()]);
    }
    let all: u32 = known.values().sum();
    match known.get(wanted.as_str()) {
        Some(fitting) if *fitting == all => Ok(Vec::new()),
        Some(fitting) => Ok(vec![format!("{fitting} of {all} machines can start an executable for {wanted:?}")]),
        None => {
            let platforms: Vec<&str> = known.into_keys().collect();
            Err(FailureKind::InvalidTopology.with(format!(
                "the executable is built for {wanted:?}, and the machines are {}: build it for one of them",
                platforms.join(", ")
            )))
        }
    }
}

fn told(submission: &Submission, mut problems: Vec<String>) -> Failure {
    let more = problems.len().saturating_sub(TOLD);
    problems.truncate(TOLD);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    FailureKind::InvalidTopology.with(format!("topology `{}` is refused: {}", submission.name, problems.join("; ")))
}

/// Reads a graph's settings, if all of it makes sense.
///
/// # Errors
/// What does not, in a sentence each.
pub(crate) fn check_graph(graph: &Graph) -> Result<TopologySettings, Vec<String>> {
    if let Err(wrong) = check_format("graph", GRAPH_FORMAT, graph.format) {
        return Err(vec![wrong.to_string()]);
    }
    let mut problems = Vec::new();
    let settings = configuration(graph, &mut problems);
    names(graph, &mut problems);
    if !graph.components.iter().any(|component| component.kind == "spout") {
        problems.push("it has no spout, so no tuple would ever flow".to_owned());
    }
    tasks(graph, &mut problems);
    let by_name = graph.components.iter().map(|component| (component.name.as_str(), component)).collect();
    for component in &graph.components {
        match component.kind.as_str() {
            "spout" if !component.inputs.is_empty() => {
                problems.push(format!("spout `{}` subscribes to a stream; only bolts may", component.name));
            }
            "spout" | "bolt" => {}
            other => problems.push(format!("component `{}` is a {other:?}, neither spout nor bolt", component.name)),
        }
        for input in &component.inputs {
            problems.extend(self::input(component, input, &by_name));
        }
    }
    match settings {
        Some(settings) if problems.is_empty() => Ok(settings),
        _ => Err(problems),
    }
}

fn configuration(graph: &Graph, problems: &mut Vec<String>) -> Option<TopologySettings> {
    let mut tell = |errors: ConfigErrors| problems.extend(errors.iter().map(ToString::to_string));
    let mut config = Config::new();
    for (key, value) in &graph.config {
        config.put(Origin::Code, key, value.clone());
    }
    let settings = config.settings().map_err(&mut tell).ok();
    for component in &graph.components {
        let own = component.config.iter().map(|(key, value)| (key.clone(), value.clone()));
        if let Err(errors) = config.for_component(&component.name, own).component_settings() {
            tell(errors);
        }
    }
    settings
}

fn names(graph: &Graph, problems: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for component in &graph.components {
        let name = &component.name;
        problems.extend(wrong_name(name).map(|why| format!("the component name {} {why}", shown(name))));
        if !seen.insert(name) {
            problems.push(format!("two components have the name {}", shown(name)));
        }
        let mut streams = BTreeSet::new();
        for stream in &component.streams {
            let wrong = wrong_name(&stream.name);
            problems.extend(
                wrong.map(|why| format!("the name of stream {} of {} {why}", shown(&stream.name), shown(name))),
            );
            if !streams.insert(&stream.name) {
                problems.push(format!(
                    "component {} has two streams with the name {}",
                    shown(name),
                    shown(&stream.name)
                ));
            }
        }
    }
}

/// Task ids count from 1 over the components by name; each component has as many as it says.
fn tasks(graph: &Graph, problems: &mut Vec<String>) {
    if !graph.components.is_sorted_by(|a, b| a.name < b.name) {
        problems.push(
            "its components are not sorted by name, so task ids would differ from those of its workers".to_owned(),
        );
        return;
    }
    let mut next = 1u64;
    for component in &graph.components {
        let (name, tasks, executors) = (shown(&component.name), component.tasks, component.executors);
        if tasks == 0 || tasks > COMPONENT_TASKS {
            problems.push(format!("component {name} has {tasks} tasks; 1 to {COMPONENT_TASKS} are allowed"));
        }
        if executors == 0 || executors > tasks {
            problems.push(format!(
                "component {name} has {executors} executors for {tasks} tasks; 1 to {tasks} are allowed"
            ));
        }
        if u64::from(component.first_task) != next {
            problems.push(format!("the tasks of component {name} begin at {}; {next} is next", component.first_task));
            return;
        }
        next = next.saturating_add(tasks as u64);
    }
    if next > u64::from(u32::MAX) {
        problems.push("it has more tasks than there are ids".to_owned());
    }
}

fn input(bolt: &ComponentGraph, input: &InputGraph, by_name: &BTreeMap<&str, &ComponentGraph>) -> Option<String> {
    let (name, source, stream) = (shown(&bolt.name), shown(&input.component), shown(&input.stream));
    let Some(component) = by_name.get(input.component.as_str()) else {
        return Some(format!("bolt {name} subscribes to {source}, which is not in the topology"));
    };
    let Some(declared) = component.streams.iter().find(|declared| declared.name == input.stream) else {
        return Some(format!("bolt {name} subscribes to stream {stream} of {source}, which it does not emit"));
    };
    if declared.direct != (input.grouping == Grouping::Direct) {
        return Some(format!(
            "bolt {name} subscribes to stream {stream} of {source}: direct grouping and direct streams go together"
        ));
    }
    let (Grouping::Fields(fields) | Grouping::PartialKey(fields)) = &input.grouping else { return None };
    let missing = fields.iter().find(|field| !declared.fields.contains(field))?;
    Some(format!("bolt {name} groups stream {stream} of {source} by field {}, which it does not have", shown(missing)))
}

/// What is wrong with the name of a component or a stream, if anything.
fn wrong_name(name: &str) -> Option<String> {
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.len() > NAME_BYTES {
        Some(format!("has {} bytes, 1 to {NAME_BYTES} are allowed", name.len()))
    } else if !name.starts_with(first) || !name.chars().all(|c| first(c) || c == '.' || c == '-') {
        Some("must begin with a letter, a digit or `_`, and may have `.` and `-` after it".to_owned())
    } else if name.contains("..") {
        Some("has `..` in it".to_owned())
    } else if name.starts_with("__") {
        Some("begins with `__`, which is kept for the runtime".to_owned())
    } else {
        None
    }
}

/// A name that may be anything, for a message.
fn shown(name: &str) -> String {
    format!("`{}`", name.chars().take(NAME_BYTES).flat_map(char::escape_default).collect::<String>())
}
