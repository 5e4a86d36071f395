"""The operators: the one that starts an import, and, from `two_phase`, those that commit or abort one."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, BaseHook, BaseOperator

from airflow_zilliz._protocol.import_request import Groups, commits_by_itself, create_request, digest_of
from airflow_zilliz._protocol.job_parsing import parse_job
from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz._protocol.request import Request
from airflow_zilliz._protocol.scrubbing import Scrubber
from airflow_zilliz._submit.idempotency_keys import former_key_of, key_of
from airflow_zilliz._submit.record import PATIENCE
from airflow_zilliz._submit.returned_job import Origin, check_key
from airflow_zilliz._submit.storage_keys import NO_STORAGE, StorageKeys, keys_of
from airflow_zilliz._submit.submit_once import Submitted
from airflow_zilliz._submit.values import Submission, forgotten
from airflow_zilliz._tasks.arguments import check_literals, normalise_arguments
from airflow_zilliz._tasks.base import BACKSTOP_MARGIN
from airflow_zilliz._tasks.masking import mask_signed_urls
from airflow_zilliz._tasks.task_state import ImportMemory
from airflow_zilliz._tasks.two_phase import (
    DEFERRABLE,
    ImportOperatorBase,
    ZillizAbortImportOperator,
    ZillizCommitImportOperator,
)
from airflow_zilliz._wait.outcome import Outcome
from airflow_zilliz.exceptions import (
    ZillizError,
    ZillizImportFailed,
    ZillizJobNotFound,
    ZillizTooManyJobs,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz.hooks import ZillizHook
    from airflow_zilliz.triggers import ZillizImportTrigger

__all__ = ["ZillizAbortImportOperator", "ZillizCommitImportOperator", "ZillizImportOperator"]

JOB_ID_KEY = "job_id"
#: How long a killed task waits until its job is aborted; Airflow kills it with -9 after 60 s.
ABORT_SECONDS = 25.0
#: The shortest mean pause before an import is sent again after "too many jobs".
MIN_ROOM_PAUSE = 10.0
#: How long the next try leaves a triggerer for that.
SETTLING_SECONDS = 10.0


class ZillizImportOperator(ImportOperatorBase):
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
    :param idempotency_key: a key of your own; None makes one of dag id, run id, task id and map index, so that a retry
        and a cleared task get the first job back (templated)
    :param cancel_on_kill: abort a two-phase import (``auto_commit`` false) when its task is killed or cleared: while it
        runs on a worker, there also by ``execution_timeout``, and from Airflow 3.3 on while it is deferred. A retry
        then starts another. An ordinary import cannot be stopped on any known server, and the log says so
    :param zilliz_conn_id: and all others as for `ZillizImportSensor`
    :raises ZillizSubmissionUnknown: it is not known whether the import was started; not retried
    :raises ZillizConfigError: before anything is sent
    :raises ZillizError: else as `ZillizImportSensor`
    """

    template_fields: Sequence[str] = (
        "collection_name",
        "files",
        "object_urls",
        "volume_name",
        "data_paths",
        "partition_name",
        "options",
        "idempotency_key",
        "storage_conn_id",
        "zilliz_conn_id",
        "cluster_id",
        "project_id",
        "region_id",
        "db_name",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "files": "json",
        "object_urls": "json",
        "data_paths": "json",
        "options": "json",
    }

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
        self.collection_name = collection_name
        self.files = files
        self.object_urls = object_urls
        self.volume_name = volume_name
        self.data_paths = data_paths
        self.partition_name = partition_name
        self.options = options
        self.storage_conn_id = storage_conn_id
        self.idempotency_key = idempotency_key
        self.cancel_on_kill = cancel_on_kill
        self._storage: StorageKeys | None = None
        check_literals(self)
        self._check_source()

    def execute(self, context: Context) -> Any:
        """Start the import, or find the one that an earlier try started, and wait for it."""
        if self.cancel_on_kill and context["ti"].try_number > 1:
            time.sleep(SETTLING_SECONDS)  # a triggerer may be aborting the job of a task that was cleared
        return self._start(context, time.time() + self.timeout)

    def execute_again(self, context: Context, event: Any = None, *, submit_by: float | None = None, **_: Any) -> Any:
        """Send the import again after the server had too many jobs and the task gave its worker up."""
        return self._start(context, submit_by if submit_by is not None else time.time() + self.timeout)

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
        return self._ended(context, lambda: self._wait(self._begin(*self._time_span(context)), context))

    def _ended(self, context: Context, wait: Callable[[], Any]) -> Any:
        """Record how the wait ended. Nothing is deleted: the task may fail after this, be retried or cleared."""
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
        """Return the recorded result of a job that was seen Completed and that the server no longer shows so."""
        result = dict(submitted.record.result or {})
        self.log.warning(
            "Import job %s was Completed in an earlier try of this task, and the server no longer shows it as such: "
            "nothing is imported again. To import the same files again, set another idempotency_key",
            submitted.job_id,
        )
        job = parse_job({**result, "jobId": submitted.job_id, "collectionName": self.collection_name, **_wire(result)})
        if job is not None:
            self._tell_outlets(job.event(), context)
        return result

    def on_kill(self) -> None:
        """Abort the job of a task that is killed on its worker, if that is requested and possible."""
        if not self.cancel_on_kill or not self.wait_for_completion:
            return
        if self.job_id is None:
            self.log.warning("Killed before the import's job id was known: a retry finds out whether there is a job")
        elif commits_by_itself(self.options):
            self.log.warning("Import job %s continues: no server can stop one that commits by itself", self.job_id)
        else:
            # in a thread, since the signal may have interrupted a request of this one
            aborting = threading.Thread(target=self._abort, args=(str(self.job_id),), daemon=True)
            aborting.start()
            aborting.join(ABORT_SECONDS)

    def _abort(self, job_id: str) -> None:
        try:
            with self._hook() as hook:
                hook.abort_import(job_id, **self._ids())
        except ZillizError as err:
            self.log.warning("The task was killed, but import job %s could not be aborted: %s", job_id, err)
        else:
            self.log.info("Import job %s was aborted, since its task was killed", job_id)

    def _trigger_class(self) -> type[ZillizImportTrigger]:
        from airflow_zilliz.triggers import ZillizImportTrigger, ZillizOwnedImportTrigger

        if not self.cancel_on_kill:
            return ZillizImportTrigger
        if commits_by_itself(self.options):
            self.log.info("cancel_on_kill can do nothing: import job %s commits by itself", self.job_id)
            return ZillizImportTrigger
        if not hasattr(ZillizImportTrigger, "on_kill"):
            self.log.info("cancel_on_kill works only on workers: before Airflow 3.3, a kill does not reach triggers")
            return ZillizImportTrigger
        return ZillizOwnedImportTrigger

    def _finish(self, end: Outcome, context: Context) -> dict[str, Any] | None:
        """Compare the job's files again: for a user's own key, the server may have returned another import's job."""
        job = end.progress
        if self.idempotency_key and job is not None and job.state is ImportState.COMPLETED:
            check_key(self._submission(), job)
        end = end.scrubbed(Scrubber(self._storage_secrets()))
        if self.storage_conn_id and self._storage is None:
            end = end.without_reasons(
                ". Its reason is not shown, since it may hold the keys of storage_conn_id "
                f"{self.storage_conn_id!r}, which cannot be looked up now"
            )
        return super()._finish(end, context)

    def _hook(self) -> ZillizHook:
        hook = super()._hook()
        hook.other_secrets = self._storage_secrets()
        return hook

    def _storage_keys(self) -> StorageKeys:
        """Return the object storage's keys, looked up once on each worker.

        :raises ZillizConfigError: they cannot be looked up
        """
        if self._storage is None:
            self._storage = (
                keys_of(self.storage_conn_id, BaseHook.get_connection) if self.storage_conn_id else NO_STORAGE
            )
        return self._storage

    def _storage_secrets(self) -> tuple[str, ...]:
        """Return the secrets that a server's reasons may contain; none if they cannot be looked up."""
        try:
            return self._storage_keys().secrets
        except ZillizError:
            return ()  # the code that needs them reports that

    def _trigger_options(self) -> dict[str, Any]:
        return {"withhold_reasons": True} if self.storage_conn_id else {}

    def _do_render_template_fields(self, *args: Any, **kwargs: Any) -> None:
        """Render, and mask signed URLs before Airflow stores the rendered fields, also those of mapped tasks."""
        super()._do_render_template_fields(*args, **kwargs)
        mask_signed_urls([self.files, self.object_urls, self.data_paths])

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
        seconds = min(left, random.uniform(0.5, 1.5) * max(self.poke_interval, MIN_ROOM_PAUSE))  # noqa: S311 - not in step
        self.log.info("The server runs as many jobs as it may; nothing was started. Retrying in %.0f s", seconds)
        if not self.deferrable:
            time.sleep(seconds)
            return
        from airflow_zilliz.triggers import ZillizPauseTrigger  # here, since parsing a DAG needs no trigger

        self.defer(
            trigger=ZillizPauseTrigger(until=time.time() + seconds),
            method_name="execute_again",
            kwargs={"submit_by": submit_by},
            timeout=timedelta(seconds=seconds) + BACKSTOP_MARGIN,
        )

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
        """Return the import to start; what cannot be sent is an error before any request.

        :param context: None where no request will be made
        """
        sources = self._sources()
        target = self._target().merged(self._hook().endpoint().target)

        def request(key: str | None) -> Request:
            return create_request(
                self.collection_name,
                target,
                **sources,
                partition_name=self.partition_name,
                access_key=storage.access_key,
                secret_key=storage.secret_key,
                token=storage.token,
                options=self.options,
                idempotency_key=key,
            )

        digest = digest_of(request(self.idempotency_key))
        names = _names(context["ti"]) if context is not None else ()
        return Submission(
            collection_name=self.collection_name,
            target=target,
            request=request,
            key=self.idempotency_key or key_of(*names, digest=digest),
            digest=digest,
            groups=_groups_of(sources),
            whole_paths=self.files is not None,
            is_own_key=bool(self.idempotency_key),
            former_key=former_key_of(*names),
            patience=PATIENCE,
        )

    def _paths(self) -> tuple[str, ...]:
        return tuple(path for group in _groups_of(self._sources()) for path in group)

    def _check_source(self) -> None:
        given = [name for name in ("files", "object_urls", "data_paths") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "exactly one of files, object_urls, or volume_name with data_paths must be given, not "
                f"{' and '.join(given) or 'none'}"
            )
        if (self.volume_name is None) != (self.data_paths is None):
            raise ValueError("volume_name and data_paths go together")

    def _sources(self) -> dict[str, Any]:
        sources = {"files": self.files, "object_urls": self.object_urls, "data_paths": self.data_paths}
        groups = {name: value for name, value in sources.items() if value is not None}
        return {**groups, "volume_name": self.volume_name}


def _names(ti: Any) -> tuple[Any, ...]:
    mapped = ti.map_index is not None and ti.map_index >= 0
    return (ti.dag_id, ti.run_id, ti.task_id, *([ti.map_index] if mapped else []))


def _wire(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result's fields under the names that servers use."""
    names = {
        "imported_rows": "importedRows",
        "total_rows": "totalRows",
        "file_size": "fileSize",
        "complete_time": "completeTime",
    }
    return {wire: result.get(name) for name, wire in names.items()}


def _groups_of(sources: dict[str, Any]) -> list[list[str]]:
    return next((list(map(list, value)) for name, value in sources.items() if name != "volume_name"), [])
