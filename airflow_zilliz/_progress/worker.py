"""Writes an import's progress from its task's worker."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_zilliz._progress.setting import PROGRESS_KEY, is_shown
from airflow_zilliz._wait.list_snapshot import snapshot_of_ended
from airflow_zilliz._wait.outcome import Ending
from airflow_zilliz._wait.snapshot import Part, Snapshot
from airflow_zilliz._wait.snapshot_json import parts_of, snapshot_json
from airflow_zilliz._wait.write_pacing import WritePacing

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz._protocol.models import ImportProgress
    from airflow_zilliz._wait.outcome import Outcome
    from airflow_zilliz._wait.state_machine import Decision, ImportWait

log = logging.getLogger(__name__)


class WorkerProgress:
    """The progress of one wait during one stretch on a worker. No failure here stops the wait."""

    def __init__(self, context: Context, wait: ImportWait, *, forgot: bool = False) -> None:
        self._ti: Any = context.get("ti")
        self._snapshot = Snapshot.begin(wait.job_id, wait.started_at, wait.seen)
        #: whether an earlier process has seen the job, and so has written the XCom
        self._continues = forgot or wait.seen.at is not None
        self._pacing = WritePacing()
        self._has_failed = False

    def on_poll(self, wait: ImportWait, step: Decision) -> None:
        """Write what a poll has shown, unless it is nothing new or too soon; an end is written later."""
        if step.end is not None:
            return
        self._snapshot = self._snapshot.after(step.job, wait.seen)
        if self._pacing.is_due(self._snapshot, time.time()):
            self._write()

    def on_end(self, end: Outcome) -> None:
        """Write how the wait ended, or the latest progress of a job that continues."""
        job = end.progress or end.listed
        if job is not None:
            self._snapshot = self._snapshot.ended(job, time.time(), self._earlier_files())
        elif end.ending is Ending.JOB_FAILED:  # whose reason must not be shown
            self._snapshot = self._snapshot.failed(time.time(), self._earlier_files())
        if self._snapshot.whole.state is not None and self._pacing.due(self._snapshot, time.time()) is not None:
            self._write()

    def _earlier_files(self) -> tuple[Part, ...]:
        """Return the files that another process of this wait has seen, if this one has seen none."""
        # Airflow logs an error for reading an XCom that does not exist
        if self._snapshot.parts or self._ti is None or not self._continues:
            return ()
        try:
            kept = self._ti.xcom_pull(task_ids=self._ti.task_id, key=PROGRESS_KEY, map_indexes=self._ti.map_index)
        except Exception as err:  # noqa: BLE001 - then only the files are missing
            log.debug("XCom %s cannot be read: %s", PROGRESS_KEY, err)
            return ()
        return parts_of(kept)

    def _write(self) -> None:
        if self._ti is None:  # a user's test may pass no task instance
            return
        now = time.time()
        try:
            self._ti.xcom_push(key=PROGRESS_KEY, value=snapshot_json(self._snapshot))
        except Exception as err:  # noqa: BLE001 - whatever hides the progress must not fail the import
            self._pacing.failed(self._snapshot, now)
            if not self._has_failed:
                log.warning("The import's progress cannot be written to XCom %s: %s", PROGRESS_KEY, err)
            self._has_failed = True
        else:
            self._pacing.wrote(self._snapshot, now)


def write_jobs_progress(
    context: Context, jobs: Sequence[ImportProgress], open_ids: Sequence[str], began: float
) -> None:
    """Write the progress of many jobs. No failure here stops the wait.

    :param jobs: those that have ended
    :param open_ids: those that have not
    :param began: when the wait began, epoch seconds
    """
    ti: Any = context.get("ti")
    if ti is None or not is_shown():
        return
    snapshot = snapshot_of_ended(jobs, open_ids, began, time.time())
    try:
        ti.xcom_push(key=PROGRESS_KEY, value=snapshot_json(snapshot))
    except Exception as err:  # noqa: BLE001 - whatever hides the progress must not fail the wait
        log.warning("The progress of the imports cannot be written to XCom %s: %s", PROGRESS_KEY, err)


def worker_progress(context: Context, wait: ImportWait, *, forgot: bool) -> WorkerProgress | None:
    """Return the progress of a wait, None if it is switched off.

    :param forgot: whether an earlier process may have seen the job although the wait does not know it
    """
    return WorkerProgress(context, wait, forgot=forgot) if is_shown() else None
