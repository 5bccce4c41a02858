// Shows what /view and /charts say. All words and figures come from there; nothing is computed here.

import { fillChart, makeChart } from "./charts.js";
import { make, setBar, setClass, setText, sync } from "./elements.js";

const PAUSE = 2000; // ms between two requests
const ROWS = 25; // of a group of tables, until all are asked for
const $ = (id) => document.getElementById(id);

// ---- the task as a whole

function showHead(view) {
  const head = view.headline;
  document.title = `${head.answer ? `switch: ${head.answer}` : head.figure} ${view.id} ${view.state}`;
  setText($("id"), view.id);
  setText($("state"), view.state);
  setClass($("state"), `mark ${view.tone}`);
  setText($("about"), view.about);
  setText($("title"), head.title);
  setText($("figure"), head.figure);
  setClass($("headline"), `card ${head.tone}`);
  setText($("answer"), head.answer && `Switch: ${head.answer}`);
  setClass($("answer"), `mark ${head.answer === "yes" && head.tone === "good" ? "good" : "warn"}`);
  $("answer").hidden = !head.answer;
  setBar($("bar"), head.fraction);
  sync($("lines"), head.lines.map((text, number) => ({ text, number })), (line) => String(line.number),
    () => make("p"), (node, line) => setText(node, line.text));
  sync($("banners"), view.banners, (banner) => banner.text, () => make("li"), (node, banner) => {
    setText(node, banner.text);
    setClass(node, `banner ${banner.tone}`);
  });
  sync($("facts"), view.facts, (fact) => fact[0],
    () => make("div", "", make("dt"), make("dd", "", make("b"), make("small"))),
    (node, [name, value, below, tone]) => {
      const [term, description] = node.children;
      setText(term, name);
      setText(description.firstChild, value);
      setClass(description.firstChild, tone);
      setText(description.lastChild, below);
    });
  $("notices").hidden = view.notices.length === 0;
  setText($("notices").firstElementChild, `Notices (${view.notices.length})`);
  sync($("notices").lastElementChild, view.notices, (text) => text, () => make("li"), setText);
  setText($("time"), view.time);
}

function showCheck(check) {
  $("check").hidden = !check;
  if (!check) return;
  setText($("check-text"), check.text);
  setClass($("check-text"), check.tone);
  setText($("check-more"), check.more);
  setBar($("check-bar"), check.fraction);
}

// ---- tables

const folded = new Map(); // by group: what the user has chosen
const whole = new Set(); // groups of which all rows are shown
let latest = null; // what was shown last

function head(table, first, columns) {
  if (table.tHead.rows.length) return;
  const row = table.tHead.insertRow();
  row.setAttribute("role", "row");
  for (const text of [first, ...columns]) {
    const cell = make("th", "", text);
    cell.scope = "col";
    cell.setAttribute("role", "columnheader");
    row.append(cell);
  }
}

function wide(columns, role) {
  const cell = make(role === "rowheader" ? "th" : "td", "wide", make("button", "plain"));
  cell.colSpan = columns;
  cell.setAttribute("role", role);
  cell.firstChild.type = "button";
  const row = make("tr", "", cell);
  row.setAttribute("role", "row");
  return row;
}

function makeGroup(columns) {
  const group = make("tbody");
  group.setAttribute("role", "rowgroup");
  const top = wide(columns, "rowheader");
  top.className = "group";
  top.firstChild.scope = "rowgroup";
  group.append(top);
  return group;
}

function makeRow(columns) {
  const name = make("th", "", make("div", "name", make("b"), make("span")), make("div", "how"), make("div", "notes"));
  name.children[1].append(make("progress"), make("small"));
  name.querySelector("progress").max = 1;
  name.scope = "row";
  name.setAttribute("role", "rowheader");
  const row = make("tr", "", name);
  row.setAttribute("role", "row");
  for (const column of columns) {
    const cell = make("td", "", make("span"), make("small"));
    cell.setAttribute("role", "cell");
    cell.dataset.head = column;
    row.append(cell);
  }
  return row;
}

function fillCells(row, cells) {
  cells.forEach((cell, number) => {
    const [text, below] = Array.isArray(cell) ? cell : [cell, ""];
    const node = row.children[number + 1];
    setText(node.firstChild, text);
    setText(node.lastChild, below);
    node.classList.toggle("empty", !text);
  });
}

function fillRow(row, table) {
  const [name, how, notes] = row.firstChild.children;
  setText(name.firstChild, table.name);
  setText(name.lastChild, table.state);
  setClass(name.lastChild, table.tone);
  const bar = how.firstChild;
  setBar(bar, table.state === "following" || table.state === "done" ? null : table.fraction);
  bar.setAttribute("aria-label", `${table.name} copied`);
  setClass(bar, table.tone);
  const into = table.namespace && `to ${table.namespace}`;
  setText(how.lastChild, [bar.hidden ? "" : table.percent, into].filter(Boolean).join(" · "));
  sync(notes, table.notes, (note) => note[0], () => make("small"), (node, [text, tone]) => {
    setText(node, text);
    setClass(node, tone);
  });
  fillCells(row, table.cells);
}

function fillGroup(body, group, columns) {
  const sought = $("find").value.trim().toLowerCase();
  const rows = sought ? group.rows.filter((table) => table.name.toLowerCase().includes(sought)) : group.rows;
  const open = sought ? true : !(folded.get(group.name) ?? group.folded);
  const shown = open ? (whole.has(group.name) ? rows : rows.slice(0, ROWS)) : [];
  body.hidden = rows.length === 0;
  const button = body.querySelector(".group button");
  setText(button, `${group.name} (${rows.length})`);
  button.setAttribute("aria-expanded", String(open));
  button.onclick = () => { folded.set(group.name, open); showTables(latest); };
  sync(body, shown, (table) => table.name, () => makeRow(columns), fillRow);
  let more = body.querySelector(".more");
  if (!open || rows.length <= ROWS) more?.remove();
  else {
    if (!more) {
      more = wide(columns.length + 1, "cell");
      more.className = "more";
    }
    body.append(more);
    const all = whole.has(group.name);
    setText(more.querySelector("button"), all ? `Show ${ROWS} only` : `Show all ${rows.length}`);
    more.querySelector("button").onclick = () => {
      if (all) whole.delete(group.name); else whole.add(group.name);
      showTables(latest);
    };
  }
}

function showTables(view) {
  const table = $("tables").querySelector("table");
  head(table, "Table", view.columns);
  sync(table, view.groups, (group) => group.name, () => makeGroup(view.columns.length + 1),
    (body, group) => fillGroup(body, group, view.columns));
  $("none").hidden = [...table.tBodies].some((body) => !body.hidden);
}

// ---- processes and events

function showProcesses(processes) {
  $("processes").hidden = processes.rows.length === 0;
  setText($("processes-head"), `Processes: ${processes.summary}`);
  const table = $("processes").querySelector("table");
  head(table, "Process", processes.columns);
  const columns = processes.columns;
  const groups = [{ name: "Processes", folded: false, rows: processes.rows }];
  sync(table, groups, (group) => group.name, () => makeGroup(columns.length + 1), (body, group) => {
    const all = whole.has("processes");
    sync(body, all ? group.rows : group.rows.slice(0, 12), (row) => row.name, () => makeRow(columns), (row, one) => {
      fillRow(row, { ...one, state: "", namespace: "", percent: "", notes: [], fraction: null });
    });
    const top = body.querySelector(".group");
    top.hidden = group.rows.length <= 12;
    const button = top.querySelector("button");
    setText(button, all ? "Show 12 only" : `Show all ${group.rows.length}`);
    button.setAttribute("aria-expanded", String(all));
    button.onclick = () => {
      if (all) whole.delete("processes"); else whole.add("processes");
      showProcesses(latest.processes);
    };
  });
}

function showEvents(events) {
  const seen = new Map();
  const numbered = events.map(([time, text, tone]) => {
    const key = `${time} ${text}`;
    seen.set(key, (seen.get(key) ?? 0) + 1);
    return { key: `${key} ${seen.get(key)}`, time, text, tone };
  });
  sync($("events").querySelector("ol"), numbered, (event) => event.key,
    () => make("li", "", make("small"), make("span")), (node, event) => {
      setText(node.firstChild, event.time);
      setText(node.lastChild, event.text);
      setClass(node.lastChild, event.tone);
    });
}

// ---- charts

function showCharts(data) {
  $("charts").hidden = data.charts.length === 0;
  setText($("span"), data.span);
  sync($("charts").querySelector("div"), data.charts, (chart) => chart.title, makeChart,
    (figure, chart) => fillChart(figure, chart, data.times));
}

// ---- steering

function showControl(view) {
  $("control").hidden = !view.control || view.ended;
  if (!view.control) return;
  $("control").querySelector("[data-action=pause]").disabled = view.paused;
  $("control").querySelector("[data-action=resume]").disabled = !view.paused;
  const names = view.groups.flatMap((group) => group.rows.map((table) => table.name));
  sync($("names"), names, (name) => name, () => make("option"), (node, name) => { node.value = name; });
}

async function steer(order) {
  setText($("said"), "");
  try {
    const answer = await fetch("control", {
      method: "POST",
      headers: { ...authorization(), "Content-Type": "application/json", "X-Shake-Control": "1" },
      body: JSON.stringify(order),
      signal: AbortSignal.timeout(10000),
    });
    const text = await answer.text();
    let said = text;
    try { said = JSON.parse(text).line ?? text; } catch { /* it is plain text */ }
    setText($("said"), said.trim() || (answer.ok ? "done" : `refused (${answer.status})`));
    setClass($("said"), answer.ok ? "good" : "bad");
  } catch {
    setText($("said"), "shake did not answer: look at the state before you try again");
    setClass($("said"), "bad");
  }
  refresh();
}

$("control").addEventListener("click", (event) => {
  const action = event.target.dataset.action;
  if (!action) return;
  if (action === "finish" && !confirm("End the task when every change that was made until now is applied?")) return;
  steer({ action });
});

$("budget").addEventListener("submit", (event) => {
  event.preventDefault();
  steer({ action: "budget", table: $("budget-table").value, units: $("budget-units").value });
});

// ---- requests

const authorization = () => {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: `Bearer ${token}` } : {};
};

async function ask(what) {
  const answer = await fetch(what, { headers: authorization(), signal: AbortSignal.timeout(10000) });
  if (answer.status === 401) throw new Refused();
  if (!answer.ok) throw new Error(answer.status);
  return answer.json();
}

class Refused extends Error {}

function show(view) {
  latest = view;
  showHead(view);
  showCheck(view.check);
  showControl(view);
  showTables(view);
  showProcesses(view.processes);
  showEvents(view.events);
  $("view").hidden = false;
  $("ask").hidden = true;
}

// What was known stays: after an end, that is how it ended.
function showLost() {
  const lost = latest?.ended
    ? "shake has exited. These are its last figures."
    : "shake does not answer. It may have ended, or the network is down; these are the last figures known.";
  if (!latest) {
    document.title = "shake does not answer";
    setText($("id"), "shake");
  }
  if (!latest?.ended) {
    setText($("state"), "no answer");
    setClass($("state"), "mark warn");
  }
  const before = latest?.banners ?? [];
  sync($("banners"), [{ tone: "warn", text: lost }, ...before], (banner) => banner.text, () => make("li"),
    (node, banner) => { setText(node, banner.text); setClass(node, `banner ${banner.tone}`); });
  $("view").hidden = false;
}

function askForToken() {
  const again = sessionStorage.getItem("token") !== null;
  sessionStorage.removeItem("token");
  $("refused").hidden = !again;
  $("view").hidden = true;
  if ($("ask").hidden) { $("ask").hidden = false; $("token").focus(); }
}

let points = null; // how many the charts show
let timer = null;

async function refresh() {
  clearTimeout(timer);
  try {
    const view = await ask("view");
    // What a user is about to copy stays as it is.
    if (getSelection().isCollapsed) show(view);
    if (view.points !== points) {
      showCharts(await ask("charts"));
      points = view.points;
    }
  } catch (error) {
    if (error instanceof Refused) { askForToken(); return; }
    showLost();
  }
  document.documentElement.dataset.shown = String(Number(document.documentElement.dataset.shown ?? 0) + 1);
  if (!document.hidden) timer = setTimeout(refresh, PAUSE);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && $("ask").hidden) refresh(); });
$("find").addEventListener("input", () => { if (latest) showTables(latest); });
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.matches("input")) return;
  event.preventDefault();
  $("find").focus();
});

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", $("token").value);
  $("token").value = "";
  refresh();
});

if (location.hash.startsWith("#token=")) {
  sessionStorage.setItem("token", decodeURIComponent(location.hash.slice(7)));
  history.replaceState(null, "", location.pathname);
}
refresh();
