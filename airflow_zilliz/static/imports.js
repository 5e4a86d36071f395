// Lists the imports of the last day that the user may see, from the XComs of their tasks.

import { followTheme, HOME, isActive, mayPass, read, refusal, repeat, taskPage, taskPath } from "./airflow.js";
import { bar, byId, duration, element, moment, number, rows, say, SortableTable, stateBadge } from "./show.js";
import { KEY, snapshotOf } from "./snapshot.js";

const SECONDS = 30;
const DAY = 24 * 3600 * 1000;
const PAGE = 100;
/** How many XComs are searched, how many imports are shown, and how many requests are in flight at once. */
const MOST_ENTRIES = 1000;
const MOST_SHOWN = 200;
const AT_ONCE = 6;

/** The imports that were read, by task and by the time when they were written. */
const known = new Map();

function text(value) {
  return typeof value === "string" ? value : "";
}

function entryOf(found) {
  const writtenAt = new Date(text(found.timestamp));
  return {
    dagId: text(found.dag_id),
    runId: text(found.run_id),
    taskId: text(found.task_id),
    mapIndex: Number.isInteger(found.map_index) ? found.map_index : -1,
    writtenAt: Number.isNaN(writtenAt.getTime()) ? null : writtenAt,
  };
}

/** Return the imports of the last day, the newest first, or the HTTP status if they cannot be read. */
async function entries() {
  const since = Date.now() - DAY;
  const found = [];
  for (let offset = 0; offset < MOST_ENTRIES; offset += PAGE) {
    const query = { xcom_key: KEY, limit: PAGE, offset, order_by: "-timestamp" };
    const { status, body } = await read("dags/~/dagRuns/~/taskInstances/~/xcomEntries", query);
    if (status !== 200 || !Array.isArray(body.xcom_entries)) return status || 0;
    const page = body.xcom_entries.map(entryOf);
    found.push(...page.filter(({ writtenAt }) => writtenAt !== null && writtenAt.getTime() >= since));
    if (page.length < PAGE || isOver(page, since)) break;
  }
  return found.sort((one, other) => other.writtenAt - one.writtenAt);
}

/** Whether only older entries follow; Airflow 3.1 does not sort them by time. */
function isOver(page, since) {
  const times = page.map(({ writtenAt }) => writtenAt?.getTime() ?? 0);
  return times.every((time, index) => index === 0 || time <= times[index - 1]) && times.at(-1) < since;
}

async function describe(entry) {
  const key = JSON.stringify([entry.dagId, entry.runId, entry.taskId, entry.mapIndex]);
  const path = taskPath(entry);
  if (path === null) return null;
  const before = known.get(key);
  const isAsBefore = before !== undefined && before.writtenAt.getTime() === entry.writtenAt.getTime();
  if (isAsBefore && !isActive(before.taskState)) return before;
  const query = { map_index: entry.mapIndex, deserialize: false, stringify: false };
  const kept = isAsBefore ? null : await read(`${path}/xcomEntries/${KEY}`, query);
  const task = await read(entry.mapIndex >= 0 ? `${path}/${entry.mapIndex}` : path);
  const snapshot = isAsBefore ? before.snapshot : kept.status === 200 ? snapshotOf(kept.body.value) : null;
  const taskState = task.status === 200 && typeof task.body.state === "string" ? task.body.state : "unknown";
  const described = { ...entry, snapshot, taskState };
  if (task.status === 200) known.set(key, described);
  return described;
}

async function describeAll(found) {
  const described = new Array(found.length);
  let next = 0;
  const work = async () => {
    while (next < found.length) {
      const place = next++;
      described[place] = await describe(found[place]);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return described.filter((one) => one !== null);
}

function link(entry) {
  const href = taskPage(entry);
  const name = entry.mapIndex >= 0 ? `${entry.taskId} [${entry.mapIndex}]` : entry.taskId;
  if (href === null) return name;
  const made = element("a", name);
  made.href = href;
  return made;
}

/** Return a link to the page of one import, which lies beside this one. */
function progressLink(entry) {
  const url = new URL("progress.html", window.location.href);
  const ids = [["dag_id", entry.dagId], ["run_id", entry.runId], ["task_id", entry.taskId], ["map_index", entry.mapIndex]];
  url.search = ids.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
  const made = element("a", entry.snapshot?.collection ?? entry.snapshot?.jobId ?? "Import");
  made.href = url.href;
  return made;
}

const COLUMNS = [
  { title: "Collection", className: "name", cell: progressLink, key: (one) => one.snapshot?.collection ?? null },
  {
    title: "State",
    cell: (one) => (one.snapshot ? stateBadge(one.snapshot.state) : "XCom edited"),
    key: (one) => one.snapshot?.state ?? null,
  },
  {
    title: "Progress",
    cell: (one) => bar(one.snapshot?.percent ?? null, `Part of the import of ${one.taskId} that is done`, one.snapshot?.state),
    key: (one) => one.snapshot?.percent ?? null,
  },
  {
    title: "Rows",
    isNumber: true,
    cell: (one) => (one.snapshot ? rows(one.snapshot) : "–"),
    key: (one) => one.snapshot?.rows ?? null,
  },
  {
    title: "Time left",
    isNumber: true,
    cell: (one) => duration(one.snapshot?.left ?? null),
    key: (one) => one.snapshot?.left ?? null,
  },
  { title: "Written", cell: (one) => moment(one.writtenAt), key: (one) => -one.writtenAt.getTime() },
  { title: "DAG", className: "name", cell: (one) => one.dagId, key: (one) => one.dagId },
  { title: "Task", className: "name", cell: link, key: (one) => one.taskId },
  { title: "Task state", cell: (one) => one.taskState.replaceAll("_", " "), key: (one) => one.taskState },
];

const table = new SortableTable(byId("table"), "Imports of the last 24 hours", "imports-caption", COLUMNS);

async function refresh() {
  const found = await entries();
  byId("page").setAttribute("aria-busy", "false");
  if (typeof found === "number") {
    const passes = mayPass(found);
    if (!passes) byId("imports").hidden = true;
    say("message", refusal(found, "the XComs of any DAG"));
    byId("message").className = "notice trouble";
    say("refresh", null);
    return passes ? SECONDS : null;
  }
  const shown = await describeAll(found.slice(0, MOST_SHOWN));
  const running = shown.filter((one) => isActive(one.taskState));
  const ended = shown.filter((one) => !isActive(one.taskState));
  byId("imports").hidden = shown.length === 0;
  table.show([...running, ...ended]);
  say("message", shown.length === 0 ? "No task that you may see has waited for an import in the last 24 hours." : null);
  byId("message").className = "notice";
  const left = found.length - shown.length;
  say("more", left > 0 ? `${number(left)} older imports are not listed.` : null);
  say("refresh", `${number(running.length)} running. Refreshed every ${SECONDS} s.`);
  return SECONDS;
}

followTheme();
byId("home").href = HOME.href;
await repeat(refresh);
