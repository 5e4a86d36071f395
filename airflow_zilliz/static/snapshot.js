// Reads an XCom zilliz_progress. Anyone who may edit XComs can write anything there, so everything is checked.

export const KEY = "zilliz_progress";
const MAX_PARTS = 100;
const MAX_TEXT = { name: 400, state: 100, reason: 4000, collection: 400, job: 200 };
const MAX_VALUE = 500_000;

/** Return the content of an XCom, null if the provider did not write it. */
export function snapshotOf(value) {
  const found = asObject(value);
  if (found === null || !Number.isInteger(found.version)) return null;
  const whole = partOf({ ...found, name: "" });
  if (whole === null || whole.state === null) return null;
  const kind = Array.isArray(found.jobs) ? "jobs" : "files";
  const listed = Array.isArray(found[kind]) ? found[kind].slice(0, MAX_PARTS) : [];
  return {
    ...whole,
    jobId: text(found.job_id, MAX_TEXT.job),
    collection: text(found.collection_name, MAX_TEXT.collection),
    startedAt: moment(found.started_at),
    movedAt: moment(found.moved_at),
    troubleSince: moment(found.trouble_since),
    kind,
    parts: listed.map(partOf).filter((part) => part !== null),
    more: count(found.more) ?? 0,
  };
}

function asObject(value) {
  let found = value;
  // the API of Airflow 3.1 stores an edited value as JSON of JSON
  for (let layer = 0; layer < 3 && typeof found === "string" && found.length <= MAX_VALUE; layer++) {
    try {
      found = JSON.parse(found);
    } catch {
      return null;
    }
  }
  return typeof found === "object" && found !== null && !Array.isArray(found) ? found : null;
}

function partOf(value) {
  const found = asObject(value);
  const name = found && text(found.name, MAX_TEXT.name, true);
  if (found === null || name === null) return null;
  return {
    name,
    state: text(found.state, MAX_TEXT.state),
    percent: number(found.percent, 100),
    rows: count(found.rows),
    totalRows: count(found.total_rows),
    bytes: count(found.bytes),
    rate: number(found.rows_per_second, 1e12),
    left: number(found.seconds_left, 1e9),
    reason: text(found.reason, MAX_TEXT.reason),
    seenAt: moment(found.seen_at),
  };
}

function text(value, most, mayBeEmpty = false) {
  if (typeof value !== "string" || (value === "" && !mayBeEmpty)) return null;
  return value.length <= most ? value : `${value.slice(0, most - 1)}…`;
}

function number(value, most) {
  return typeof value === "number" && value >= 0 && value <= most ? value : null;
}

function count(value) {
  const found = number(value, Number.MAX_SAFE_INTEGER);
  return found === null ? null : Math.trunc(found);
}

function moment(value) {
  if (typeof value !== "string" || !/^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$/.test(value)) return null;
  const found = new Date(value);
  return Number.isNaN(found.getTime()) ? null : found;
}
