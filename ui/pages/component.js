// One component: its executors, what it takes and gives, its errors.

import { ask, componentLink, count, duration, h, latency, live, moment, sentence, status, table, text, tile, topologyLink, windowName } from "/page.js";

const query = new URLSearchParams(location.search);
const id = query.get("id") ?? "";
const topologyId = query.get("topology_id") ?? "";

const chosenWindow = () => new URLSearchParams(location.search).get("window") ?? ":all-time";

async function load() {
  const path = encodeURIComponent(topologyId);
  const [component, topology] = await Promise.all([
    ask(`/api/v1/topology/${path}/component/${encodeURIComponent(id)}?window=${encodeURIComponent(chosenWindow())}`),
    ask(`/api/v2/topology/${path}?executors=${encodeURIComponent(id)}`),
  ]);
  return { component, topology };
}

function crumb(name) {
  return h("p", { class: "crumb" }, h("a", { href: "/" }, "Cluster"), " › ", h("a", { href: topologyLink(topologyId) }, name), " › Component");
}

function absent(message) {
  return [crumb(topologyId), h("h1", null, id || "No component"), h("p", { class: "empty" }, sentence(message))];
}

function show({ component, topology }) {
  document.title = `${component.id} of ${component.name} · Storm UI`;
  const isSpout = component.componentType === "spout";
  const errors = component.componentErrors.map((error, at) => ({ ...error, at })).reverse();
  return [
    crumb(component.name),
    h("div", { class: "head" }, h("h1", null, component.id), h("span", { class: "badge" }, component.componentType), status(component.topologyStatus)),
    h("dl", { class: "tiles" },
      tile("Executors", count(component.executors)),
      tile("Tasks", count(component.tasks)),
      tile("Errors", count(errors.length))),
    h("h2", null, "Statistics"),
    table("Statistics by window", [
      { name: "Window", kind: "name", cell: windowLink },
      ...sent, ...(isSpout ? complete : executed), ...settled,
    ], isSpout ? component.spoutSummary : component.boltStats, (row) => row.window, (row) => (row.window === component.window ? "chosen" : null)),
    isSpout ? null : [h("h2", null, "Inputs ", h("small", null, windowName(component.window))), inputs(component.inputStats)],
    h("h2", null, "Outputs ", h("small", null, windowName(component.window))),
    outputs(component.outputStats, isSpout),
    h("h2", null, "Executors ", h("small", null, windowName(component.window))),
    executors(component.executorStats, topology, isSpout),
    h("h2", null, "Errors"),
    errors.length === 0 ? h("p", { class: "empty" }, "No error was reported.") : table("Errors", [
      { name: "Time", kind: "host", cell: (error) => moment(error.errorTime) },
      { name: "Host and port", kind: "host", cell: (error) => `${error.errorHost}:${error.errorPort}` },
      { name: "Error", kind: "wide", cell: (error) => h("pre", { tabindex: "0", "aria-label": "error" }, error.error) },
    ], errors, (error) => `${error.errorTime} ${error.at}`),
  ];
}

function windowLink(row) {
  const href = `${componentLink(topologyId, id)}&window=${encodeURIComponent(row.window)}`;
  const choose = (event) => {
    event.preventDefault();
    history.replaceState(null, "", href);
    again();
  };
  return h("a", { href, onclick: choose }, windowName(row.window));
}

const sent = [
  { name: "Emitted", kind: "num", cell: (row) => count(row.emitted) },
  { name: "Transferred", kind: "num", cell: (row) => count(row.transferred) },
];
const complete = [{ name: "Complete (ms)", kind: "num", cell: (row) => latency(row.completeLatency) }];
const executed = [
  { name: "Execute (ms)", kind: "num", cell: (row) => latency(row.executeLatency) },
  { name: "Executed", kind: "num", cell: (row) => count(row.executed) },
  { name: "Process (ms)", kind: "num", cell: (row) => latency(row.processLatency) },
];
const settled = [
  { name: "Acked", kind: "num", cell: (row) => count(row.acked) },
  { name: "Failed", kind: "num", cell: (row) => (row.failed > 0 ? h("span", { class: "bad-text" }, count(row.failed)) : count(row.failed)) },
];

function inputs(rows) {
  if (rows.length === 0) return h("p", { class: "empty" }, "Nothing came in.");
  return table("Inputs", [
    { name: "Component", kind: "name", cell: (row) => h("a", { href: componentLink(topologyId, row.component) }, row.component) },
    { name: "Stream", kind: "text", cell: (row) => row.stream },
    ...executed, ...settled,
  ], rows, (row) => `${row.component} ${row.stream}`);
}

function outputs(rows, isSpout) {
  if (rows.length === 0) return h("p", { class: "empty" }, "Nothing was emitted.");
  return table("Outputs", [
    { name: "Stream", kind: "name", cell: (row) => row.stream },
    ...sent, ...(isSpout ? [...complete, ...settled] : []),
  ], rows, (row) => row.stream);
}

const DOING = {
  starting: "starting", idle: "idle", executing: "executing", "waiting-for-calls": "waits for calls in flight", "waiting-for-pending": "has as many roots pending as it may",
  inactive: "inactive", restarting: "pauses after an error", ended: "input ended", stopped: "stopped",
};

function doing(executor) {
  if (!executor?.doing) return "not heard";
  const [{ state, task }] = executor.doing;
  return state === "waiting-for-room" ? `waits for room at task ${task}` : DOING[state] ?? state;
}

function executors(rows, topology, isSpout) {
  if (rows.length === 0) return h("p", { class: "empty" }, "No executor of it is placed: the topology waits for slots, or for its first plan.");
  const own = new Map(topology.executors.map((one) => [`[${one.tasks[0]}-${one.tasks[1]}]`, one]));
  const inbox = isSpout
    ? { name: "Pending", kind: "num", hint: "roots that are not acked or failed yet", cell: (row) => count(own.get(row.id)?.windows[":all-time"]?.pending) }
    : { name: "Waiting", kind: "num", hint: "tuples in its inbox", cell: (row) => count(own.get(row.id)?.inbox.tuples) };
  const capacity = { name: "Capacity", kind: "num", cell: (row) => row.capacity };
  return table("Executors", [
    { name: "Tasks", kind: "name", cell: (row) => row.id },
    { name: "Host and port", kind: "host", cell: (row) => (row.host === "" ? "waits for a slot" : `${row.host}:${row.port}`) },
    { name: "Uptime", kind: "num", cell: (row) => duration(own.get(row.id)?.uptime_ms) },
    { name: "Doing", kind: "text", cell: (row) => text(doing(own.get(row.id))) },
    inbox, ...sent, ...(isSpout ? complete : [capacity, ...executed]), ...settled,
  ], rows, (row) => row.id);
}

const again = live(load, show, absent);
