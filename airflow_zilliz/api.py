"""The values in the hook's results and in errors: a job, its files, and its state."""

from __future__ import annotations

from airflow_zilliz._protocol.models import FileProgress, ImportProgress, ImportState
from airflow_zilliz._protocol.target import Target

__all__ = ["FileProgress", "ImportProgress", "ImportState", "Target"]
