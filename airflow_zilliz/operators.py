"""The operators: the one that starts an import is here, the others come from `_tasks`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, BaseOperator

from airflow_zilliz._protocol.import_request import Groups, commits_by_itself
from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz._submit.record import PATIENCE
from airflow_zilliz._submit.returned_job import Origin, check_key
from airflow_zilliz._submit.storage_keys import NO_STORAGE, StorageKeys
from airflow_zilliz._submit.submit_once import Submitted
from airflow_zilliz._submit.values import Submission, forgotten
from airflow_zilliz._tasks.arguments import check_literals, normalise_arguments
from airflow_zilliz._tasks.dataset import ZillizImportDatasetOperator
from airflow_zilliz._tasks.importing import SETTLING_SECONDS, StartsImports, names_of
from airflow_zilliz._tasks.room_pause import pause, room_pause
from airflow_zilliz._tasks.task_state import ImportMemory
from airflow_zilliz._tasks.two_phase import (
    DEFERRABLE,
    ZillizAbortImportOperator,
    ZillizCommitImportOperator,
)
from airflow_zilliz._wait.outcome import Ending, Outcome, without_description
from airflow_zilliz.exceptions import (
    ZillizError,
    ZillizImportFailed,
    ZillizJobNotFound,
    ZillizTooManyJobs,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz.triggers import ZillizImportTrigger

__all__ = [
    "ZillizAbortImportOperator",
    "ZillizCommitImportOperator",
    "ZillizImportDatasetOperator",
    "ZillizImportOperator",
]

JOB_ID_KEY = "job_id"


class ZillizImportOperator(StartsImports):
    """Start a bulk import into a collection, once for all retries of the task, and wait for it.

    The job's id is in XCom ``job_id`` as soon as it is known. ``return_value`` is that of `ZillizImportSensor`, or
    ``{"job_id", "collection_name"}`` without a wait. Exactly one kind of source must be given; each is a list of lists,
    an inner list being one file or the set of one group's NumPy files.

    :param collection_name: the collection (templated)
    :param files: paths in Milvus's own object storage (templated)
    :param object_urls: URLs in an object storage that Zilliz Cloud can read (templated)
    :param volume_name: a Zilliz Cloud volume, with ``data_paths`` (both templated)
    :param partition_name: the partition; None for the default one (templated)
    :param options: such as ``{"auto_commit": False, "timeout": "300s"}``; values are sent as text (templated)
    :param storage_conn_id: Airflow connection of type aws, google or generic with the object storage's keys: login is
        the access key, password the secret key, extra ``session_token`` or ``aws_session_token`` a short-lived one's
    :param wait_for_completion: wait for the job; if false, the task ends when the job is started
    :param timeout: how long to wait, seconds or timedelta
    :param idempotency_key: a key of your own; None derives one from dag id, run id, task id, map index and what is
        imported, so that a retry and a cleared task find their first job (templated)
    :param cancel_on_kill: abort a two-phase import (``auto_commit`` false) when its task is killed or cleared, or
        exceeds its ``execution_timeout`` on a worker; from Airflow 3.3 on also when it is killed or cleared while it
        is deferred. A retry then starts another. No known server can stop an ordinary import; the log says so
    :param zilliz_conn_id: and all others as for `ZillizImportSensor`
    :raises ZillizSubmissionUnknown: it is not known whether the import was started; not retried
    :raises ZillizConfigError: before anything is sent
    :raises ZillizError: else as `ZillizImportSensor`
    """

    def __init__(
        self,
        *,
        collection_name: str,
        files: Groups | None = None,
        object_urls: Groups | None = None,
        volume_name: str | None = None,
        data_paths: Groups | None = None,
        partition_name: str | None = None,
        options: Mapping[str, Any] | None = None,
        storage_conn_id: str | None = None,
        idempotency_key: str | None = None,
        cancel_on_kill: bool = False,
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
        retry_on_failure: bool = False,
        target_state: str = ImportState.COMPLETED.value,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            collection_name=collection_name,
            files=files,
            object_urls=object_urls,
            volume_name=volume_name,
            data_paths=data_paths,
            partition_name=partition_name,
            options=options,
            storage_conn_id=storage_conn_id,
            idempotency_key=idempotency_key,
            cancel_on_kill=cancel_on_kill,
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
            retry_on_failure=retry_on_failure,
            target_state=target_state,
            **kwargs,
        )
        check_literals(self)
        self._check_source()

    def execute(self, context: Context) -> Any:
        """Start the import, or find the one that an earlier try started, and wait for it."""
        if self.cancel_on_kill and context["ti"].try_number > 1:
            time.sleep(SETTLING_SECONDS)  # a triggerer may be aborting the job of a task that was cleared
        return self._start(context, time.time() + self.timeout)

    def execute_again(self, context: Context, event: Any = None, *, submit_by: float | None = None, **_: Any) -> Any:
        """Send the import again after the server had too many jobs and the task released its worker."""
        return self._start(context, submit_by if submit_by is not None else time.time() + self.timeout)

    def execute_complete(self, context: Context, event: Any = None, **span: Any) -> Any:
        """Resume after the trigger; for a user's own key, the job's files are still to be compared."""
        return super().execute_complete(context, without_description(event) if self.idempotency_key else event, **span)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral, with the job that the task started."""
        normalise_arguments(self)
        resume = super().resume_execution
        if next_method == "execute_again":
            return resume(next_method, next_kwargs, context)
        ti = context["ti"]
        self.job_id = ti.xcom_pull(task_ids=ti.task_id, key=JOB_ID_KEY, map_indexes=ti.map_index)
        if self.job_id is None:  # something else ended the pause after "too many jobs": nothing was started
            return BaseOperator.resume_execution(self, next_method, next_kwargs, context)
        return self._ended(context, lambda: resume(next_method, next_kwargs, context))

    def _start(self, context: Context, submit_by: float) -> Any:
        normalise_arguments(self)
        memory = ImportMemory(context, self)
        submitted = self._submit(memory, context, submit_by)
        self.job_id = submitted.job_id
        context["ti"].xcom_push(key=JOB_ID_KEY, value=self.job_id)
        if submitted.origin is Origin.REMEMBERED:
            return self._remembered(submitted, context)
        if not self.wait_for_completion:
            return {"job_id": self.job_id, "collection_name": self.collection_name}
        return self._ended(context, lambda: self._job_wait(context, *self._time_span(context)).wait())

    def _ended(self, context: Context, wait: Callable[[], Any]) -> Any:
        """Record how the wait ended. Nothing is deleted, since the task may yet fail, be retried or be cleared."""
        try:
            result = wait()
        except ZillizImportFailed as failure:
            # servers before 2026 turn some jobs from Completed to Failed: these loaded their rows
            if failure.progress.complete_time is None:
                ImportMemory(context, self).failed(str(self.job_id))
            raise
        except ZillizJobNotFound as err:
            ImportMemory(context, self).given_up(str(self.job_id))
            raise forgotten(self.collection_name, str(self.job_id)) from err
        if isinstance(result, dict) and result.get("state") == ImportState.COMPLETED.value:
            ImportMemory(context, self).completed(str(self.job_id), result)
        return result

    def _remembered(self, submitted: Submitted, context: Context) -> dict[str, Any]:
        """Return the recorded result of a job that was Completed once, although the server no longer shows that."""
        result = dict(submitted.record.result or {})
        self.log.warning(
            "Import job %s was Completed in an earlier try of this task, and the server no longer shows it as such: "
            "nothing is imported again. To import the same files again, set another idempotency_key",
            submitted.job_id,
        )
        from airflow_zilliz._wait.job_results import job_of_result  # here, since parsing a DAG needs no results

        job = job_of_result({**result, "job_id": submitted.job_id, "collection_name": self.collection_name})
        if job is not None:
            self._add_outlet_extra(job.event(), context)
        return result

    def on_kill(self) -> None:
        """Abort the job of a task that is killed on its worker, if that is requested and possible."""
        if not self.cancel_on_kill or not self.wait_for_completion:
            return
        if self.job_id is None:
            self.log.warning("Killed before the import's job id was known: a retry finds out whether there is a job")
        elif commits_by_itself(self.options):
            self.log.warning(
                "Import job %s continues: no server can stop an import that commits by itself", self.job_id
            )
        else:
            self._abort_in_time([str(self.job_id)])

    def _trigger_class(self) -> type[ZillizImportTrigger]:
        from airflow_zilliz.triggers import ZillizImportTrigger, ZillizOwnedImportTrigger

        if not self.cancel_on_kill:
            return ZillizImportTrigger
        if commits_by_itself(self.options):
            self.log.info("cancel_on_kill has no effect: import job %s commits by itself", self.job_id)
            return ZillizImportTrigger
        if not hasattr(ZillizImportTrigger, "on_kill"):
            self.log.info(
                "cancel_on_kill has no effect while the task is deferred: before Airflow 3.3, no kill reaches triggers"
            )
            return ZillizImportTrigger
        return ZillizOwnedImportTrigger

    def _finish(self, end: Outcome, context: Context) -> dict[str, Any] | None:
        """Compare the job's files again: for a user's own key, the server may have returned another import's job."""
        job = end.progress
        if self.idempotency_key and job is not None and end.ending is Ending.REACHED:
            check_key(self._submission(), job)
        return super()._finish(end, context)

    def _submit(self, memory: ImportMemory, context: Context, submit_by: float) -> Submitted:
        storage = self._storage_keys()
        with self._hook() as hook:
            submission = self._submission(context, storage)
            self._store_links(context)
            while True:
                try:
                    submitted = hook.submit(submission, memory.this_try(), memory.write)
                except ZillizTooManyJobs as err:
                    self._wait_for_room(err, submit_by)
                except ZillizError as err:
                    from airflow_zilliz._tasks.errors import name_import  # here, since parsing a DAG needs no errors

                    name_import(err, self.collection_name, self.zilliz_conn_id)
                    raise
                else:
                    break
        self._log_origin(submitted)
        return submitted

    def _wait_for_room(self, err: ZillizTooManyJobs, submit_by: float) -> None:
        """Pause before the import is sent again, without a worker if the task is deferrable.

        :raises AirflowSensorTimeout: the task's ``timeout`` is over
        """
        left = submit_by - time.time()
        if left <= 0:
            raise AirflowSensorTimeout(
                f"The import into collection {self.collection_name!r} was not started within {self.timeout:g} s: {err}"
            )
        seconds = room_pause(self.poke_interval, left)
        self.log.info("The server runs as many jobs as it may; nothing was started. Retrying in %.0f s", seconds)
        pause(self, seconds, {"submit_by": submit_by})

    def _log_origin(self, submitted: Submitted) -> None:
        where = (submitted.job_id, self.collection_name)
        if submitted.origin is Origin.STARTED:
            self.log.info("Import job %s into collection %r was started", *where)
        elif submitted.origin is Origin.RESUMED:
            self.log.info(
                "An earlier try of this task started import job %s into collection %r: continuing with it", *where
            )
        elif submitted.origin is not Origin.REMEMBERED:
            self.log.warning(
                "The server has this import already, as job %s of collection %r: an earlier try started it, so nothing "
                "was sent twice. To import the same files again, set another idempotency_key or trigger another run",
                *where,
            )

    def _submission(self, context: Context | None = None, storage: StorageKeys = NO_STORAGE) -> Submission:
        """Return the import to start.

        :param context: None where no request will be made
        """
        names = names_of(context["ti"]) if context is not None else ()
        return self._submission_of(self._sources(), names, storage, PATIENCE)
