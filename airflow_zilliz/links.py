"""The buttons of a task: one leads to the console, one to the page that shows how far the import is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom, conf

if TYPE_CHECKING:
    from airflow_zilliz._transport.endpoint import Endpoint

CONSOLE_KEY = "zilliz_console"
PROGRESS_LINK_KEY = "zilliz_progress_link"
#: Below Airflow's own address: where the pages are, and how Airflow 3.2 and later call the one inside a task's page.
PAGES_PREFIX = "/zilliz"
PROGRESS_ROUTE = "zilliz-import-progress"

_RELEASE = tuple(int(number) for number in airflow_version.split(".")[:2])
#: The REST API of earlier ones does not take a browser's session.
HAS_PAGES = _RELEASE >= (3, 1)
#: Earlier ones have no place for a view inside a task's page, but as a tab of every task.
HAS_TASK_VIEWS = _RELEASE >= (3, 2)


class ZillizConsoleLink(BaseOperatorLink):
    """Leads to the connection's ``console_url``, or to Zilliz Cloud's console. The task stores the address first."""

    name = "Zilliz console"

    @property
    def xcom_key(self) -> str:
        """The XCom that Airflow 3 reads the address from."""
        return CONSOLE_KEY

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, empty for a task that stored none."""
        return str(XCom.get_value(ti_key=ti_key, key=CONSOLE_KEY) or "")


class ZillizProgressLink(BaseOperatorLink):
    """Leads to the page that shows the import's progress, from Airflow 3.1 on."""

    name = "Import progress"

    @property
    def xcom_key(self) -> str:
        """The XCom that Airflow 3 reads the address from."""
        return PROGRESS_LINK_KEY

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, empty where no progress is kept."""
        from airflow_zilliz._progress.setting import is_shown  # here, since parsing a DAG needs none

        return progress_url_of(ti_key) if is_shown() else ""


LINKS: tuple[BaseOperatorLink, ...] = (
    (ZillizConsoleLink(), ZillizProgressLink()) if HAS_PAGES else (ZillizConsoleLink(),)
)


def console_url_of(endpoint: Endpoint) -> str | None:
    """Return where a person looks at the connection's jobs, None for a Milvus whose connection does not say."""
    if endpoint.console_url:
        return endpoint.console_url
    if not endpoint.is_cloud:
        return None
    # the addresses inside hold an organization's id, which no call of the import API tells
    is_in_china = (urlsplit(endpoint.base_url).hostname or "").endswith(".cn")
    return "https://cloud.zilliz.com.cn" if is_in_china else "https://cloud.zilliz.com"


def progress_url_of(task: Any) -> str:
    """Return the address of a task's progress page, without scheme and host: whoever reads it is there already.

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
