// The cluster: Nimbuses, machines, topologies.

import { ask, box, configuration, count, duration, h, live, redraw, status, table, text, tile, topologyLink } from "/page.js";

let pairs = null;
let wanted = "";

async function load() {
  const cluster = await ask("/api/v2/cluster");
  pairs ??= await ask("/api/v1/cluster/configuration");
  return cluster;
}

function show(cluster) {
  const alive = cluster.machines.filter((machine) => !machine.dead);
  const sum = (list, of) => list.reduce((total, one) => total + of(one), 0);
  const slots = sum(alive, (machine) => machine.slots.length);
  const used = sum(alive, (machine) => machine.used.length);
  const free = sum(alive.filter((machine) => !machine.drained), (machine) => machine.slots.length - machine.used.length);
  const drained = alive.filter((machine) => machine.drained).length;
  const leader = cluster.nimbuses.find((nimbus) => nimbus.leads);
  return [
    h("h1", null, "Cluster"),
    h("dl", { class: "tiles" },
      tile("Topologies", count(cluster.topologies.length)),
      tile("Slots used", [count(used), h("small", null, ` of ${slots.toLocaleString("en-US")}`)]),
      tile("Supervisors", [count(alive.length), alive.length < cluster.machines.length && h("small", null, ` and ${cluster.machines.length - alive.length} dead`), drained > 0 && h("small", null, `, ${drained} drained`)]),
      tile("Executors", count(sum(cluster.topologies, (one) => one.executors))),
      tile("Tasks", count(sum(cluster.topologies, (one) => one.tasks))),
      tile("Leader", leader ? [`${leader.host}:${leader.port}`, h("small", null, ` ${cluster.version}`)] : "none yet", "text")),
    box("The cluster state does not answer", cluster.cluster_state === null ? [] : [cluster.cluster_state], "bad"),
    box("What cannot be read", cluster.unreadable, "bad"),
    topologies(cluster.topologies, free),
    h("h2", null, "Supervisors"),
    supervisors(cluster.machines),
    h("h2", null, "Nimbuses"),
    nimbuses(cluster.nimbuses),
    configuration("Nimbus configuration", pairs),
  ];
}

function topologies(all, free) {
  if (all.length === 0) {
    return [
      h("div", { class: "tools" }, h("h2", null, "Topologies")),
      h("p", { class: "empty" }, "No topology runs. Submit one: ", h("code", null, "storm submit target/release/my-topology"),
        free === 0 ? ". No slot is free yet: it will wait for a Supervisor." : "."),
    ];
  }
  const shown = all.filter((one) => [one.name, one.id, one.owner, one.status].join(" ").toLowerCase().includes(wanted));
  const filter = all.length > 8 && h("input", {
    type: "search", placeholder: "Filter by name, owner, status", "aria-label": "Filter topologies",
    oninput: (event) => {
      wanted = event.target.value.toLowerCase();
      redraw();
    },
  });
  return [
    h("div", { class: "tools" }, h("h2", null, "Topologies ", wanted && h("small", null, `${shown.length} of ${all.length}`)), filter),
    shown.length === 0 ? h("p", { class: "empty" }, "No topology fits the filter.") : table("Topologies", [
      { name: "Name", kind: "name", cell: (one) => h("a", { href: topologyLink(one.id), title: one.id }, one.name) },
      { name: "Status", kind: "text", cell: (one) => [status(one.status), one.reason && h("span", { class: "sub" }, one.reason)] },
      { name: "Uptime", kind: "num", cell: (one) => duration(one.uptime_ms) },
      { name: "Workers", kind: "num", hint: "that have a slot, of those that are wanted", cell: (one) => (one.workers === one.workers_wanted ? count(one.workers) : h("span", { class: "bad-text" }, `${one.workers} of ${one.workers_wanted}`)) },
      { name: "Executors", kind: "num", cell: (one) => count(one.executors) },
      { name: "Tasks", kind: "num", cell: (one) => count(one.tasks) },
      { name: "Restarts", kind: "num", hint: "workers that ended and were started again", cell: (one) => count(one.restarts) },
      { name: "Scheduler", kind: "text", cell: (one) => text(one.scheduler) },
      { name: "Owner", cell: (one) => text(one.owner) },
    ], shown, (one) => one.id),
  ];
}

function supervisors(machines) {
  if (machines.length === 0) {
    return h("p", { class: "empty" }, "No Supervisor has reported: nothing can run. Start one on each machine: ", h("code", null, "storm supervisor"), ".");
  }
  return table("Supervisors", [
    { name: "Host", kind: "name", cell: (one) => one.host },
    { name: "State", kind: "text", cell: machineState },
    { name: "Slots", kind: "text", cell: (one) => (one.slots.length === 0 ? "none" : h("span", { class: "slots" }, one.slots.map((port) => slot(port, one.used.includes(port))))) },
    { name: "Used", kind: "num", cell: (one) => `${one.used.length} of ${one.slots.length}` },
    { name: "Uptime", kind: "num", cell: (one) => duration(one.uptime_ms) },
    { name: "Version", cell: (one) => text(one.version) },
    { name: "Id", kind: "text", cell: (one) => h("span", { class: "mono" }, one.id) },
  ], machines, (one) => one.id);
}

function slot(port, isUsed) {
  return h("span", { class: isUsed ? "slot used" : "slot", title: isUsed ? "has work" : "free" }, String(port), isUsed ? " ●" : "");
}

function machineState(machine) {
  const heard = `last heard ${duration(machine.heard_ms)} ago`;
  if (machine.dead) return [h("span", { class: "badge bad" }, "dead"), h("span", { class: "sub" }, heard)];
  if (machine.drained) {
    const left = machine.used.length === 0 ? "no work is left" : `${machine.used.length} ${machine.used.length === 1 ? "worker" : "workers"} left`;
    return [h("span", { class: "badge warn" }, machine.used.length === 0 ? "drained" : "draining"), h("span", { class: "sub" }, `${left}; it gets no new one until `, h("code", null, `storm admin undrain ${machine.host}`))];
  }
  if (!machine.available) return [h("span", { class: "badge warn" }, "gets no new work"), h("span", { class: "sub" }, `its Supervisor is away; ${heard}`)];
  return [h("span", { class: "badge good" }, "alive"), machine.heard_ms > 5000 && h("span", { class: "sub" }, heard)];
}

function nimbuses(all) {
  if (all.length === 0) return h("p", { class: "empty" }, "No Nimbus is on record yet.");
  return table("Nimbuses", [
    { name: "Host", kind: "name", cell: (one) => `${one.host}:${one.port}` },
    { name: "Status", cell: (one) => h("span", { class: one.leads ? "badge good" : "badge" }, one.leads ? "Leader" : "Follower") },
    { name: "Uptime", kind: "num", cell: (one) => duration(one.uptime_ms) },
    { name: "Version", cell: (one) => text(one.version) },
    { name: "Id", kind: "text", cell: (one) => h("span", { class: "mono" }, one.id) },
  ], [...all].sort((one, other) => other.leads - one.leads), (one) => one.id);
}

live(load, show);
