"""The values that the hook returns and that errors contain: a job, its files, and its state."""

from __future__ import annotations

from airflow_zilliz._protocol.models import FileProgress, ImportProgress, ImportState
from airflow_zilliz._protocol.target import Target

__all__ = ["FileProgress", "ImportProgress", "ImportState", "Target"]
