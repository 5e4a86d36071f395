"""What one try of an import task leaves for the next."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_zilliz.submission import Earlier

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_MEMORY_KEY = "zilliz_import"
#: More ids than this are not worth their room in Airflow's database.
_MAX_KNOWN_IDS = 2000

log = logging.getLogger(__name__)


class ImportMemory:
    """What a try leaves for the next one: Airflow 3.3's task state store; before it, that there was a try at all.

    :param key: the task's idempotency key; under another one nothing is remembered
    """

    def __init__(self, context: Context, key: str) -> None:
        self._key = key
        self._store: Any = context.get("task_state_store")
        self._ti = context["ti"]
        self._not_before = _not_before(context)
        self._record: Mapping[str, Any] | None = None
        self._readable = self._store is not None
        try:
            kept = self._store.get(_MEMORY_KEY) if self._store is not None else None
            self._record = kept if isinstance(kept, Mapping) and kept.get("key") == key else None
        except Exception as err:  # noqa: BLE001 - any failure of a store leaves what is known without it
            self._readable = False
            log.warning("The task state store cannot be read: %s", err)

    @property
    def job_id(self) -> str | None:
        """The job that an earlier try started."""
        job_id = self._record.get("job_id") if self._record else None
        return str(job_id) if job_id else None

    @property
    def earlier(self) -> Earlier:
        """What is known of earlier tries."""
        if not self._readable:
            return Earlier(may_have_sent=self._ti.try_number > 1, not_before=self._not_before)
        if not self._record or not self._record.get("sending"):
            return Earlier()
        known = self._record.get("known")
        ids = frozenset(map(str, known)) if isinstance(known, list) else None
        return Earlier(may_have_sent=True, known=ids, not_before=self._not_before)

    def sending(self, known: frozenset[str] | None) -> None:
        """Write down that a request goes out now."""
        if self._record and self._record.get("sending") and self._record.get("known") is not None:
            known = frozenset(self._record["known"])  # what was there before the first of them
        kept = sorted(known) if known is not None and len(known) <= _MAX_KNOWN_IDS else None
        self._write({"key": self._key, "sending": True, "known": kept})

    def started(self, job_id: str) -> None:
        """Write down which job it is."""
        self._write({"key": self._key, "job_id": job_id})

    def forget(self) -> None:
        """Leave nothing for the next try."""
        if self._record:
            self._write({})

    def _write(self, record: dict[str, Any]) -> None:
        self._record = record
        if self._store is not None:
            self._store.set(_MEMORY_KEY, record)


def _not_before(context: Context) -> float | None:
    """Return when the run was due: no try of it can have begun earlier, also if it was cleared since."""
    run: Any = context.get("dag_run")
    for name in ("run_after", "data_interval_end", "logical_date"):
        if isinstance(moment := getattr(run, name, None), datetime):
            return moment.timestamp()
    return None
