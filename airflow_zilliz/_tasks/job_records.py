"""Where a task that waits for many jobs records ended ones: an XCom, and Airflow 3.3's task state store."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._tasks.task_state import StateStore
from airflow_zilliz._wait.job_results import job_of_result, pack_jobs, result_of, unpack_jobs
from airflow_zilliz._wait.list_memory import NO_MEMORY, Memory

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

RESULTS_KEY = "results"
_STORE_KEY = "zilliz_results"
_MEMORY_KEY = "zilliz_list_wait"
#: Jobs for each value of the store, whose advised size is 64 KB.
_PIECE = 500

log = logging.getLogger(__name__)


class JobRecords:
    """The jobs that have ended, by their ids.

    XCom ``results`` has them in the form of the task's result, on every Airflow; a new try begins without it, and so
    does each poll of a rescheduled sensor. The store outlives both.

    :param job_ids: the jobs of the wait; records of other jobs are not its own
    :param target_state: the state that the wait is for
    """

    def __init__(self, context: Context, job_ids: Sequence[str], target_state: ImportState) -> None:
        self._ti: Any = context.get("ti")
        self._store = StateStore(context)
        self._job_ids = job_ids
        self._known = frozenset(job_ids)
        self._target_state = target_state
        self._stored = 0
        self._in_xcom = -1
        #: in the order in which they ended
        self.jobs: dict[str, ImportProgress] = {}

    @property
    def outlives_a_process(self) -> bool:
        """Whether there is a store."""
        return self._store.exists

    @property
    def open_ids(self) -> list[str]:
        """The jobs that are not recorded."""
        return [job_id for job_id in self._job_ids if job_id not in self.jobs]

    def in_order(self) -> list[ImportProgress]:
        """Return the jobs that have ended, in the order of the ids."""
        return [self.jobs[job_id] for job_id in self._job_ids if job_id in self.jobs]

    def load(self, *, xcom: bool) -> None:
        """Read the records.

        :param xcom: whether this try continues, so that its XCom exists
        """
        self.take(self._from_store(), "the task state store")
        self._stored = len(self.jobs)
        if xcom:
            self.take(self._from_xcom(), "XCom 'results'")

    def take(self, jobs: Iterable[ImportProgress], source: str) -> None:
        """Add ended jobs, except those that are not of this wait or have not ended for this task."""
        strange = 0
        for job in jobs:
            if job.job_id in self._known and self._has_ended(job):
                self.jobs.setdefault(job.job_id, job)
            else:
                strange += 1
        if strange:
            log.warning("%s names %d jobs that this task does not wait for: they are left out", source, strange)

    def save(self) -> None:
        """Record the ended jobs.

        :raises Exception: Airflow's own if the XCom cannot be written; the task is then retried
        """
        self._to_store()
        if self._ti is not None and self._in_xcom != len(self.jobs):
            self._in_xcom = len(self.jobs)
            self._ti.xcom_push(key=RESULTS_KEY, value=[result_of(job) for job in self.in_order()])

    def load_memory(self) -> tuple[Memory, tuple[str, float]]:
        """Return what an earlier poll of this try remembered of the open jobs, and its last line of progress."""
        kept = self._store.get(_MEMORY_KEY)
        if not isinstance(kept, Mapping) or kept.get("try_number") != getattr(self._ti, "try_number", None):
            return NO_MEMORY, ("", 0.0)
        line, due = kept.get("line"), kept.get("line_due")
        logged = (line, float(due)) if isinstance(line, str) and isinstance(due, (int, float)) else ("", 0.0)
        return Memory.unpacked(kept.get("memory")), logged

    def save_memory(self, memory: Memory, logged: tuple[str, float]) -> bool:
        """Return whether the memory is kept for the next poll."""
        number = getattr(self._ti, "try_number", None)
        value = {"try_number": number, "memory": memory.packed(), "line": logged[0], "line_due": logged[1]}
        return self._store.set(_MEMORY_KEY, value)

    # -- internals ------------------------------------------------------------------------------------------------

    def _has_ended(self, job: ImportProgress) -> bool:
        return job.state.is_final or self._target_state is ImportState.UNCOMMITTED

    def _from_xcom(self) -> list[ImportProgress]:
        ti = self._ti
        results = ti.xcom_pull(task_ids=ti.task_id, key=RESULTS_KEY, map_indexes=ti.map_index)
        if results is None:
            return []
        found = [job_of_result(result) for result in results] if isinstance(results, (list, tuple)) else [None]
        jobs = [job for job in found if job is not None]
        if len(jobs) < len(found):
            log.warning("XCom 'results' was changed and cannot be read: what it lacks is polled again")
        return jobs

    def _from_store(self) -> list[ImportProgress]:
        jobs: list[ImportProgress] = []
        while piece := unpack_jobs(self._store.get(f"{_STORE_KEY}_{len(jobs) // _PIECE}")):
            jobs.extend(piece)
            if len(piece) < _PIECE:
                break
        return jobs

    def _to_store(self) -> None:
        if self._stored == len(self.jobs):
            return
        jobs = list(self.jobs.values())
        for begin in range(self._stored // _PIECE * _PIECE, len(jobs), _PIECE):
            if not self._store.set(f"{_STORE_KEY}_{begin // _PIECE}", pack_jobs(jobs[begin : begin + _PIECE])):
                return
        self._stored = len(jobs)
