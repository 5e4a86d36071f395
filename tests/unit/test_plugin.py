from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from airflow_zilliz import links, plugin
from airflow_zilliz._progress.pages import FOLDER, HEADERS, Pages

TASK = SimpleNamespace(dag_id="dag", run_id="manual__2026-11-26T00:00:00+00:00", task_id="a.b", map_index=-1)

#: What Airflow registers of a plugin, in a process of its own, since it keeps that.
REGISTERED = """
import json
from airflow import plugins_manager
if not hasattr(plugins_manager, "_get_plugins"):
    plugins_manager.ensure_plugins_loaded()
plugins, errors = plugins_manager._get_plugins() if hasattr(plugins_manager, "_get_plugins") else (
    plugins_manager.plugins, plugins_manager.import_errors)
ours = [one for one in plugins if one.name == "zilliz"]
print(json.dumps([len(ours), errors, [view["destination"] for view in getattr(ours[0], "external_views", [])]]))
"""


def test_airflow_registers_the_plugin_without_an_error() -> None:
    done = subprocess.run([sys.executable, "-c", REGISTERED], check=True, capture_output=True, text=True, timeout=120)
    count, errors, destinations = json.loads(done.stdout.splitlines()[-1])
    assert (count, errors) == (1, {})
    assert destinations == ["nav", "base"][: links.HAS_PAGES + links.HAS_TASK_VIEWS]
    assert "zilliz" not in done.stderr.lower()


def test_what_every_process_imports_of_the_plugin_is_cheap() -> None:
    loading = "import airflow_zilliz.plugin, sys; print('fastapi' in sys.modules, 'requests' in sys.modules)"
    before = "import airflow.plugins_manager, sys; print('fastapi' in sys.modules, 'requests' in sys.modules)"
    found = [
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120).stdout
        for code in (loading, before)
    ]
    assert found[0].splitlines()[-1:] == found[1].splitlines()[-1:]


@pytest.mark.parametrize(
    ("base_url", "prefix"), [("", ""), ("http://a:8080", ""), ("https://a.test/team-a/", "/team-a")]
)
def test_a_task_s_page_is_below_airflow_s_own_path(monkeypatch: pytest.MonkeyPatch, base_url: str, prefix: str) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    monkeypatch.setattr(links, "HAS_TASK_VIEWS", True)
    run = "manual__2026-11-26T00%3A00%3A00%2B00%3A00"
    route = "plugin/zilliz-import-progress"
    assert links.progress_url_of(TASK) == f"{prefix}/dags/dag/runs/{run}/tasks/a.b/{route}"
    mapped = SimpleNamespace(**{**vars(TASK), "map_index": 3})
    assert links.progress_url_of(mapped) == f"{prefix}/dags/dag/runs/{run}/tasks/a.b/mapped/3/{route}"
    monkeypatch.setattr(links, "HAS_TASK_VIEWS", False)
    ids = f"dag_id=dag&run_id={run}&task_id=a.b&map_index=-1"
    assert links.progress_url_of(TASK) == f"{prefix}/zilliz/progress.html?{ids}"


def test_without_progress_there_is_no_page_to_lead_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__ZILLIZ__PROGRESS_XCOM", "False")
    assert links.ZillizProgressLink().get_link(None, ti_key=TASK) == ""


def test_pages_have_no_inline_script_or_style_and_set_no_html() -> None:
    names = {path.name for path in FOLDER.iterdir()}
    assert {"progress.html", "imports.html", "zilliz.css"} <= names
    for path in FOLDER.iterdir():
        text = path.read_text()
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "<style",
            " style=",
            "<script>",
        ):
            assert word not in text, path.name


def test_only_the_files_are_served_and_with_strict_headers() -> None:
    testclient = pytest.importorskip("starlette.testclient")
    client = testclient.TestClient(Pages())
    found = client.get("/progress.html")
    assert found.status_code == 200
    assert {name: found.headers.get(name) for name in HEADERS} == HEADERS
    assert "script-src 'self'" in HEADERS["Content-Security-Policy"]
    assert "frame-ancestors 'self'" in HEADERS["Content-Security-Policy"]
    assert plugin.ZillizPlugin.name == "zilliz"


@pytest.mark.parametrize("path", ["/", "/data", "/..%2fplugin.py", "/../plugin.py", "/%2e%2e/plugin.py"])
def test_nothing_else_is_served(path: str) -> None:
    applications = pytest.importorskip("starlette.applications")
    routing = pytest.importorskip("starlette.routing")
    testclient = pytest.importorskip("starlette.testclient")
    airflow = applications.Starlette(routes=[routing.Mount("/zilliz", Pages())])
    assert testclient.TestClient(airflow).get(f"/zilliz{path}").status_code == 404
