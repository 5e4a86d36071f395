"""The operator that imports a dataset of any number of files; `airflow_zilliz.operators` exports it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_zilliz._protocol.import_request import Groups, commits_by_itself
from airflow_zilliz._submit.idempotency_keys import key_of
from airflow_zilliz._submit.ledger import Ledger, Phase, Stage
from airflow_zilliz._submit.record import Patience
from airflow_zilliz._submit.values import Submission
from airflow_zilliz._tasks.arguments import check_literals, is_templated, normalise_arguments
from airflow_zilliz._tasks.importing import SETTLING_SECONDS, PlansDataset, names_of
from airflow_zilliz._tasks.two_phase import DEFERRABLE

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz._tasks.dataset_plan import DatasetPlan
    from airflow_zilliz._tasks.dataset_run import DatasetRun
    from airflow_zilliz._tasks.dataset_state import DatasetState


class ZillizImportDatasetOperator(PlansDataset):
    """Import any number of files: split into jobs, submit them in waves, wait for them, and account for each file.

    A retry and a cleared task continue with what is missing: they do not send Completed jobs again, wait for running
    ones, and start Failed ones again. ``return_value`` has the sums: ``jobs``, ``files``, ``collection_name``,
    ``imported_rows``, ``total_rows``, ``file_size`` (bytes), ``complete_time``, ``duration`` (seconds). XCom ``jobs``
    has each job's result and files; XCom ``missing`` the files that were not imported.

    :param collection_name: the collection (templated)
    :param files: as for `ZillizImportOperator`, as are ``object_urls``, and ``volume_name`` with ``data_paths``
        (templated)
    :param source: instead of these, the URL of a folder, a file or a pattern in an object storage, which Airflow's
        ``ObjectStoragePath`` lists at run time, such as ``"s3://aws_default@lake/books/**/*.parquet"``. NumPy files of
        one folder are one group; hidden files, with a name in their path that begins with ``.`` or ``_``, and empty
        files are skipped (templated)
    :param to_path: turns the URL of a listed file, such as ``"s3://lake/books/a.parquet"``, into the path or URL that
        the server expects; None for the key in its bucket on Milvus, and for the URL on Zilliz Cloud
    :param fail_on_empty: fail if ``source`` has no file, instead of skipping the task
    :param max_files_per_job: files for each job, 1 to 1000 on Zilliz Cloud and to 1024 on Milvus
    :param max_bytes_per_job: bytes for each job, at least 1, if ``source`` lists sizes; None for no limit
    :param max_active_jobs: jobs that may run at once, at least 1. The next ones are sent as soon as a quarter of them
        have ended
    :param atomic: load all files before the first becomes visible, and none if a job fails: for servers with two-phase
        imports. The commits follow one another, so readers may see some jobs' rows earlier
    :param cancel_on_kill: abort the jobs of ``atomic=True`` when a user kills or clears the task before the first
        commit: on its worker and, from Airflow 3.3 on, while it is deferred
    :param timeout: for all jobs together, seconds or timedelta
    :param idempotency_key: a key of your own, to which a digest of each job's files is added (templated)
    :param zilliz_conn_id: and all others as for `ZillizImportOperator`
    :raises ZillizImportFailed: some files were not imported; the message names them
    :raises ZillizSubmissionUnknown: it is not known whether some jobs were started; not retried
    :raises ZillizConfigError: before anything is sent; also if ``atomic`` cannot be guaranteed
    :raises ZillizError: else as `ZillizImportSensor`, with an account of all jobs
    """

    template_fields: Sequence[str] = (*PlansDataset.template_fields, "source")

    def __init__(
        self,
        *,
        collection_name: str,
        files: Groups | None = None,
        object_urls: Groups | None = None,
        volume_name: str | None = None,
        data_paths: Groups | None = None,
        source: str | None = None,
        to_path: Callable[[str], str] | None = None,
        fail_on_empty: bool = False,
        max_files_per_job: int = 1000,
        max_bytes_per_job: int | None = None,
        max_active_jobs: int = 10,
        atomic: bool = False,
        partition_name: str | None = None,
        options: Mapping[str, Any] | None = None,
        storage_conn_id: str | None = None,
        idempotency_key: str | None = None,
        cancel_on_kill: bool = False,
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
            target_state="Completed",
            **kwargs,
        )
        self.source = source
        self.to_path = to_path
        self.fail_on_empty = fail_on_empty
        self.max_files_per_job = max_files_per_job
        self.max_bytes_per_job = max_bytes_per_job
        self.max_active_jobs = max_active_jobs
        self.atomic = atomic
        self._state: DatasetState | None = None
        check_literals(self)
        self._check_limits()

    def execute(self, context: Context) -> Any:
        """Import the dataset, or continue where earlier tries ended."""
        if self.cancel_on_kill and self.atomic and context["ti"].try_number > 1:
            time.sleep(SETTLING_SECONDS)  # a triggerer may be aborting the jobs of a task that was cleared
        return self._import(context, *self._time_span(context))

    def execute_wave(self, context: Context, event: Any = None, **span: Any) -> Any:
        """Resume after the trigger that waits for jobs, and send the next ones."""
        return self._import(context, *self._span_of(span), then=lambda run: run.resume(event))

    def execute_again(self, context: Context, event: Any = None, **span: Any) -> Any:
        """Continue after the pause for a server that had no room."""
        return self._import(context, *self._span_of(span))

    def on_kill(self) -> None:
        """Abort the jobs of a task that is killed on its worker, if that is requested and possible."""
        job_ids = self._jobs_to_abort()
        if job_ids and commits_by_itself(self.options):
            from airflow_zilliz._wait.texts import plural  # here, since parsing a DAG needs no texts of a wait

            left = plural(len(job_ids), "import job")
            self.log.warning("%s not aborted: no server can stop an import that commits by itself", left)
        elif job_ids:
            self._abort_in_time(job_ids)

    # -- internals ------------------------------------------------------------------------------------------------

    def _jobs_to_abort(self) -> list[str]:
        """Return the jobs that a kill is to abort now; what is being committed is finished instead."""
        state = self._state
        if not self.cancel_on_kill or state is None or state.ledger.phase is Phase.COMMITTING:
            return []
        return state.ids(state.ledger.at(Stage.RUNNING, Stage.LOADED))

    def _on_backstop(self, context: Context) -> Any:
        late = self._ends_by_execution_timeout
        span = self._time_span(context)
        return self._import(context, *span, then=lambda run: run.end_of_backstop(execution_timeout=late))

    def _import(
        self,
        context: Context,
        started_at: float,
        deadline: float | None,
        execution_deadline: float | None,
        then: Callable[[DatasetRun], Ledger] = lambda run: run.go(),
    ) -> Any:
        from airflow_zilliz._tasks.dataset_plan import DatasetPlan
        from airflow_zilliz._tasks.dataset_run import DatasetRun  # here, since parsing a DAG needs no polls
        from airflow_zilliz._tasks.dataset_state import DatasetState
        from airflow_zilliz._tasks.dataset_store import LedgerStore
        from airflow_zilliz._tasks.job_list import Span

        normalise_arguments(self)
        if self.atomic:
            self.options = {**(self.options or {}), "auto_commit": False}
        store = LedgerStore(context)
        with self._hook():
            self._store_links(context)
            plan = DatasetPlan(self, context)
            span = Span(started_at, deadline, execution_deadline)
            state = DatasetState(self, context, plan, store, plan.ledger(store), span)
            self._state = state
            ledger = then(DatasetRun(state))
        return self._finish_dataset(ledger, plan, context)

    def _span_of(self, span: Mapping[str, Any]) -> tuple[float, float | None, float | None]:
        started_at = span.get("started_at")
        return started_at or time.time(), span.get("deadline"), span.get("execution_deadline")

    def _submission_of_job(self, sources: Mapping[str, Any], context: Context, patience: Patience) -> Submission:
        submission = self._submission_of(sources, names_of(context["ti"]), self._storage_keys(), patience)
        if not self.idempotency_key:
            return submission
        # the digest makes a user's key stand for these files alone
        return replace(submission, key=key_of(self.idempotency_key, digest=submission.digest), is_own_key=False)

    def _leave_account(self, ledger: Ledger, context: Context) -> None:
        """Store how each job ended in XComs."""
        from airflow_zilliz._tasks.dataset_account import completed_jobs, failed_jobs, jobs_of, missing_of

        context["ti"].xcom_push(key="jobs", value=jobs_of(ledger))
        context["ti"].xcom_push(key="missing", value=missing_of(ledger))
        self._note_lineage([*completed_jobs(ledger), *failed_jobs(ledger)], None)

    def _finish_dataset(self, ledger: Ledger, plan: DatasetPlan, context: Context) -> Any:
        from airflow_zilliz._tasks.dataset_account import account, completed_jobs, failure_of
        from airflow_zilliz._wait.job_results import event_of

        self._leave_account(ledger, context)
        if (error := failure_of(ledger, retry_on_failure=self.retry_on_failure)) is not None:
            raise error
        self.log.info("%s", account(ledger))
        plan.forget_listing()
        event = event_of(completed_jobs(ledger))
        self._add_outlet_extra(event, context)
        return {**event, "files": sum(len(job.paths) for job in ledger.jobs)}

    def _paths(self) -> tuple[str, ...]:
        return ()  # each job's own files are reported instead

    def _check_source(self) -> None:
        if self.source is None:
            super()._check_source()
            return
        given = [name for name in ("files", "object_urls", "volume_name", "data_paths") if getattr(self, name)]
        if given:
            raise ValueError(f"source cannot be given together with {' and '.join(given)}")
        if not is_templated(self.source):
            from airflow_zilliz._submit.dataset_files import parse_source

            parse_source(self.source)

    def _check_limits(self) -> None:
        self._check_source()
        for name in ("max_files_per_job", "max_bytes_per_job", "max_active_jobs"):
            value = getattr(self, name)
            if value is None and name == "max_bytes_per_job":
                continue
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
