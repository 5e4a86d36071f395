"""Airflow's UI plugin: static pages that show imports, from 3.1 on. Every process of Airflow imports this module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_zilliz._progress.pages import Pages
from airflow_zilliz.links import HAS_PAGES, HAS_TASK_VIEWS, PAGES_PREFIX, PROGRESS_ROUTE, ui_prefix

if TYPE_CHECKING:
    from airflow.sdk.plugins_manager import AirflowPlugin
else:
    try:
        from airflow.sdk.plugins_manager import AirflowPlugin
    except ImportError:  # Airflow 2, and 3 before it had one in its SDK
        from airflow.plugins_manager import AirflowPlugin


def _views() -> list[dict[str, Any]]:
    pages = f"{ui_prefix()}{PAGES_PREFIX}"
    # without a url_route, Airflow opens the page itself instead of a frame, and links on it work
    imports = {"name": "Zilliz imports", "href": f"{pages}/imports.html", "destination": "nav", "category": "browse"}
    if not HAS_TASK_VIEWS:
        return [imports]
    ids = "dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}"
    progress = {
        "name": "Import progress",
        "href": f"{pages}/progress.html?{ids}",
        # neither in a menu nor on every task's page: only the button opens it
        "destination": "base",
        "url_route": PROGRESS_ROUTE,
    }
    return [imports, progress]


class ZillizPlugin(AirflowPlugin):
    """Registers the pages."""

    name = "zilliz"
    if HAS_PAGES:
        fastapi_apps = [{"app": Pages(), "url_prefix": PAGES_PREFIX, "name": "Zilliz imports"}]
        external_views = _views()
