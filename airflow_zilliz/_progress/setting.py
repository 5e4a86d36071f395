"""The XCom of an import's progress, and the setting that switches it off."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import conf

PROGRESS_KEY = "zilliz_progress"


def is_shown() -> bool:
    """Whether progress is written: ``[zilliz] progress_xcom``, true unless set."""
    return bool(conf.getboolean("zilliz", "progress_xcom", fallback=True))
