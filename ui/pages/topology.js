// One topology: how it is, what it counted, where it runs, and what can be done with it.

import { ask, box, bytes, componentLink, configuration, confirm, count, duration, h, latency, live, moment, sentence, status, table, text, tile, topologyLink, windowName } from "/page.js";

const id = new URLSearchParams(location.search).get("id") ?? "";
const RED_FOR_SECONDS = 1800;

const chosenWindow = () => new URLSearchParams(location.search).get("window") ?? ":all-time";

async function load() {
  const path = encodeURIComponent(id);
  const [statistics, topology] = await Promise.all([
    ask(`/api/v1/topology/${path}?window=${encodeURIComponent(chosenWindow())}`),
    ask(`/api/v2/topology/${path}?executors=`),
  ]);
  return { statistics, topology };
}

function show({ statistics, topology }) {
  const { summary } = topology;
  document.title = `${summary.name} · Storm UI`;
  return [
    h("p", { class: "crumb" }, h("a", { href: "/" }, "Cluster"), " › Topology"),
    h("div", { class: "head" }, h("h1", null, summary.name), status(summary.status)),
    summary.reason && h("p", { class: "reason" }, summary.reason),
    actions(summary, statistics),
    box("Troubles", topology.troubles, "bad"),
    h("dl", { class: "tiles" },
      tile("Uptime", duration(summary.uptime_ms)),
      tile("Workers", [count(summary.workers), summary.workers !== summary.workers_wanted && h("small", null, ` of ${summary.workers_wanted} wanted`)]),
      tile("Executors", count(summary.executors)),
      tile("Tasks", count(summary.tasks)),
      tile("Worker restarts", count(summary.restarts)),
      tile("Replication", count(summary.replication)),
      tile("Scheduler", text(summary.scheduler), "long"),
      tile("Id", h("span", { class: "mono" }, summary.id), "long"),
      tile("Owner", text(summary.owner), "text"),
      tile("Version", [text(summary.topology_version), h("small", null, ` built with ${summary.runtime_version}`)], "text")),
    h("h2", null, "Statistics"),
    windows(statistics),
    h("h2", null, "Spouts ", h("small", null, windowName(statistics.window))),
    spouts(statistics.spouts),
    h("h2", null, "Bolts ", h("small", null, windowName(statistics.window))),
    bolts(statistics.bolts),
    h("h2", null, "Workers"),
    workers(topology.workers),
    ends(topology.workers),
    configuration("Topology configuration", topology.configuration),
  ];
}

function absent(message) {
  return [
    h("p", { class: "crumb" }, h("a", { href: "/" }, "Cluster"), " › Topology"),
    h("h1", null, id || "No topology"),
    h("p", { class: "empty" }, id ? `${sentence(message)} It was killed, or never was. ` : "The address names no topology. ", h("a", { href: "/" }, "See what runs"), "."),
  ];
}

const MOST_SECONDS = 4294967295;
const MOST_WORKERS = 65535;

function actions(summary, statistics) {
  const act = (path, body) => async () => {
    await ask(path, { method: "POST", body: body && JSON.stringify(body), headers: body && { "content-type": "application/json" } });
    again();
  };
  const wait = { name: "wait", label: "Wait", hint: "seconds, at most", value: statistics.msgTimeout, min: 0, max: MOST_SECONDS };
  const base = `/api/v1/topology/${encodeURIComponent(summary.id)}`;
  const activate = () => confirm({
    title: `Activate ${summary.name}?`,
    effect: "Its spouts are asked for tuples again.",
    yes: "Activate", act: act(`${base}/activate`),
  });
  const deactivate = () => confirm({
    title: `Deactivate ${summary.name}?`,
    effect: "Its spouts are not asked for tuples until it is activated. Tuples under way are still processed; the workers go on.",
    yes: "Deactivate", act: act(`${base}/deactivate`),
  });
  const kill = () => confirm({
    title: `Kill ${summary.name}?`,
    effect: `Its spouts stop now. What is pending may end within the wait; then its workers stop, and all that ${summary.id} has in the cluster is removed. This cannot be undone.`,
    yes: "Kill", danger: true, fields: [wait],
    act: (values) => act(`${base}/kill/${values.wait}`)(),
  });
  const components = [...statistics.spouts, ...statistics.bolts].map((one) => ({
    component: one.spoutId ?? one.boltId, value: one.executors, max: Math.max(one.tasks, 1),
  }));
  const rebalance = () => confirm({
    title: `Rebalance ${summary.name}?`,
    effect: `Its spouts stop now. What is pending may end within the wait; then its executors are dealt anew over machines and slots, and it is ${summary.status} again.`,
    yes: "Rebalance",
    fields: [
      wait,
      { name: "workers", label: "Workers", value: Math.max(summary.workers_wanted, 1), min: 1, max: MOST_WORKERS },
      ...components.map(({ component, value, max }, at) => ({
        name: `executors-${at}`, label: ["Executors of ", h("strong", null, component)], hint: `1 to ${max.toLocaleString("en-US")}`, value, min: 1, max,
      })),
    ],
    act: (values) => {
      // What was not touched stays as it is, whatever it has become meanwhile.
      const changed = components.map(({ component, value }, at) => [component, value, values[`executors-${at}`]]).filter(([, before, now]) => now !== before);
      const options = { executors: Object.fromEntries(changed.map(([component, , now]) => [component, now])) };
      if (values.workers !== summary.workers_wanted) options.numWorkers = values.workers;
      return act(`${base}/rebalance/${values.wait}`, { rebalanceOptions: options })();
    },
  });
  return h("div", { class: "actions" },
    h("button", { disabled: summary.status !== "INACTIVE", onclick: activate, key: "activate" }, "Activate"),
    h("button", { disabled: summary.status !== "ACTIVE", onclick: deactivate, key: "deactivate" }, "Deactivate"),
    h("button", { disabled: !["ACTIVE", "INACTIVE"].includes(summary.status), onclick: rebalance, key: "rebalance" }, "Rebalance …"),
    h("button", { class: "danger", disabled: summary.status === "KILLED", onclick: kill, key: "kill" }, "Kill …"));
}

function choose(event) {
  event.preventDefault();
  history.replaceState(null, "", event.target.href);
  again();
}

function windows(statistics) {
  if (statistics.topologyStats.length === 0) {
    const why = statistics.status === "INACTIVE" ? " The topology is inactive: activate it to have its spouts asked." : " Numbers come with the first tuples.";
    return h("p", { class: "empty" }, `Nothing was emitted yet.${why}`);
  }
  const isChosen = (row) => row.window === statistics.window;
  return table("Statistics by window", [
    { name: "Window", kind: "name", cell: (row) => h("a", { href: `${topologyLink(id)}&window=${encodeURIComponent(row.window)}`, onclick: choose, "aria-current": isChosen(row) ? "true" : null }, windowName(row.window)) },
    { name: "Emitted", kind: "num", cell: (row) => count(row.emitted) },
    { name: "Transferred", kind: "num", cell: (row) => count(row.transferred) },
    { name: "Complete latency (ms)", kind: "num", hint: "mean, from a spout's emit to the last ack of the tree", cell: (row) => latency(row.completeLatency) },
    { name: "Acked", kind: "num", cell: (row) => count(row.acked) },
    { name: "Failed", kind: "num", cell: (row) => failed(row.failed) },
  ], statistics.topologyStats, (row) => row.window, (row) => (isChosen(row) ? "chosen" : null));
}

function failed(number) {
  return number > 0 ? h("span", { class: "bad-text" }, count(number)) : count(number);
}

const link = (component) => h("a", { href: componentLink(id, component) }, component);
const parallelism = [
  { name: "Executors", kind: "num", cell: (row) => count(row.executors) },
  { name: "Tasks", kind: "num", cell: (row) => count(row.tasks) },
  { name: "Emitted", kind: "num", cell: (row) => count(row.emitted) },
  { name: "Transferred", kind: "num", cell: (row) => count(row.transferred) },
];
const settled = [
  { name: "Acked", kind: "num", cell: (row) => count(row.acked) },
  { name: "Failed", kind: "num", cell: (row) => failed(row.failed) },
];
const lastError = { name: "Last error", kind: "text", cell: (row) => (row.lastError === "" ? "–" : [
  h("span", { class: row.errorLapsedSecs < RED_FOR_SECONDS ? "clamp bad-text" : "clamp", title: row.lastError }, row.lastError),
  h("span", { class: "sub" }, `${moment(row.errorTime)} on ${row.errorHost}:${row.errorPort}`),
]) };

function spouts(rows) {
  if (rows.length === 0) return h("p", { class: "empty" }, "The topology has no spout.");
  return table("Spouts", [
    { name: "Spout", kind: "name", cell: (row) => link(row.spoutId) },
    ...parallelism,
    { name: "Complete (ms)", kind: "num", hint: "mean, from a spout's emit to the last ack of the tree", cell: (row) => latency(row.completeLatency) },
    ...settled, lastError,
  ], rows, (row) => row.spoutId);
}

function bolts(rows) {
  if (rows.length === 0) return h("p", { class: "empty" }, "The topology has no bolt.");
  return table("Bolts", [
    { name: "Bolt", kind: "name", cell: (row) => link(row.boltId) },
    ...parallelism,
    { name: "Capacity", kind: "num", hint: "part of the last ten minutes spent in execute, of the busiest executor: near 1 it needs more executors", cell: (row) => capacity(row.capacity) },
    { name: "Execute (ms)", kind: "num", hint: "mean time in execute", cell: (row) => latency(row.executeLatency) },
    { name: "Executed", kind: "num", cell: (row) => count(row.executed) },
    { name: "Process (ms)", kind: "num", hint: "mean time from execute to ack", cell: (row) => latency(row.processLatency) },
    ...settled, lastError,
  ], rows, (row) => row.boltId);
}

function capacity(n3) {
  return Number(n3) < 0.8 ? n3 : h("span", { class: "badge warn", title: "it has no time to spare: give it more executors" }, n3);
}

const SLOTS = {
  empty: "slot is empty", fetching: "fetching its files", starting: "starting", running: "running", "backing-off": "waits before the next start",
  stopping: "stopping", blocked: "its port is taken by another process",
};
const STAGES = { starting: "starting", ready: "ready", ended: "input ended", draining: "draining" };

function workerState(worker) {
  if (worker.port === null) return h("span", { class: "badge warn" }, "waits for a slot");
  const word = worker.slot === null || worker.slot === "running" ? STAGES[worker.stage] ?? "not heard" : SLOTS[worker.slot];
  const kind = word === "ready" ? "good" : word === "not heard" || worker.slot === "blocked" || worker.slot === "backing-off" ? "bad" : "warn";
  return [
    h("span", { class: `badge ${kind}` }, word),
    worker.heard_ms > 5000 && h("span", { class: "sub" }, `last heard ${duration(worker.heard_ms)} ago`),
  ];
}

function ends(all) {
  const rows = all.flatMap((worker) => worker.ends.map((end) => ({ ...end, worker: worker.worker })));
  if (rows.length === 0) return null;
  rows.sort((one, other) => other.ended_ms - one.ended_ms);
  return [
    h("h2", null, "How earlier workers ended"),
    table("Ends of workers", [
      { name: "Time", kind: "host", cell: (end) => moment(end.ended_ms / 1000) },
      { name: "Worker", cell: (end) => String(end.worker) },
      { name: "Lived", kind: "num", cell: (end) => duration(end.lived_ms) },
      { name: "Cause and last lines of its log", kind: "wide", cell: (end) => (end.last_lines.length === 0 ? end.cause : h("details", null,
          h("summary", null, end.cause),
          h("pre", { tabindex: "0", "aria-label": "the last lines of its log" }, end.last_lines.join("\n")))) },
    ], rows, (end) => `${end.worker} ${end.incarnation}`),
  ];
}

function workers(all) {
  if (all.length === 0) return h("p", { class: "empty" }, "It has no worker yet: no plan was made for it.");
  return table("Workers", [
    { name: "Worker", cell: (one) => String(one.worker) },
    { name: "Host and port", kind: "host", cell: (one) => (one.port === null ? "–" : `${text(one.host)}:${one.port}`) },
    { name: "State", kind: "text", cell: workerState },
    { name: "Pid", kind: "num", cell: (one) => (one.pid === null ? "–" : String(one.pid)) },
    { name: "Uptime", kind: "num", cell: (one) => duration(one.uptime_ms) },
    { name: "Memory", kind: "num", cell: (one) => bytes(one.memory_bytes) },
    { name: "Executors", kind: "num", cell: (one) => count(one.executors) },
    { name: "Tasks", kind: "text", cell: (one) => text(Object.entries(one.tasks).map(([component, tasks]) => `${component} ${tasks}`).join(", ")) },
    { name: "Restarts", kind: "num", cell: (one) => count(one.restarts) },
    { name: "Last end", kind: "text", cell: (one) => (one.restarts === 0 ? "–" : text(one.ends.at(-1)?.cause ?? "not known")) },
  ], all, (one) => one.worker);
}

const again = live(load, show, absent);
