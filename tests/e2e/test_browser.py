"""What a person sees and does in Airflow's pages, in Debian's Chromium. `make pictures` keeps the docs' pictures."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from packaging.version import Version

pytest.importorskip("airflow.sdk")
playwright = pytest.importorskip("playwright.sync_api")

from airflow import __version__ as airflow_version  # noqa: E402 - Airflow 2 is skipped above

from airflow_zilliz.get_provider_info import get_provider_info  # noqa: E402
from airflow_zilliz.local.testing import LocalServer  # noqa: E402
from dev import ui  # noqa: E402
from dev.airflow_process import AirflowApi  # noqa: E402
from dev.demo import DAG_ID, SENSOR  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PICTURES = os.environ.get("ZILLIZ_PICTURES")
CONSOLE = "https://cloud.zilliz.com/orgs/my-org"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
#: Where Airflow keeps how wide its panels are: by itself a grid on a narrow page shows the oldest run alone.
PANELS = "react-resizable-panels:grid-ltr"
WIDER_GRID = json.dumps({"details-panel,main-panel": {"expandToSizes": {}, "layout": [24, 76]}})

pytestmark = [
    pytest.mark.skipif(Version(airflow_version) < Version("3.3"), reason="written for the newest Airflow's pages"),
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("CI"), reason="needs Chromium, Debian's package chromium"
    ),
    pytest.mark.xdist_group("browser"),
]


class Person:
    """Whoever sits before the browser."""

    def __init__(self, page: Any, api: AirflowApi, server: LocalServer, pictures: Path) -> None:
        self.page = page
        self.api = api
        self.server = server
        self._pictures = pictures

    def opens(self, path: str) -> None:
        self.page.goto(f"{self.api.url}/{path}")
        self.page.wait_for_load_state("networkidle")

    def keeps_a_picture(self, name: str, of: Any = None) -> None:
        self.page.mouse.move(0, 0)  # no tooltip in the picture
        self.page.wait_for_timeout(700)  # what moves in comes to rest
        (of or self.page).screenshot(path=self._pictures / f"{name}.png")

    def sees(self, text: str | re.Pattern[str], within: float = 60) -> None:
        playwright.expect(self.page.get_by_text(text).first).to_be_visible(timeout=within * 1000)

    def reads(self, path: str, text: str, within: float = 60) -> None:
        """Open a page, and again while it does not show a text: Airflow's pages renew themselves rarely."""
        for _ in range(int(within / 4) + 1):
            self.opens(path)
            try:
                self.sees(text, within=4)
            except AssertionError:
                continue
            return
        raise AssertionError(f"{path} does not show {text!r}:\n{self.page.locator('body').inner_text()}")

    def waits_for(self, state: str, task: str) -> None:
        """Wait until a task of a page is in a state, and open the page, its long lines wrapped."""
        _, dag_id, _, run_id, _, task_id = task.split("/")
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        end = time.monotonic() + 90
        while (found := self.api.call("GET", path)["state"]) != state:
            assert time.monotonic() < end, f"{task_id} is {found}, and not {state}"
            time.sleep(0.5)
        self.opens(task)
        self.sees(re.compile(f"^{state}$", re.IGNORECASE))
        cell = self.page.locator(f"[id='grid-{unquote(run_id)}-{task_id}']")
        playwright.expect(cell).to_be_in_viewport()
        self.page.keyboard.press("w")

    def tests_connection(self, conn_id: str) -> dict[str, Any]:
        """Press the Test button of the list of connections, and return what the server said to the page."""
        self.opens("connections")
        button = self.page.get_by_role("row").filter(has_text=conn_id).get_by_role("button", name="Test Connection")
        with self.page.expect_response("**/connections/test") as response:
            button.click()
        said: dict[str, Any] = response.value.json()
        return said

    def saves(self, dialog: Any) -> None:
        dialog.get_by_role("button", name="Save").click()
        playwright.expect(dialog).to_be_hidden()

    def triggers(self, files: list[list[str]]) -> str:
        """Start the example's DAG by its form, and return the run's page."""
        self.api.wait_for_dag(DAG_ID)
        self.opens(f"dags/{DAG_ID}")
        self.page.get_by_role("button", name="Trigger").first.click()
        dialog = self.page.get_by_role("dialog")
        dialog.locator(".monaco-editor").first.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(json.dumps(files))
        self.page.keyboard.press("Control+Shift+End")
        self.page.keyboard.press("Delete")  # the brackets that the editor closed by itself
        dialog.get_by_role("button", name="Trigger").last.click()
        self.page.wait_for_url("**/runs/**")
        path: str = self.page.url.removeprefix(self.api.url + "/")
        return path


@pytest.fixture(autouse=True)
def no_blocked_loop() -> None:
    """Playwright's own loop may block: no trigger runs in this process."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AirflowApi, LocalServer]]:
    examples = Path(__file__).parents[2] / "example_dags"
    with ui.opened(tmp_path_factory.mktemp("ui") / "home", examples, console_url=CONSOLE) as opened:
        yield opened


@pytest.fixture
def person(shown: tuple[AirflowApi, LocalServer], tmp_path: Path) -> Iterator[Person]:
    assert CHROMIUM is not None, "CI is to install Debian's chromium"
    pictures = Path(PICTURES) if PICTURES else tmp_path
    pictures.mkdir(parents=True, exist_ok=True)
    api, server = shown
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1320, "height": 840})
        page.set_default_timeout(20_000)
        page.add_init_script(f"localStorage.setItem({json.dumps(PANELS)}, {json.dumps(WIDER_GRID)})")
        yield Person(page, api, server, pictures)
        browser.close()


def test_a_connection_is_filled_in_and_tested(person: Person) -> None:
    (described,) = get_provider_info()["connection-types"]
    host, _, port = person.server.url.rpartition(":")
    person.opens("connections")
    person.page.get_by_role("button", name="Add Connection").click()
    form = person.page.get_by_role("dialog")
    form.locator("input[name=connection_id]").fill("my_milvus")
    form.get_by_role("combobox").fill("zilliz")
    person.page.get_by_role("option", name="Zilliz Cloud / Milvus").click()

    labels, placeholders = (described["ui-field-behaviour"][name] for name in ("relabeling", "placeholders"))
    for name, placeholder in placeholders.items():
        playwright.expect(form.locator(f"input[name={name}]")).to_have_attribute("placeholder", placeholder)
    for label in labels.values():
        playwright.expect(form.get_by_text(label, exact=True)).to_be_visible()
    playwright.expect(form.locator("input[name=password]")).to_have_attribute("type", "password")
    person.page.set_viewport_size({"width": 1200, "height": 980})
    person.keeps_a_picture("connection-form", form)

    form.locator("input[name=host]").fill(host)
    form.locator("input[name=port]").fill(port)
    form.locator("input[name=password]").fill(str(person.server.api_key))
    form.get_by_role("button", name=re.compile("^Extra Fields$")).click()
    for field in described["conn-fields"].values():
        playwright.expect(form.get_by_text(field["label"], exact=True)).to_be_visible()
        playwright.expect(form.get_by_text(field["description"], exact=True)).to_be_visible()
    person.page.set_viewport_size({"width": 1200, "height": 1500})
    person.keeps_a_picture("connection-form-extra", form)
    person.saves(form)
    person.page.set_viewport_size({"width": 1200, "height": 800})

    said = person.tests_connection(ui.CONN_ID)
    assert said["status"] is True
    said = person.tests_connection("my_milvus")
    assert said == {
        "status": True,
        "message": f"{person.server.url} responds to import calls, and the key is accepted.",
    }

    person.page.get_by_role("row").filter(has_text="my_milvus").get_by_role("button", name="Edit").click()
    form.locator("input[name=password]").fill("not-the-key-0123456789")
    person.saves(form)
    assert person.tests_connection("my_milvus")["status"] is False
    person.sees(re.compile("The key was refused: check it, and that it belongs to"))
    person.keeps_a_picture("connection-refused")
    assert "not-the-key" not in person.page.content()


def test_a_deferred_wait_logs_its_progress_and_ends_with_its_rows(person: Person) -> None:
    person.server.script(
        {"state": "Importing", "seconds": 14, "progress": 40},
        {"state": "Importing", "seconds": 10, "progress": 80},
        {"state": "Completed"},
        totalRows=3000,
        files=[{"name": "part-1.parquet", "rows": 3000}],
    )
    try:
        task = f"{person.triggers([['part-1.parquet']])}/tasks/{SENSOR}"
        person.waits_for("deferred", task)
        person.reads(task, "Importing 80 %")
        person.sees("Deferred")
        person.keeps_a_picture("deferred")
        person.waits_for("success", task)
        person.sees(re.compile("Completed, 3,000 of 3,000 rows"))
        person.reads(f"{task}/xcom", "return_value")
        person.page.get_by_role("button", name="Expand all").click()
        for text in ("imported_rows", "3000", "collection_name", "demo"):
            person.sees(re.compile(text))
        person.keeps_a_picture("xcom")
        button(person, task)
    finally:
        person.server.clear("script")


def test_a_failed_task_shows_the_job_s_reason(person: Person) -> None:
    task = f"{person.triggers([['broken.json']])}/tasks/{SENSOR}"
    person.waits_for("failed", task)
    reason = re.compile("ZillizImportFailed.*3 dimensions")
    person.sees(reason)
    person.page.get_by_text(reason).first.click()  # folds the traceback
    person.keeps_a_picture("failed")
    button(person, task)


def button(person: Person, task: str) -> None:
    person.reads(f"{task}/details", "Zilliz")
    link = person.page.get_by_role("link", name=re.compile("Zilliz"))
    playwright.expect(link).to_have_attribute("href", CONSOLE)
