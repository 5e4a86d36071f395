// Makes elements of the pages. All text is set as text, never as HTML.

const NONE = "–";
const UNITS = ["B", "KB", "MB", "GB", "TB", "PB"];

/** Make an element with a text. */
export function element(tag, content = null, className = "") {
  const made = document.createElement(tag);
  if (content !== null) made.textContent = content;
  if (className) made.className = className;
  return made;
}

export function byId(id) {
  return document.getElementById(id);
}

/** Set a text, or hide its element if there is none; an unchanged text is not set again, for screen readers. */
export function say(id, content) {
  const found = byId(id);
  found.hidden = !content;
  if (found.textContent !== (content ?? "")) found.textContent = content ?? "";
}

export function number(value) {
  return value === null ? NONE : value.toLocaleString("en");
}

export function rows({ rows: done, totalRows }) {
  if (done !== null && totalRows !== null) return `${number(done)} of ${number(totalRows)}`;
  return number(done ?? totalRows);
}

export function bytes(value) {
  if (value === null) return NONE;
  const power = Math.min(UNITS.length - 1, value < 1 ? 0 : Math.floor(Math.log10(value) / 3));
  const shown = value / 1000 ** power;
  return `${shown.toLocaleString("en", { maximumFractionDigits: power && shown < 10 ? 1 : 0 })} ${UNITS[power]}`;
}

export function rate(value) {
  if (value === null) return NONE;
  return value >= 1 ? `${number(Math.round(value))} rows/s` : `${(value * 60).toFixed(1)} rows/min`;
}

/** Return a readable duration: 45 s, 14 min, 3 h 20 min. */
export function duration(seconds) {
  if (seconds === null) return NONE;
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Make an element that says how long ago a moment was, with the exact time as its title. */
export function moment(at) {
  const made = element("time");
  if (at === null) {
    made.textContent = NONE;
    return made;
  }
  made.dateTime = at.toISOString();
  made.textContent = `${duration((Date.now() - at.getTime()) / 1000)} ago`;
  made.title = at.toLocaleString("en", { dateStyle: "medium", timeStyle: "medium" });
  return made;
}

/** Make an element with a state in its colour; unknown states have none. */
export function stateBadge(state) {
  const known = ["Pending", "Importing", "Uncommitted", "Committing", "Completed", "Failed"];
  return element("span", state ?? NONE, known.includes(state) ? `state ${state.toLowerCase()}` : "state");
}

/** Make a bar with its percentage beside it. */
export function bar(percent, label, state = null) {
  const made = element("span", null, "bar");
  const shown = element("progress");
  shown.max = 100;
  if (percent !== null) shown.value = percent;
  shown.setAttribute("aria-label", label);
  if (state === "Failed") shown.className = "failed";
  if (percent !== null) made.append(shown);
  made.append(element("span", percent === null ? NONE : `${Math.floor(percent)} %`));
  return made;
}

/**
 * A table with sortable columns. Their heads are buttons, for the mouse and the keyboard.
 *
 * A column has a title, `cell(item)` that returns a text or a node, and `key(item)` to sort by.
 */
export class SortableTable {
  constructor(table, caption, captionId, columns) {
    this.columns = columns;
    this.items = [];
    this.sorted = null;
    this.caption = element("caption", caption);
    this.caption.id = captionId;
    this.heads = columns.map((column, index) => this.headOf(column, index));
    const head = element("thead");
    const line = element("tr");
    line.append(...this.heads);
    head.append(line);
    this.body = element("tbody");
    table.replaceChildren(this.caption, head, this.body);
  }

  headOf(column, index) {
    const head = element("th");
    head.scope = "col";
    const button = element("button", column.title);
    button.type = "button";
    button.addEventListener("click", () => this.sortBy(index));
    head.append(button);
    if (column.isNumber) head.className = "number";
    return head;
  }

  sortBy(index) {
    const isSame = this.sorted !== null && this.sorted.index === index;
    this.sorted = { index, descending: isSame && !this.sorted.descending };
    this.heads.forEach((head, place) => {
      if (place === index) head.setAttribute("aria-sort", this.sorted.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.show(this.items);
  }

  /** Show items, in the given order until the user sorts them. */
  show(items) {
    this.items = items;
    let ordered = items;
    if (this.sorted !== null) {
      const { key } = this.columns[this.sorted.index];
      const sign = this.sorted.descending ? -1 : 1;
      ordered = [...items].sort((one, other) => sign * compare(key(one), key(other)));
    }
    this.body.replaceChildren(...ordered.map((item) => this.lineOf(item)));
  }

  lineOf(item) {
    const line = element("tr");
    this.columns.forEach((column, index) => {
      const cell = element(index === 0 ? "th" : "td", null, column.isNumber ? "number" : column.className);
      if (index === 0) cell.scope = "row";
      cell.dataset.title = column.title;
      const shown = column.cell(item);
      cell.append(shown instanceof Node ? shown : document.createTextNode(shown));
      line.append(cell);
    });
    return line;
  }
}

function compare(one, other) {
  if (one === other) return 0;
  if (one === null) return 1;
  if (other === null) return -1;
  return typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : one - other;
}
