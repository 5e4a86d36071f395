"""The buttons of a task: one opens the console, one the page with the import's progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom, conf

from airflow_zilliz.exceptions import ZillizError

if TYPE_CHECKING:
    from airflow_zilliz._transport.endpoint import Endpoint
    from airflow_zilliz.hooks import ZillizHook

CONSOLE_KEY = "zilliz_console"
PROGRESS_LINK_KEY = "zilliz_progress_link"
#: Below Airflow's own address: where the pages are, and how Airflow 3.2 and later call the one inside a task's page.
PAGES_PREFIX = "/zilliz"
PROGRESS_ROUTE = "zilliz-import-progress"

_RELEASE = tuple(int(number) for number in airflow_version.split(".")[:2])
#: The REST API of earlier ones does not accept a browser's session.
HAS_PAGES = _RELEASE >= (3, 1)
#: Earlier ones can show a view inside a task's page only as a tab of every task.
HAS_TASK_VIEWS = _RELEASE >= (3, 2)


class ZillizConsoleLink(BaseOperatorLink):
    """Opens the connection's ``console_url``, or Zilliz Cloud's console. The task stores the address at its start."""

    name = "Zilliz console"

    @property
    def xcom_key(self) -> str:
        """The XCom that Airflow 3 reads the address from."""
        return CONSOLE_KEY

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, empty for a task that stored none."""
        return str(XCom.get_value(ti_key=ti_key, key=CONSOLE_KEY) or "")


class ZillizProgressLink(BaseOperatorLink):
    """Opens the page with the import's progress, from Airflow 3.1 on."""

    name = "Import progress"

    @property
    def xcom_key(self) -> str:
        """The XCom that Airflow 3 reads the address from."""
        return PROGRESS_LINK_KEY

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, empty if no progress is stored."""
        from airflow_zilliz._progress.setting import is_shown  # here, since parsing a DAG needs none

        return progress_url_of(ti_key) if is_shown() else ""


LINKS: tuple[BaseOperatorLink, ...] = (
    (ZillizConsoleLink(), ZillizProgressLink()) if HAS_PAGES else (ZillizConsoleLink(),)
)


def store_links(ti: Any, hook: ZillizHook) -> None:
    """Store the addresses of a task's buttons in its XComs.

    :param ti: the task instance
    """
    if HAS_PAGES:
        ti.xcom_push(key=PROGRESS_LINK_KEY, value=ZillizProgressLink().get_link(None, ti_key=ti))
    try:
        url = console_url_of(hook.endpoint())
    except ZillizError:
        return  # the first request says what is wrong with the connection
    # even if empty: otherwise Airflow logs an error about the missing address, and stores an empty one itself
    ti.xcom_push(key=CONSOLE_KEY, value=url or "")


def console_url_of(endpoint: Endpoint) -> str | None:
    """Return the address of the connection's console, None for a Milvus without ``console_url``."""
    if endpoint.console_url:
        return endpoint.console_url
    if not endpoint.is_cloud:
        return None
    # addresses inside the console contain an organization's id, which no call of the import API returns
    is_in_china = (urlsplit(endpoint.base_url).hostname or "").endswith(".cn")
    return "https://cloud.zilliz.com.cn" if is_in_china else "https://cloud.zilliz.com"


def progress_url_of(task: Any) -> str:
    """Return the address of a task's progress page, without scheme and host, since the reader is in Airflow already.

    :param task: anything with the ids of a task instance
    """
    index = -1 if task.map_index is None else task.map_index
    if not HAS_TASK_VIEWS:
        ids = {"dag_id": task.dag_id, "run_id": task.run_id, "task_id": task.task_id, "map_index": index}
        return f"{ui_prefix()}{PAGES_PREFIX}/progress.html?{urlencode(ids, quote_via=quote)}"
    dag_id, run_id, task_id = (quote(name, safe="") for name in (task.dag_id, task.run_id, task.task_id))
    mapped = f"/mapped/{index}" if index >= 0 else ""
    return f"{ui_prefix()}/dags/{dag_id}/runs/{run_id}/tasks/{task_id}{mapped}/plugin/{PROGRESS_ROUTE}"


def ui_prefix() -> str:
    """Return the path that Airflow's UI is below, such as ``/airflow``, empty for none."""
    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
