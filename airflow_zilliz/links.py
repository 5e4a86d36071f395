"""The button that leads from a task to the console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow_zilliz._transport.endpoint import Endpoint

CONSOLE_KEY = "zilliz_console"


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


def console_url_of(endpoint: Endpoint) -> str | None:
    """Return the address of the connection's console, None for a Milvus without ``console_url``."""
    if endpoint.console_url:
        return endpoint.console_url
    if not endpoint.is_cloud:
        return None
    # addresses inside the console contain an organization's id, which no call of the import API returns
    is_in_china = (urlsplit(endpoint.base_url).hostname or "").endswith(".cn")
    return "https://cloud.zilliz.com.cn" if is_in_china else "https://cloud.zilliz.com"
