"""The pages that show imports, in Debian's Chromium, below a sub-path and for users with and without rights.

``ZILLIZ_AIRFLOW`` names the interpreter of another Airflow to show: this one has the browser's driver.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from packaging.version import Version

playwright = pytest.importorskip("playwright.sync_api")

from airflow_zilliz._progress.pages import HEADERS  # noqa: E402 - without a driver there is nothing to test
from airflow_zilliz._wait.snapshot import Part, Snapshot  # noqa: E402
from airflow_zilliz._wait.snapshot_json import snapshot_json  # noqa: E402
from airflow_zilliz.local.testing import LocalServer  # noqa: E402
from dev import airflow_process  # noqa: E402

PYTHON = os.environ.get("ZILLIZ_AIRFLOW") or sys.executable
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PICTURES = os.environ.get("ZILLIZ_PICTURES")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
PATH = "/team-a"
PASSWORDS = {"admin": "an-admin-s-own", "eve": "a-viewer-s-own"}
HOSTILE = "<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script>"


def _airflow_version() -> Version:
    asking = [PYTHON, "-c", "from importlib.metadata import version; print(version('apache-airflow'))"]
    return Version(subprocess.run(asking, check=True, capture_output=True, text=True).stdout.strip())


AIRFLOW = _airflow_version()
HAS_TASK_VIEWS = AIRFLOW.release >= (3, 2)

pytestmark = [
    pytest.mark.skipif(AIRFLOW.release < (3, 1), reason="earlier ones have no pages"),
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("CI"), reason="needs Chromium, Debian's package chromium"
    ),
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(900),
]


@pytest.fixture(autouse=True)
def no_blocked_loop() -> None:
    """Playwright's own loop may block: no trigger runs in this process."""


@dataclass(frozen=True)
class Task:
    """A task instance."""

    dag_id: str
    run_id: str
    task_id: str = "wait"
    map_index: int = -1

    @property
    def api_path(self) -> str:
        return f"dags/{self.dag_id}/dagRuns/{quote(self.run_id, safe='')}/taskInstances/{self.task_id}"

    @property
    def page(self) -> str:
        mapped = f"/mapped/{self.map_index}" if self.map_index >= 0 else ""
        return f"dags/{self.dag_id}/runs/{quote(self.run_id, safe='')}/tasks/{self.task_id}{mapped}"

    @property
    def own_page(self) -> str:
        ids = {"dag_id": self.dag_id, "run_id": self.run_id, "task_id": self.task_id, "map_index": self.map_index}
        return "zilliz/progress.html?" + "&".join(f"{name}={quote(str(v), safe='')}" for name, v in ids.items())


@dataclass
class Shown:
    """A running Airflow beside a local import server."""

    api: airflow_process.AirflowApi
    server: LocalServer
    home: Path

    def start(self, dag_id: str, **conf: Any) -> Task:
        # as Airflow's own run ids have it, with a plus
        run_id = f"manual__2026-11-26T00:00:00+00:00_{time.time_ns()}"
        self.api.wait_for_dag(dag_id)
        self.api.start(dag_id, run_id, **conf)
        return Task(dag_id, run_id)

    def state(self, task: Task) -> str:
        index = f"/{task.map_index}" if task.map_index >= 0 else ""
        return str(self.api.call("GET", f"{task.api_path}{index}")["state"])

    def until(self, state: str, task: Task, within: float = 90) -> None:
        end = time.monotonic() + within
        while (found := self.state(task)) != state:
            assert time.monotonic() < end, f"the task is {found}, and not {state}: {self.logs()[-3000:]}"
            time.sleep(0.5)

    def edit(self, task: Task, value: object) -> None:
        body = {"value": value, "map_index": task.map_index}
        self.api.call("PATCH", f"{task.api_path}/xcomEntries/zilliz_progress", body)

    def logs(self) -> str:
        return (self.home / "airflow.log").read_text(errors="replace")

    def token(self, user: str) -> str:
        login = {"username": user, "password": PASSWORDS[user]}
        found = requests.post(f"{self.api.url}/auth/token", json=login, timeout=30).json()
        return str(found["access_token"])


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    assert CHROMIUM is not None, "CI is to install Debian's chromium"
    home = tmp_path_factory.mktemp("shown")
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps(PASSWORDS))
    settings = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,eve:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__CORE__PARALLELISM": "4",
    }
    login = {"username": "admin", "password": PASSWORDS["admin"]}
    dags = Path(__file__).parent / "dags_shown"
    with (
        LocalServer(home) as server,
        airflow_process.airflow(
            home, dags, server.connection(), settings, python=PYTHON, path=PATH, login=login
        ) as api,
    ):
        assert api.version
        yield Shown(api, server, home)


class Person:
    """Whoever sits before the browser."""

    def __init__(self, page: Any, shown: Shown, pictures: Path) -> None:
        self.page = page
        self.shown = shown
        self.pictures = pictures
        self.refusals: list[str] = []
        page.on("console", lambda message: self.refusals.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.refusals.append(str(error)))

    def opens(self, path: str) -> None:
        self.page.goto(f"{self.shown.api.url}/{path}")
        self.page.wait_for_load_state("networkidle")

    def sees(self, text: str | re.Pattern[str], within: float = 40, place: Any = None) -> None:
        found = (place or self.page).get_by_text(text).first
        playwright.expect(found).to_be_visible(timeout=within * 1000)

    def keeps_a_picture(self, name: str) -> None:
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(500)
        self.page.screenshot(path=self.pictures / f"{name}.png")

    def bar(self, place: Any = None) -> Any:
        return (place or self.page).get_by_role("progressbar", name="Part of the import that is done")


@pytest.fixture
def browser(shown: Shown) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


def person_of(browser: Any, shown: Shown, tmp_path: Path, user: str | None, width: int = 1320) -> Person:
    pictures = Path(PICTURES) if PICTURES else tmp_path
    pictures.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(viewport={"width": width, "height": 840})
    if user is not None:
        context.add_cookies([{"name": "_token", "value": shown.token(user), "url": shown.api.url}])
    page = context.new_page()
    page.set_default_timeout(30_000)
    return Person(page, shown, pictures)


@pytest.fixture
def viewer(browser: Any, shown: Shown, tmp_path: Path) -> Person:
    return person_of(browser, shown, tmp_path, "eve")


def phase(state: str, seconds: float = 0.0, progress: int = 0, reason: str = "") -> dict[str, Any]:
    return {"state": state, "seconds": seconds, "progress": progress, "reason": reason}


def files(first: int, second: int) -> list[dict[str, Any]]:
    """Return two files, with how many rows of each are imported."""
    parts = ((1, 1_200_000, first), (2, 1_800_000, second))
    return [
        {
            "name": f"2026/11/part-{number}.parquet",
            "size": rows * 3_100,
            "rows": rows,
            "imported": imported,
            "state": "Completed" if imported == rows else "InProgress",
        }
        for number, rows, imported in parts
    ]


def test_the_bar_of_a_deferred_import_moves_inside_the_task_s_page(viewer: Person, shown: Shown) -> None:
    job = {"totalRows": 3_000_000, "collectionName": "books"}
    job_id = shown.server.add_job(phase("Importing", progress=55), **job, files=files(450_000, 300_000))
    task = shown.start("shown", job_id=job_id)
    shown.until("deferred", task)
    viewer.opens(f"{task.page}/details")
    link = viewer.page.get_by_role("link", name="Import progress")
    playwright.expect(link).to_be_visible()
    viewer.opens(str(link.get_attribute("href")).removeprefix(f"{PATH}/"))
    frame = viewer.page.frame_locator("iframe[title='Import progress']") if HAS_TASK_VIEWS else viewer.page
    playwright.expect(viewer.bar(frame)).to_have_attribute("value", "55")
    viewer.sees("Import into books", place=frame)
    viewer.sees("750,000 of 3,000,000", place=frame)
    viewer.keeps_a_picture("progress-1")
    shown.server.set_job(job_id, phase("Importing", progress=85), **job, files=files(1_200_000, 1_050_000))
    playwright.expect(viewer.bar(frame)).to_have_attribute("value", "85", timeout=90_000)
    viewer.sees("2,250,000 of 3,000,000", place=frame)
    viewer.keeps_a_picture("progress-2")
    shown.server.set_job(job_id, phase("Completed"), **job, files=files(1_200_000, 1_800_000))
    playwright.expect(viewer.bar(frame)).to_have_attribute("value", "100", timeout=90_000)
    viewer.sees("Task: success", place=frame)
    viewer.sees("part-2.parquet", place=frame)
    viewer.sees("1,800,000 of 1,800,000", place=frame)
    viewer.sees("this page is no longer refreshed", place=frame)
    viewer.keeps_a_picture("progress-3")
    read = []
    viewer.page.on("request", lambda request: read.append(request.url))
    viewer.page.wait_for_timeout(15_000)
    assert not [url for url in read if "zilliz_progress" in url]


def test_a_failed_import_shows_its_reason_and_html_in_it_stays_text(viewer: Person, shown: Shown) -> None:
    files = [{"name": f"{HOSTILE}.json", "state": "Failed", "reason": HOSTILE}, {"name": "good.json", "rows": 3}]
    job_id = shown.server.add_job(phase("Failed", reason=f"row 8: {HOSTILE}"), collectionName=HOSTILE, files=files)
    task = shown.start("shown", job_id=job_id)
    shown.until("failed", task)
    viewer.opens(task.own_page)
    viewer.sees("Failed")
    viewer.sees(f"row 8: {HOSTILE}")
    rows = viewer.page.get_by_role("table", name="Files").get_by_role("row")
    playwright.expect(rows.nth(1)).to_contain_text(f"{HOSTILE}.json")
    assert viewer.page.title() == "Import progress of wait"
    assert viewer.page.locator("img").count() == 0
    assert viewer.refusals == []
    viewer.opens("zilliz/imports.html")
    viewer.sees(HOSTILE)
    assert viewer.page.title() == "Zilliz imports - Airflow"
    assert viewer.refusals == []


@pytest.fixture(scope="module")
def ended(shown: Shown) -> Task:
    """Return a task whose XCom may be edited: nothing writes it any more."""
    task = shown.start("shown", job_id=shown.server.add_job(phase("Completed"), collectionName="songs", totalRows=7))
    shown.until("success", task)
    return task


def list_of_jobs(failed: int) -> dict[str, Any]:
    reason = "cannot open s3://bucket/nightly/part-14.parquet: no such key"
    parts = [
        Part(f"4525{number:014d}", "Completed" if number % 3 else "Importing", 100 if number % 3 else 30 + number, 900)
        for number in range(20)
    ]
    parts[failed] = replace(parts[failed], state="Failed", percent=None, reason=reason, seen_at=time.time() - 40)
    whole = Part("20 jobs", "Importing", 64, 18_000, seen_at=time.time())
    return snapshot_json(Snapshot(whole, time.time() - 600, "books", parts=tuple(parts), parts_are="jobs"))


def test_a_list_of_jobs_has_the_failed_one_first_and_is_sorted_by_keyboard(
    viewer: Person, shown: Shown, ended: Task
) -> None:
    shown.edit(ended, list_of_jobs(failed=14))
    viewer.opens(ended.own_page)
    table = viewer.page.get_by_role("table", name="Jobs")
    playwright.expect(table.get_by_role("row")).to_have_count(21)
    playwright.expect(table.get_by_role("row").nth(1)).to_contain_text("no such key")
    head = table.get_by_role("columnheader", name="Job")
    head.get_by_role("button").focus()
    viewer.page.keyboard.press("Enter")
    playwright.expect(head).to_have_attribute("aria-sort", "ascending")
    playwright.expect(table.get_by_role("row").nth(1)).to_contain_text("452500000000000000")
    viewer.page.keyboard.press("Enter")
    playwright.expect(head).to_have_attribute("aria-sort", "descending")
    viewer.page.evaluate("localStorage.setItem('theme', 'dark')")
    viewer.page.reload()
    playwright.expect(viewer.page.locator("html")).to_have_attribute("data-theme", "dark")
    playwright.expect(table.get_by_role("row")).to_have_count(21)
    viewer.keeps_a_picture("progress-jobs-dark")


def test_at_600_pixels_nothing_is_cut_off(browser: Any, shown: Shown, ended: Task, tmp_path: Path) -> None:
    shown.edit(ended, list_of_jobs(failed=3))
    viewer = person_of(browser, shown, tmp_path, "eve", width=600)
    viewer.opens(ended.own_page)
    viewer.sees("no such key")
    assert viewer.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize(
    "value",
    [
        "nonsense",
        7,
        [1, 2],
        {"version": 1, "state": {"a": "b"}},
        {"version": "1", "state": "Importing"},
        {"state": "Importing", "files": "x"},
    ],
)
def test_an_xcom_that_is_nonsense_shows_a_message(viewer: Person, shown: Shown, ended: Task, value: object) -> None:
    shown.edit(ended, value)
    viewer.opens(ended.own_page)
    viewer.sees("cannot be read: somebody has edited it")
    playwright.expect(viewer.page.locator("#import")).to_be_hidden()
    assert viewer.refusals == []


def test_of_an_xcom_that_is_half_nonsense_the_rest_is_shown(viewer: Person, shown: Shown, ended: Task) -> None:
    files = [None, 3, {"name": 5}, {"name": "a.json", "percent": "all", "rows": -4, "reason": {}, "state": "x" * 9999}]
    value = {"version": 1, "state": "Importing", "percent": 1e99, "rows": "many", "files": files, "started_at": "soon"}
    shown.edit(ended, value)
    viewer.opens(ended.own_page)
    viewer.sees("a.json")
    playwright.expect(viewer.page.get_by_role("table", name="Files").get_by_role("row")).to_have_count(2)
    assert viewer.refusals == []


def test_an_anonymous_visitor_sees_nothing(browser: Any, shown: Shown, ended: Task, tmp_path: Path) -> None:
    shown.edit(ended, list_of_jobs(failed=3))
    for path in (ended.own_page, "zilliz/imports.html"):
        anonymous = person_of(browser, shown, tmp_path, None)
        statuses: list[int] = []
        anonymous.page.on(
            "response", lambda found, to=statuses: to.append(found.status) if "/api/" in found.url else None
        )
        anonymous.opens(path)
        anonymous.sees("You are not signed in to Airflow")
        assert statuses
        assert set(statuses) == {401}
        assert "books" not in anonymous.page.content()


def test_each_instance_of_a_mapped_task_shows_its_own_import(viewer: Person, shown: Shown) -> None:
    jobs = [
        shown.server.add_job(phase("Importing", 30, 20 + number), phase("Completed"), collectionName=f"books_{number}")
        for number in range(2)
    ]
    task = shown.start("shown_mapped", job_ids=jobs)
    second = replace(task, map_index=1)
    end = time.monotonic() + 60
    while not shown.api.call("GET", f"{task.api_path}/listMapped")["total_entries"]:
        assert time.monotonic() < end
        time.sleep(1)
    shown.until("deferred", second)
    link = shown.api.call("GET", f"{task.api_path}/links?map_index=1")["extra_links"]["Import progress"]
    assert link.startswith(f"{PATH}/")
    viewer.opens(link.removeprefix(f"{PATH}/"))
    frame = viewer.page.frame_locator("iframe[title='Import progress']") if HAS_TASK_VIEWS else viewer.page
    viewer.sees("Import into books_1", place=frame)


def test_the_list_has_running_imports_first_and_leads_to_their_tasks(viewer: Person, shown: Shown, ended: Task) -> None:
    job_id = shown.server.add_job(phase("Importing", 60, 35), phase("Completed"), totalRows=500, collectionName="films")
    task = shown.start("shown", job_id=job_id)
    shown.until("deferred", task)
    viewer.opens("")
    viewer.page.get_by_role("button", name="Browse").click()
    entry = viewer.page.get_by_role("menuitem", name="Zilliz imports")
    playwright.expect(entry).to_be_visible()
    viewer.opens("zilliz/imports.html")
    table = viewer.page.get_by_role("table", name="Imports of the last 24 hours")
    first = table.get_by_role("row").nth(1)
    playwright.expect(first).to_contain_text("films")
    playwright.expect(first).to_contain_text("deferred")
    viewer.keeps_a_picture("imports")
    first.get_by_role("link", name="films").click()
    viewer.sees("Import into films")
    viewer.page.get_by_role("link", name="The task in Airflow").click()
    viewer.page.wait_for_url(f"**{PATH}/dags/shown/runs/**")


def test_pages_are_files_alone_with_strict_headers(shown: Shown) -> None:
    for name in ("progress.html", "imports.html", "progress.js", "zilliz.css"):
        found = requests.get(f"{shown.api.url}/zilliz/{name}", timeout=30)
        assert found.status_code == 200
        assert {key: found.headers.get(key) for key in HEADERS} == HEADERS
        assert "<script>" not in found.text
        assert "innerHTML" not in found.text
    for path in ("", "data", "..%2fplugin.py"):
        assert requests.get(f"{shown.api.url}/zilliz/{path}", timeout=30).status_code == 404
    assert requests.post(f"{shown.api.url}/zilliz/progress.html", timeout=30).status_code == 405


def test_no_log_complains_of_the_plugin(shown: Shown, ended: Task) -> None:
    lines = [
        line for line in shown.logs().splitlines() if re.search("zilliz.*plugin|plugin.*zilliz", line, re.IGNORECASE)
    ]
    assert [line for line in lines if re.search("error|exception|warning|failed", line, re.IGNORECASE)] == []
    errors = shown.api.call("GET", "plugins/importErrors")
    assert errors["total_entries"] == 0
