"""The ledger of a dataset's import in one process of its task, and its stored copy."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from airflow_zilliz._protocol.scrubbing import Scrubber
from airflow_zilliz._submit.ledger import Entry, Ledger, Phase
from airflow_zilliz._submit.record import Record
from airflow_zilliz._tasks.dataset_account import account
from airflow_zilliz._tasks.dataset_store import LedgerStore
from airflow_zilliz._tasks.job_list import Span, WaitingTask
from airflow_zilliz._wait.list_memory import NO_MEMORY, Memory
from airflow_zilliz.exceptions import ZillizUnavailable

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz._submit.record import Patience
    from airflow_zilliz._submit.values import Submission
    from airflow_zilliz._tasks.dataset_plan import DatasetPlan

#: The seconds between two lines of progress.
LINE_EVERY = 60.0


class DatasetTask(WaitingTask, Protocol):
    """What the parts of a dataset's import need of the operator."""

    collection_name: str
    storage_conn_id: str | None
    max_active_jobs: int
    timeout: float
    options: Mapping[str, Any] | None

    def _storage_secrets(self) -> tuple[str, ...]: ...

    def _submission_of_job(self, sources: Mapping[str, Any], context: Context, patience: Patience) -> Submission: ...

    def _jobs_to_abort(self) -> list[str]: ...

    def _leave_account(self, ledger: Ledger, context: Context) -> None: ...


class DatasetState:
    """What the parts of a dataset's import share.

    :param plan: how the files are split
    :param store: stores the ledger
    :param ledger: the ledger for this try, which is stored already
    """

    def __init__(
        self, task: DatasetTask, context: Context, plan: DatasetPlan, store: LedgerStore, ledger: Ledger, span: Span
    ) -> None:
        self.task = task
        self.context = context
        self.plan = plan
        self.store = store
        self.ledger = ledger
        self.span = span
        self.memory: Memory = NO_MEMORY
        self.logged: tuple[str, float] = ("", 0.0)
        self._try_number: int = context["ti"].try_number
        self._line_at = -LINE_EVERY

    def remember(self, index: int, record: Record) -> None:
        """Store the record of the safe submit for a job.

        :raises ZillizUnavailable: a record that a retry needs before a request is sent cannot be stored
        """
        self.ledger = self.ledger.with_entry(index, replace(self.ledger.entries[index], record=record))
        self._save(index, must=record.sending)

    def put(self, index: int, **changes: Any) -> None:
        """Store what this try has found out about a job."""
        entry: Entry = replace(self.ledger.entries[index], try_number=self._try_number, **changes)
        self.ledger = self.ledger.with_entry(index, entry)
        self._save(index, must=False)

    def _save(self, index: int, *, must: bool) -> None:
        try:
            self.store.save_entry(self.ledger, index)
        except ZillizUnavailable as err:
            if must:
                raise
            # a retry finds the job by the record from before
            self.task.log.warning("%s", err)

    def enter(self, phase: Phase) -> None:
        """Store a phase.

        :raises ZillizUnavailable: it cannot be written
        """
        self.ledger = replace(self.ledger, phase=phase)
        self.store.save_phase(self.ledger)

    def ids(self, indices: Sequence[int]) -> list[str]:
        """Return the ids of jobs."""
        return [str(self.ledger.entries[index].job_id) for index in indices]

    def failure(self, error: BaseException) -> BaseException:
        """Return an error with the account of all files in its text."""
        text = f"{error}. {account(self.ledger)}"
        error.args = (Scrubber(self.task._storage_secrets())(text), *error.args[1:])
        self.task._leave_account(self.ledger, self.context)
        return error

    def log_progress(self) -> None:
        """Log how far the import is, at most once a minute."""
        now = time.monotonic()
        if now - self._line_at >= LINE_EVERY:
            self._line_at = now
            since = time.time() - self.span.started_at
            self.task.log.info("%s", account(self.ledger, since, self._try_number))
