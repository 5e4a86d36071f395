// Airflow's REST API with the visitor's own session, and Airflow's colours. Nothing is sent anywhere else.

/** Where Airflow is: these pages lie in a folder right below it. */
export const HOME = new URL("../", window.location.href);

/** Read from the API: the status, 0 where Airflow cannot be reached, and the body where there is one. */
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

/** A path of parts that may hold anything; null where one of them would lead elsewhere. */
export function pathOf(...parts) {
  if (parts.some((part) => part === "" || part === "." || part === "..")) return null;
  return parts.map(encodeURIComponent).join("/");
}

/** The path of a task instance in the API. */
export function taskPath({ dagId, runId, taskId }) {
  return pathOf("dags", dagId, "dagRuns", runId, "taskInstances", taskId);
}

/** The address of a task instance in Airflow's pages. */
export function taskPage({ dagId, runId, taskId, mapIndex }) {
  const path = pathOf("dags", dagId, "runs", runId, "tasks", taskId);
  return path && new URL(mapIndex >= 0 ? `${path}/mapped/${mapIndex}` : path, HOME).href;
}

/** Whether a task may still go on; an unknown state may. */
export function isActive(taskState) {
  return !["success", "failed", "skipped", "upstream_failed", "removed"].includes(taskState);
}

/** Why something cannot be shown. */
export function refusal(status, what) {
  if (status === 0) return "Airflow is unreachable. Retrying.";
  if (status === 401) return "You are not signed in to Airflow, or not any more. Sign in, and reload this page.";
  if (status === 403) return `You may not see ${what}.`;
  if (status === 404) return `Airflow does not know ${what}.`;
  return `Airflow responded with HTTP ${status}. Retrying.`;
}

/** Whether a retry may help. */
export function mayPass(status) {
  return status === 0 || status === 429 || status >= 500;
}

/** Be as dark or light as Airflow is, now and when that changes in another tab or around this frame. */
export function followTheme() {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {
    let chosen = null;
    try {
      chosen = window.localStorage.getItem("theme");
    } catch {
      // a browser that keeps nothing
    }
    const isDark = chosen === "dark" || (chosen !== "light" && dark.matches);
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
  };
  follow();
  dark.addEventListener("change", follow);
  window.addEventListener("storage", follow);
}

/** Do something again and again, for as long as it says how many seconds to pause, and while the page is seen. */
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
