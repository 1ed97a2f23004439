// What all pages share: drawing without flicker, asking, and saying so when nobody answers.
//
// Not here: what a page shows. Invariant: what comes from outside enters the page as text alone; no markup is ever parsed.

/** A wanted element: `h("a", { href }, "text")`. A `key` lets a row keep its node when others come and go. */
export function h(tag, properties, ...children) {
  return { tag, properties: properties ?? {}, children: children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false) };
}

// What a node was last drawn as.
const drawn = new WeakMap();

/** Makes the children of `parent` what is wanted, touching only what differs: selection, focus and scroll stay. */
export function draw(parent, ...wanted) {
  const specs = wanted.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false);
  const keyed = new Map();
  for (const node of parent.childNodes) {
    const key = drawn.get(node)?.key;
    if (key !== undefined) keyed.set(key, node);
  }
  let at = parent.firstChild;
  for (const spec of specs) {
    const node = fitting(at, spec, keyed);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function fitting(at, spec, keyed) {
  if (typeof spec !== "object") {
    const text = String(spec);
    if (at?.nodeType === Node.TEXT_NODE) {
      if (at.data !== text) at.data = text;
      return at;
    }
    return document.createTextNode(text);
  }
  const { tag, properties: { key, ...properties }, children } = spec;
  const candidate = key === undefined ? at : keyed.get(key);
  const fits = candidate?.nodeType === Node.ELEMENT_NODE && candidate.localName === tag && drawn.get(candidate)?.key === key;
  const node = fits ? candidate : document.createElement(tag);
  apply(node, drawn.get(node)?.properties ?? {}, properties);
  drawn.set(node, { key, properties });
  draw(node, children);
  return node;
}

function apply(node, before, now) {
  for (const name in before) if (!(name in now)) set(node, name, null);
  for (const name in now) if (before[name] !== now[name]) set(node, name, now[name]);
}

function set(node, name, value) {
  if (name.startsWith("on")) node[name] = value;
  else if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : value);
}

/** Why there is no answer; `status` is null if nobody answered. */
class NoAnswer extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Asks the UI. */
export async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(40_000), ...options });
  } catch {
    throw new NoAnswer(`The UI at ${location.host} does not answer.`, null);
  }
  const text = await response.text().catch(() => "");
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new NoAnswer(`What listens at ${location.host} does not answer as the UI does (status ${response.status}).`, response.status);
  }
  if (!response.ok) throw new NoAnswer(body.errorMessage ?? body.error ?? `status ${response.status}`, response.status);
  return body;
}

const REFRESH_MS = 1500;
const HIDDEN_MS = 20_000;
/** A page loads for at most a fifth of its time, so that large ones do not keep Nimbus busy. */
const PAUSE_FOR_EACH_MS = 4;

let shown = () => {};

/** Shows again what was loaded last. */
export function redraw() {
  shown();
}

/** Loads and shows again and again. `absent(message)` shows that what the page is about is not there. Gives a function that loads at once. */
export function live(load, show, absent) {
  const main = document.getElementById("main");
  const banner = document.getElementById("banner");
  const age = document.getElementById("age");
  let since = null;
  let timer = null;
  let turn = 0;
  const next = async () => {
    clearTimeout(timer);
    const mine = ++turn;
    const begun = performance.now();
    try {
      const loaded = await load();
      // A later turn has begun meanwhile: its answer counts.
      if (mine !== turn) return;
      shown = () => draw(main, show(loaded));
      shown();
      since = null;
    } catch (error) {
      if (mine !== turn) return;
      if (error.status === 404 && absent) {
        since = null;
        shown = () => {};
        draw(main, absent(error.message));
      } else {
        since ??= new Date();
        if (!(error instanceof NoAnswer)) console.error(error);
        draw(banner, h("strong", null, `No news since ${clock(since)}.`), ` ${sentence(error.message)} This page goes on by itself.`);
        if (main.querySelector(".loading")) draw(main, h("p", { class: "loading" }, "Nothing was heard yet."));
      }
    }
    banner.hidden = since === null;
    document.body.classList.toggle("stale", since !== null);
    draw(age, since === null ? `as of ${clock(new Date())}` : "not up to date");
    const pause = Math.max(REFRESH_MS, (performance.now() - begun) * PAUSE_FOR_EACH_MS);
    timer = setTimeout(next, document.hidden ? HIDDEN_MS : pause);
  };
  document.addEventListener("visibilitychange", () => document.hidden || next());
  next();
  return next;
}

/** With a capital and a full stop. */
export function sentence(words) {
  const begun = words.charAt(0).toUpperCase() + words.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

/** `14:03:05`. */
export function clock(time) {
  return time.toLocaleTimeString("en-GB");
}

/** Local date and time. */
export function moment(seconds) {
  const time = new Date(seconds * 1000);
  const two = (number) => String(number).padStart(2, "0");
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${clock(time)}`;
}

const NOTHING = "–";

/** A count: all digits up to ten billion, then rounded, with all digits on the pointer. */
export function count(number) {
  if (number === null || number === undefined) return NOTHING;
  const all = number.toLocaleString("en-US");
  if (Math.abs(number) < 1e10) return all;
  const notation = Math.abs(number) < 1e15 ? "compact" : "scientific";
  return h("span", { title: all }, number.toLocaleString("en-US", { notation, maximumFractionDigits: 2 }));
}

/** Milliseconds as two units: `1d 5h`, `5m 10s`. */
export function duration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return NOTHING;
  const seconds = Math.floor(milliseconds / 1000);
  const units = [[Math.floor(seconds / 86400), "d"], [Math.floor(seconds / 3600) % 24, "h"], [Math.floor(seconds / 60) % 60, "m"], [seconds % 60, "s"]];
  const first = Math.min(units.findIndex(([number]) => number > 0) >>> 0, 3);
  return units.slice(first, first + 2).map(([number, unit]) => `${number.toLocaleString("en-US")}${unit}`).join(" ");
}

/** Bytes as MiB, GiB. */
export function bytes(number) {
  if (number === null || number === undefined) return NOTHING;
  const unit = Math.min(Math.max(Math.floor(Math.log2(Math.max(number, 1)) / 10), 0), 4);
  const value = number / 1024 ** unit;
  return `${value.toLocaleString("en-US", { maximumFractionDigits: value < 10 && unit > 0 ? 1 : 0 })} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

/** A latency in milliseconds, or `–`: `"0"` says that nothing was measured. */
export function latency(n3) {
  if (n3 === null || n3 === undefined || n3 === "0") return NOTHING;
  const number = Number(n3);
  return number >= 100 ? number.toLocaleString("en-US", { maximumFractionDigits: 0 }) : number.toFixed(3);
}

const WINDOWS = { 600: "10 minutes", 10800: "3 hours", 86400: "1 day", ":all-time": "All time" };

/** A window's name. */
export function windowName(window) {
  return WINDOWS[window] ?? `${window} s`;
}

const KINDS = { ACTIVE: "good", INACTIVE: "warn", REBALANCING: "warn", KILLED: "bad", BROKEN: "bad" };

/** The state of a topology. */
export function status(word) {
  return h("span", { class: `badge ${KINDS[word] ?? ""}` }, word);
}

/** Text, or `–`. */
export function text(value) {
  return value === null || value === undefined || value === "" ? NOTHING : String(value);
}

/** A tile: a name and a value. */
export function tile(name, value, kind) {
  return h("div", { class: `tile ${kind ?? ""}` }, h("dt", null, name), h("dd", null, value));
}

/** Rows that a table shows until all of them are asked for. */
const ROWS = 200;
const whole = new Set();

/**
 * A table. Columns are `{ name, cell(row), kind, hint }`, `kind` one of `num`, `text`, `wide`, `name`, `host`. On a narrow screen each row is a
 * card; the roles keep it a table for who hears it.
 */
export function table(label, columns, rows, keyOf, rowClass) {
  const head = columns.map(({ name, kind, hint }) => h("th", { role: "columnheader", scope: "col", class: kind === "num" ? "num" : null, title: hint }, name));
  const cut = rows.length > ROWS && !whole.has(label);
  const more = () => {
    whole.add(label);
    redraw();
  };
  const body = (cut ? rows.slice(0, ROWS) : rows).map((row) =>
    h("tr", { role: "row", key: keyOf(row), class: rowClass?.(row) ?? null },
      columns.map(({ name, kind, cell }) => h("td", { role: "cell", class: kind ?? null, "data-label": name }, h("div", null, cell(row))))));
  const all = h("div", { class: "frame" },
    h("table", { role: "table", "aria-label": label },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
      h("tbody", { role: "rowgroup" }, body)));
  return cut ? [all, h("p", null, `${ROWS} of ${rows.length.toLocaleString("en-US")} rows are shown. `, h("button", { onclick: more }, "Show all"))] : all;
}

/** A box of sentences, if there are any. */
export function box(title, sentences, kind) {
  if (sentences.length === 0) return null;
  return h("section", { class: `box ${kind}`, key: title }, h("h2", null, title), h("ul", null, sentences.map((sentence) => h("li", null, sentence))));
}

/** Folded configuration. */
export function configuration(title, pairs) {
  const rows = Object.entries(pairs).sort(([one], [other]) => (one < other ? -1 : 1));
  return h("details", { key: "configuration" },
    h("summary", null, `${title} (${rows.length})`),
    rows.length === 0
      ? h("p", { class: "empty" }, "Nothing is set.")
      : h("div", { class: "configuration" }, table(title, [
          { name: "Key", kind: "wide", cell: ([key]) => h("span", { class: "mono" }, key) },
          { name: "Value", kind: "wide", cell: ([, value]) => h("span", { class: "mono" }, JSON.stringify(value)) },
        ], rows, ([key]) => key)));
}

/** Links between pages. */
export const topologyLink = (id) => `/topology.html?id=${encodeURIComponent(id)}`;
export const componentLink = (id, component) => `/component.html?id=${encodeURIComponent(component)}&topology_id=${encodeURIComponent(id)}`;

/**
 * A question with its effect in words. Fields are whole numbers: `{ name, label, hint, value, min, max }`. `act(values)` is called on yes, with a
 * number by each field's name; what it throws is shown.
 */
export function confirm({ title, effect, yes, danger, fields = [], act }) {
  const dialog = document.getElementById("dialog");
  const field = ({ name, label, hint, value, min, max }) => h("div", { class: "field", key: name },
    h("label", { for: `field-${name}` }, label, hint && h("small", null, ` ${hint}`)),
    h("input", { id: `field-${name}`, name, type: "number", min: String(min), max: String(max), step: "1", required: true, value: String(value) }));
  const show = (failed, busy) => draw(dialog,
    h("form", { method: "dialog", onsubmit: submit, key: title },
      h("h2", { id: "dialog-title" }, title),
      h("p", null, effect),
      fields.length > 0 && h("div", { class: "fields" }, fields.map(field)),
      h("p", { class: "failed", role: "alert" }, failed),
      h("div", { class: "actions" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        h("button", { type: "submit", class: danger ? "primary danger" : "primary", disabled: busy }, yes))));
  const submit = async (event) => {
    event.preventDefault();
    const values = Object.fromEntries(fields.map(({ name }) => [name, Number(event.target.elements[name].value)]));
    show("", true);
    try {
      await act(values);
      dialog.close();
    } catch (error) {
      show(error.message, false);
    }
  };
  draw(dialog);
  show("", false);
  dialog.showModal();
}

// The heading is the operator's: `ui.title`.
ask("/api/v1/cluster/configuration")
  .then((pairs) => {
    if (pairs["ui.title"]) draw(document.getElementById("site"), String(pairs["ui.title"]));
  })
  .catch(() => {});
