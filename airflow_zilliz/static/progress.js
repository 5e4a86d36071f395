// Shows one task's import, from its XCom zilliz_progress.

import { followTheme, HOME, isActive, mayPass, read, refusal, repeat, taskPage, taskPath } from "./airflow.js";
import { bar, byId, bytes, duration, element, moment, number, rate, rows, say, SortableTable, stateBadge } from "./show.js";
import { KEY, snapshotOf } from "./snapshot.js";

const SECONDS = 10;
const NOT_YET =
  "Nothing is known about this import yet: its task has not polled the job, or [zilliz] progress_xcom is off.";
const NONSENSE =
  `XCom ${KEY} of this task cannot be read: somebody has edited it, or another version of the provider wrote it.`;

const COLUMNS = {
  name: { title: "File", className: "name", cell: (part) => part.name, key: (part) => part.name },
  state: { title: "State", cell: (part) => stateBadge(part.state), key: (part) => part.state },
  percent: {
    title: "Progress",
    cell: (part) => bar(part.percent, `Part of ${part.name} that is done`, part.state),
    key: (part) => part.percent,
  },
  rows: { title: "Rows", isNumber: true, cell: rows, key: (part) => part.rows ?? part.totalRows },
  bytes: { title: "Size", isNumber: true, cell: (part) => bytes(part.bytes), key: (part) => part.bytes },
  rate: { title: "Rate", isNumber: true, cell: (part) => rate(part.rate), key: (part) => part.rate },
  left: { title: "Time left", isNumber: true, cell: (part) => duration(part.left), key: (part) => part.left },
  seen: { title: "Seen", cell: (part) => moment(part.seenAt), key: (part) => part.seenAt?.getTime() ?? null },
  reason: { title: "Reason", className: "why", cell: (part) => part.reason ?? "", key: (part) => part.reason },
};
const OF_FILES = ["name", "state", "percent", "rows", "bytes", "reason"];
const OF_JOBS = ["name", "state", "percent", "rows", "bytes", "rate", "left", "seen", "reason"];

let table = null;
let tableOf = null;

/** Return which import the address names; a + in it is a plus, which not every Airflow encodes. */
function task() {
  const given = {};
  for (const pair of window.location.search.slice(1).split("&")) {
    const [name, value = ""] = pair.split("=", 2);
    try {
      given[name] = decodeURIComponent(value);
    } catch {
      given[name] = value;
    }
  }
  const mapIndex = /^\d{1,9}$/.test(given.map_index ?? "") ? Number(given.map_index) : -1;
  return { dagId: given.dag_id ?? "", runId: given.run_id ?? "", taskId: given.task_id ?? "", mapIndex };
}

function showParts(found) {
  byId("parts").hidden = found.parts.length === 0;
  if (tableOf !== found.kind) {
    const isOfJobs = found.kind === "jobs";
    const columns = (isOfJobs ? OF_JOBS : OF_FILES).map((name) => COLUMNS[name]);
    columns[0] = { ...columns[0], title: isOfJobs ? "Job" : "File" };
    table = new SortableTable(byId("table"), isOfJobs ? "Jobs" : "Files", "parts-caption", columns);
    tableOf = found.kind;
  }
  table.show(found.parts);
  say("more", found.more ? `${number(found.more)} more ${found.kind} are not listed.` : null);
}

function showFacts(found) {
  const facts = [
    ["Rows", rows(found)],
    ["Size", bytes(found.bytes)],
    ["Rate", rate(found.rate)],
    ["Time left", found.left === null ? "–" : `about ${duration(found.left)}`],
    ["Waiting since", moment(found.startedAt)],
    ["Last change", moment(found.movedAt)],
    ["Last seen", moment(found.seenAt)],
  ];
  byId("facts").replaceChildren(
    ...facts.map(([title, value]) => {
      const pair = element("div");
      const held = element("dd");
      held.append(value);
      pair.append(element("dt", title), held);
      return pair;
    }),
  );
}

function showImport(found) {
  const { collection, jobId, kind } = found;
  say("title", collection ? `Import into ${collection}` : "Import progress");
  say("subtitle", jobId ? `Job ${jobId}` : kind === "jobs" ? "A list of jobs" : null);
  byId("state").replaceChildren(stateBadge(found.state));
  say("percent", found.percent === null ? null : `${Math.floor(found.percent)} %`);
  const shown = byId("bar");
  if (found.percent === null) shown.removeAttribute("value");
  else shown.value = found.percent;
  shown.hidden = found.percent === null && found.state === "Failed";
  shown.className = found.state === "Failed" ? "failed" : "";
  say("announced", `${found.state}${found.percent === null ? "" : ` ${Math.floor(found.percent)} percent`}`);
  showFacts(found);
  byId("reason-part").hidden = found.reason === null;
  say("reason", found.reason);
  showParts(found);
}

function showMessage(content, isTrouble = false) {
  say("message", content);
  byId("message").className = isTrouble ? "notice trouble" : "notice";
}

/** Return a notice for an import, null if there is nothing to report. */
function remark(found, taskState) {
  if (found.troubleSince !== null && isActive(taskState)) {
    const minutes = duration((Date.now() - found.troubleSince.getTime()) / 1000);
    return `Polls have shown nothing of this import for ${minutes}. Below is the last known state; the log says why.`;
  }
  return null;
}

async function refresh(wanted, path) {
  // read the task first: once it has ended, the XCom has its last value
  const known = await read(wanted.mapIndex >= 0 ? `${path}/${wanted.mapIndex}` : path);
  if (known.status !== 200) return refuse(known.status, "this task instance, which may be gone");
  const taskState = typeof known.body.state === "string" ? known.body.state : "no state yet";
  const query = { map_index: wanted.mapIndex, deserialize: false, stringify: false };
  const kept = await read(`${path}/xcomEntries/${KEY}`, query);
  if (kept.status !== 200 && kept.status !== 404) return refuse(kept.status, "the XComs of this task");
  const active = isActive(taskState);
  const found = kept.status === 200 ? snapshotOf(kept.body.value) : null;
  byId("import").hidden = found === null;
  if (found !== null) {
    showImport(found);
    showMessage(remark(found, taskState), true);
  } else {
    showMessage(kept.status === 404 ? NOT_YET : NONSENSE, kept.status !== 404);
  }
  say("task-state", `Task: ${taskState.replaceAll("_", " ")}`);
  say("refresh", active ? `Refreshed every ${SECONDS} s while the task is active.` : "The task has ended, so this page is no longer refreshed.");
  byId("page").setAttribute("aria-busy", "false");
  return active ? SECONDS : null;
}

function refuse(status, what) {
  const passes = mayPass(status);
  if (!passes) byId("import").hidden = true;
  showMessage(refusal(status, what), true);
  say("refresh", null);
  byId("page").setAttribute("aria-busy", "false");
  return passes ? SECONDS : null;
}

followTheme();
const wanted = task();
const path = taskPath(wanted);
if (path === null) {
  showMessage("This address names no task. Open this page with the button Import progress of a task.", true);
} else {
  document.title = `Import progress of ${wanted.taskId}`;
  if (window.self === window.top) {
    byId("task-link").href = taskPage(wanted) ?? HOME.href;
    byId("task-link").hidden = false;
  }
  await repeat(() => refresh(wanted, path));
}
