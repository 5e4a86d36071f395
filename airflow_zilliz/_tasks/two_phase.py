"""Operators that commit or abort a two-phase import, and the base of all operators."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, conf

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._tasks.arguments import check_literals, normalise_arguments, seconds_of
from airflow_zilliz._tasks.base import WaitsForImport
from airflow_zilliz.exceptions import ZillizApiError, ZillizError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz.hooks import ZillizHook

DEFERRABLE = conf.getboolean("operators", "default_deferrable", fallback=False)


class ImportOperatorBase(WaitsForImport):
    """The base of the operators: a wait without a sensor's modes."""

    ui_color = "#b9d9ff"

    def __init__(
        self,
        *,
        poke_interval: timedelta | float = 30,
        timeout: timedelta | float = timedelta(days=7),
        wait_for_completion: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.poke_interval = seconds_of("poke_interval", poke_interval)
        self.timeout = seconds_of("timeout", timeout)
        self.wait_for_completion = wait_for_completion
        self.job_id: Any = None

    def _send_for_each(
        self,
        send: Callable[[ZillizHook, str], None],
        done: str,
        context: Context,
        recorded: Container[str] = (),
    ) -> None:
        """Send a request for each of many jobs; raises as `send_for_each`, and skips a task that has none.

        :param recorded: jobs for which nothing is left to do
        """
        from airflow_zilliz._tasks.many_requests import send_for_each  # here, since parsing a DAG needs no requests

        if not self.job_id:
            raise AirflowSkipException(f"job_id is an empty list: there is no job to be {done}")
        self._store_links(context)
        with self._hook() as hook:
            send_for_each([job_id for job_id in self.job_id if job_id not in recorded], partial(send, hook), done)


class ZillizCommitImportOperator(ImportOperatorBase):
    """Make the rows of an Uncommitted import visible, and wait until they are. It is safe to repeat.

    With a list of jobs, each is committed; if the server refuses some, the task first commits all others, and then
    fails with their number and the first errors. The commits follow one another, so readers may see the rows of some
    jobs earlier. An empty list skips the task.

    :param job_id: a job that was created with ``options={"auto_commit": False}``, or a list of jobs, in the shapes of
        `ZillizImportSensor` (templated)
    :param wait_for_completion: wait until the job is Completed
    :param zilliz_conn_id: and all others as for `ZillizImportSensor`
    :raises ZillizApiError: the job is in another state, or commits by itself, or the server has no two-phase imports
    :raises ZillizError: else as `ZillizImportSensor`
    """

    template_fields: Sequence[str] = ("job_id", "zilliz_conn_id", "cluster_id", "project_id", "region_id", "db_name")

    def __init__(
        self,
        *,
        job_id: str | Sequence[Any],
        wait_for_completion: bool = True,
        zilliz_conn_id: str = "zilliz_default",
        cluster_id: str | None = None,
        project_id: str | None = None,
        region_id: str | None = None,
        db_name: str | None = None,
        deferrable: bool = DEFERRABLE,
        poke_interval: timedelta | float = 30,
        timeout: timedelta | float = timedelta(days=7),
        poll_failure_tolerance: timedelta | float = timedelta(minutes=10),
        stall_warning: timedelta | float | None = timedelta(minutes=30),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            wait_for_completion=wait_for_completion,
            zilliz_conn_id=zilliz_conn_id,
            cluster_id=cluster_id,
            project_id=project_id,
            region_id=region_id,
            db_name=db_name,
            deferrable=deferrable,
            poke_interval=poke_interval,
            timeout=timeout,
            poll_failure_tolerance=poll_failure_tolerance,
            stall_warning=stall_warning,
            retry_on_failure=False,
            target_state=ImportState.COMPLETED.value,
            **kwargs,
        )
        self.job_id = job_id
        check_literals(self)

    def execute(self, context: Context) -> Any:
        """Commit the job, and wait for it."""
        normalise_arguments(self)
        if isinstance(self.job_id, list):
            wait = self._job_list(context, *self._time_span(context))
            wait.records.load(xcom=False)  # the server may have forgotten what an earlier try saw to its end
            self._send_for_each(self._commit, "committed", context, wait.records.jobs)
            if self.wait_for_completion:
                return wait.wait()
            return [{"job_id": job_id} for job_id in self.job_id]
        job_id, span = self._only_job_id(), self._time_span(context)
        self._store_links(context)
        with self._hook() as hook:
            self._commit(hook, job_id)
        self.log.info("Import job %s is committed", job_id)
        return self._job_wait(context, *span).wait() if self.wait_for_completion else {"job_id": job_id}

    def _commit(self, hook: ZillizHook, job_id: str) -> None:
        try:
            hook.commit_import(job_id, **self._ids())
        except ZillizApiError as err:
            raise _with_state(err, hook, job_id, self._ids()) from None


class ZillizAbortImportOperator(ImportOperatorBase):
    """Drop a two-phase import before it is committed. It is safe to repeat, and does nothing to a Failed job.

    :param job_id: a job that was created with ``options={"auto_commit": False}``, or a list of jobs, as for
        `ZillizCommitImportOperator` (templated)
    :param zilliz_conn_id: and the ids as for `ZillizImportSensor`
    :raises ZillizApiError: the job is committed, or commits by itself, or the server has no two-phase imports
    :raises ZillizError: as `ZillizHook.abort_import`
    """

    template_fields: Sequence[str] = ("job_id", "zilliz_conn_id", "cluster_id", "project_id", "region_id", "db_name")

    def __init__(
        self,
        *,
        job_id: str | Sequence[Any],
        zilliz_conn_id: str = "zilliz_default",
        cluster_id: str | None = None,
        project_id: str | None = None,
        region_id: str | None = None,
        db_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            zilliz_conn_id=zilliz_conn_id,
            cluster_id=cluster_id,
            project_id=project_id,
            region_id=region_id,
            db_name=db_name,
            deferrable=False,
            poll_failure_tolerance=0,
            stall_warning=None,
            retry_on_failure=False,
            target_state=ImportState.COMPLETED.value,
            **kwargs,
        )
        self.job_id = job_id
        check_literals(self)

    def execute(self, context: Context) -> Any:
        """Abort the job."""
        normalise_arguments(self)
        if isinstance(self.job_id, list):
            self._send_for_each(self._abort, "aborted", context)
            return [{"job_id": job_id} for job_id in self.job_id]
        job_id = self._only_job_id()
        self._store_links(context)
        with self._hook() as hook:
            self._abort(hook, job_id)
        return {"job_id": job_id}

    def _abort(self, hook: ZillizHook, job_id: str) -> None:
        try:
            hook.abort_import(job_id, **self._ids())
        except ZillizApiError as err:
            job = describe_if_possible(hook, job_id, self._ids())
            if job is None or job.state is not ImportState.FAILED:
                raise _with_state(err, hook, job_id, self._ids()) from None
            self.log.info("Import job %s is Failed already: %s", job_id, job.reason)
        else:
            self.log.info("Import job %s is aborted", job_id)


def describe_if_possible(hook: ZillizHook, job_id: str, ids: dict[str, Any]) -> ImportProgress | None:
    """Return the job, None if it cannot be described, which must not hide the actual error."""
    try:
        return hook.get_import_progress(job_id, **ids)
    except ZillizError:
        return None


def _with_state(err: ZillizApiError, hook: ZillizHook, job_id: str, ids: dict[str, Any]) -> ZillizApiError:
    """Return the error with the job's state in its text: servers do not always send it."""
    job = describe_if_possible(hook, job_id, ids)
    state = f"The job is {job.summary()} now" if job else "Its state cannot be read"
    err.args = (f"Import job {job_id!r} (connection {hook.zilliz_conn_id!r}): {err}. {state}",)
    return err
