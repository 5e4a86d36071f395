"""Operators that commit or abort an import of two phases, and what all of our operators share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._tasks.arguments import check_literals
from airflow_zilliz._tasks.base import WaitsForImport, seconds_of
from airflow_zilliz.exceptions import ZillizApiError, ZillizError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz.hooks import ZillizHook

DEFERRABLE = conf.getboolean("operators", "default_deferrable", fallback=False)


class ImportOperatorBase(WaitsForImport):
    """What the operators share: a wait without the ways of a sensor."""

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


class ZillizCommitImportOperator(ImportOperatorBase):
    """Make the rows of an Uncommitted import visible, and wait until they are. It is safe to repeat.

    :param job_id: a job that was created with ``options={"auto_commit": False}`` (templated)
    :param wait_for_completion: wait until the job is Completed
    :param zilliz_conn_id: and all others as for `ZillizImportSensor`
    :raises ZillizApiError: the job is in another state, or commits by itself, or the server has no two-phase imports
    :raises ZillizError: else as `ZillizImportSensor`
    """

    template_fields: Sequence[str] = ("job_id", "zilliz_conn_id", "cluster_id", "project_id", "region_id", "db_name")

    def __init__(
        self,
        *,
        job_id: str,
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
        wait = self._begin(*self._time_span(context))
        self._store_links(context)
        with self._hook() as hook:
            try:
                hook.commit_import(wait.job_id, **self._ids())
            except ZillizApiError as err:
                raise _with_state(err, hook, wait.job_id, self._ids()) from None
        self.log.info("Import job %s is committed", wait.job_id)
        return self._wait(wait, context) if self.wait_for_completion else {"job_id": wait.job_id}


class ZillizAbortImportOperator(ImportOperatorBase):
    """Drop an import of two phases before it is committed. It is safe to repeat, and does nothing to a Failed job.

    :param job_id: a job that was created with ``options={"auto_commit": False}`` (templated)
    :param zilliz_conn_id: and the ids as for `ZillizImportSensor`
    :raises ZillizApiError: the job is committed, or commits by itself, or the server has no two-phase imports
    :raises ZillizError: as `ZillizHook.abort_import`
    """

    template_fields: Sequence[str] = ("job_id", "zilliz_conn_id", "cluster_id", "project_id", "region_id", "db_name")

    def __init__(
        self,
        *,
        job_id: str,
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
        job_id = self._begin(*self._time_span(context)).job_id
        self._store_links(context)
        with self._hook() as hook:
            try:
                hook.abort_import(job_id, **self._ids())
            except ZillizApiError as err:
                job = look(hook, job_id, self._ids())
                if job is None or job.state is not ImportState.FAILED:
                    raise _with_state(err, hook, job_id, self._ids()) from None
                self.log.info("Import job %s is Failed already: %s", job_id, job.reason)
            else:
                self.log.info("Import job %s is aborted", job_id)
        return {"job_id": job_id}


def look(hook: ZillizHook, job_id: str, ids: dict[str, Any]) -> ImportProgress | None:
    """Return a job as far as it can be had, None where it cannot: what it is asked for matters more."""
    try:
        return hook.get_import_progress(job_id, **ids)
    except ZillizError:
        return None


def _with_state(err: ZillizApiError, hook: ZillizHook, job_id: str, ids: dict[str, Any]) -> ZillizApiError:
    """Return the error with the job's state in its text: servers do not always tell it."""
    job = look(hook, job_id, ids)
    err.args = (f"Import job {job_id!r}: {err}. The job is {job.summary() if job else 'unknown'} now",)
    return err
