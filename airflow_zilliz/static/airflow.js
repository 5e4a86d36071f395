// Reads Airflow's REST API with the user's own session, and follows Airflow's colours. Nothing is sent anywhere else.

/** The address of Airflow: these pages lie in a folder right below it. */
export const HOME = new URL("../", window.location.href);

/** Read from the API; return the status, 0 if Airflow is unreachable, and the body if there is one. */
export async function read(path, query = {}) {
  const url = new URL(`api/v2/${path}`, HOME);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  try {
    const response = await fetch(url, { credentials: "same-origin", headers: { Accept: "application/json" } });
    return { status: response.status, body: response.ok ? await response.json() : null };
  } catch {
    return { status: 0, body: null };
  }
}

/** Return a path of parts with any characters, null if one of them would lead elsewhere. */
export function pathOf(...parts) {
  if (parts.some((part) => part === "" || part === "." || part === "..")) return null;
  return parts.map(encodeURIComponent).join("/");
}

/** Return the path of a task instance in the API. */
export function taskPath({ dagId, runId, taskId }) {
  return pathOf("dags", dagId, "dagRuns", runId, "taskInstances", taskId);
}

/** Return the address of a task instance in Airflow's UI. */
export function taskPage({ dagId, runId, taskId, mapIndex }) {
  const path = pathOf("dags", dagId, "runs", runId, "tasks", taskId);
  return path && new URL(mapIndex >= 0 ? `${path}/mapped/${mapIndex}` : path, HOME).href;
}

/** Whether a task has yet to end; a task in an unknown state is taken to run. */
export function isActive(taskState) {
  return !["success", "failed", "skipped", "upstream_failed", "removed"].includes(taskState);
}

/** Return why something cannot be shown. */
export function refusal(status, what) {
  if (status === 0) return "Airflow is unreachable. Retrying.";
  if (status === 401) return "You are not signed in to Airflow, or your session has ended. Sign in, and reload this page.";
  if (status === 403) return `You may not see ${what}.`;
  if (status === 404) return `Airflow does not know ${what}.`;
  return `Airflow responded with HTTP ${status}. Retrying.`;
}

/** Whether a retry may help. */
export function mayPass(status) {
  return status === 0 || status === 429 || status >= 500;
}

/** Follow Airflow's dark or light mode, also when it changes in another tab or around this frame. */
export function followTheme() {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {
    let chosen = null;
    try {
      chosen = window.localStorage.getItem("theme");
    } catch {
      // a browser without storage
    }
    const isDark = chosen === "dark" || (chosen !== "light" && dark.matches);
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
  };
  follow();
  dark.addEventListener("change", follow);
  window.addEventListener("storage", follow);
}

/** Repeat something after as many seconds as it returns, until it returns none; pause while the page is hidden. */
export async function repeat(act) {
  for (;;) {
    const seconds = await act();
    if (seconds === null) return;
    await new Promise((resolve) => window.setTimeout(resolve, seconds * 1000));
    while (document.hidden) {
      await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    }
  }
}
