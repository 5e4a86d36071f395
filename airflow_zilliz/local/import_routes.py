"""The import API: create, describe, list, commit and abort, on both flavors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from airflow_zilliz._protocol.constants import IMPORT_JOBS, is_idempotency_key
from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz.local import job_views
from airflow_zilliz.local.create_request import (
    CreateRequest,
    check_files,
    check_timeout,
    cloud_request,
    database_of,
    milvus_request,
    too_many_jobs,
)
from airflow_zilliz.local.engine import EngineMissing
from airflow_zilliz.local.go_values import int64
from airflow_zilliz.local.jobs import Flavor, Job
from airflow_zilliz.local.places import is_at, place_of
from airflow_zilliz.local.refusals import (
    Refusal,
    collection_not_found,
    database_not_found,
    import_failed,
)
from airflow_zilliz.local.request_body import RequestBody
from airflow_zilliz.local.server_state import ServerState

_Verb = Callable[[RequestBody, Mapping[str, str]], Awaitable[Any]]


class ImportRoutes:
    """The routes below ``/v2/vectordb/jobs/import``."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._cloud = state.flavor is Flavor.CLOUD

    def verbs(self) -> dict[str, _Verb]:
        """Return the handler of each path."""
        verbs = {
            "create": self._create,
            "describe": self._describe,
            "get_progress": self._describe,
            "list": self._list,
            "commit": self._commit,
            "abort": self._abort,
        }
        if self._cloud:
            verbs["getProgress"] = self._describe  # zilliz-cli sends it (wire 1.1)
        return {f"{IMPORT_JOBS}/{name}": verb for name, verb in verbs.items()}

    # -- create ---------------------------------------------------------------------------------------------------

    async def _create(self, body: RequestBody, headers: Mapping[str, str]) -> dict[str, Any]:
        version = self._state.version
        key = headers.get("Idempotency-Key") if version.idempotency_keys else None
        if key is not None and not is_idempotency_key(key):
            raise Refusal(1100, "invalid parameter: Idempotency-Key must be 1 to 256 bytes of printable ASCII")
        place = self._place(body)
        request = (cloud_request if self._cloud else milvus_request)(body, headers, version)
        script = self._state.control.script
        if script is None:
            await _in_thread(self._check_target, request)
        check_files(request, self._state.limits, kinds=not self._cloud)
        check_timeout(request)
        # nothing is awaited from here on, so that two requests with the same key cannot both make a job
        self._check_job_number(request)
        scope = "/".join((request.database, request.collection, *place.values()))
        if key is not None and (known := self._state.store.by_key(scope, key)):
            return {"jobId": known}
        job = self._state.store.add(self._new_job(request, place, script))
        if key is not None:
            self._state.store.bind_key(scope, key, job.id)
        if script is None:
            self._state.importer.submit(job)
        return {"jobId": job.id}

    def _new_job(self, request: CreateRequest, place: dict[str, str], script: Job | None) -> Job:
        job = Job(
            id=self._state.flavor.new_job_id(),
            collection=request.collection,
            db_name=request.database,
            partition=request.partition,
            groups=request.groups,
            options=dict(request.options),
            place=place,
            created=self._state.clock.now(),
            version=self._state.version.name,
        )
        if script is None:
            return job
        return replace(job, phases=script.phases, total_rows=script.total_rows, files=script.files)

    def _check_target(self, request: CreateRequest) -> None:
        """Refuse what the collection cannot accept, as Milvus's proxy does before it checks the files."""
        engine, database, collection = self._state.engine, request.database, request.collection
        try:
            if not engine.has_database(database):
                raise database_not_found(database)
            if not engine.has_collection(collection, database):
                raise collection_not_found(database, collection)
            if request.is_backup:
                if not request.partition:
                    raise Refusal(1101, "partition not specified: missing parameter")
                raise Refusal(10, "the local import server reads no backups: unimplemented")
            if request.partition and engine.has_partition_key(collection, database):
                raise import_failed("not allow to set partition name for collection with partition key")
            if request.partition and not engine.has_partition(collection, request.partition, database):
                raise Refusal(200, f"partition not found[partition={request.partition}]")
        except EngineMissing as err:
            raise Refusal(1, f"service not ready: {err}") from None

    def _check_job_number(self, request: CreateRequest) -> None:
        running = [job for job in self._state.store.all() if not job.is_final]
        if self._cloud:
            running = [
                job for job in running if (job.collection, job.db_name) == (request.collection, request.database)
            ]
        if len(running) >= self._state.limits.max_jobs:
            raise too_many_jobs()

    # -- describe and list ----------------------------------------------------------------------------------------

    async def _describe(self, body: RequestBody, headers: Mapping[str, str]) -> dict[str, Any]:
        job = self._described_job(body)
        if self._state.control.settings.old_shape:
            return job_views.describe_old(job)
        return job_views.describe(job, self._state.flavor, self._state.version)

    def _described_job(self, body: RequestBody) -> Job:
        job, job_id = self._find(body)
        if job is not None:
            return job
        if self._cloud:
            raise Refusal(96026, "Job not found")
        version = self._state.version
        if int64(job_id) is None:
            text = f'parse job id failed, err=%w<strconv.ParseInt: parsing "{job_id[:100]}": invalid syntax>'
            raise Refusal(version.invalid_job_id_code, f"{text}: importing data failed")
        text = f"import job does not exist, jobID={int64(job_id)}: importing data failed"
        raise Refusal(version.unknown_job_code, text)

    async def _list(self, body: RequestBody, headers: Mapping[str, str]) -> dict[str, Any]:
        place, collection, database = self._place(body), body.text("collectionName"), database_of(body, headers)
        jobs = [job for job in self._state.store.all() if is_at(job, place)]
        if collection or not self._cloud:
            jobs = await _in_thread(self._in_database, jobs, collection, database)
        jobs = self._state.control.listed(jobs, self._state.clock.now())
        if not self._cloud:
            return {"records": [job_views.list_record(job, self._state.flavor) for job in jobs]}
        size, page = body.number("pageSize", 10), body.number("currentPage", 1)
        if not 1 <= size <= 100:
            raise Refusal(96008, "Invalid pageSize, it should be 1 to 100")
        if page < 1:
            raise Refusal(96009, "Invalid currentPage")
        records = [job_views.list_record(job, self._state.flavor) for job in jobs[(page - 1) * size : page * size]]
        return {"count": len(jobs), "currentPage": page, "pageSize": size, "records": records}

    def _in_database(self, jobs: list[Job], collection: str, database: str) -> list[Job]:
        """Return the jobs of one collection; without one, all jobs of a known database.

        A scripted job's collection exists without being in the engine; without a database, it is in every one. While
        a script is set, every collection of every database exists.
        """
        if collection:
            jobs = [job for job in jobs if job.collection == collection and _may_be_in(job, database)]
        if self._state.control.script is not None or collection in self._state.control.settings.collections:
            return jobs
        scripted = [job for job in jobs if job.phases and _may_be_in(job, database)]
        try:
            known = self._state.engine.has_database(database)
            if not known and not scripted and collection:
                raise database_not_found(database)
            if collection and not scripted and not self._state.engine.has_collection(collection, database):
                raise collection_not_found(database, collection)
        except EngineMissing:
            return jobs
        return jobs if known else scripted

    # -- two phases -----------------------------------------------------------------------------------------------

    async def _commit(self, body: RequestBody, headers: Mapping[str, str]) -> dict[str, Any]:
        job = self._committable_job(body)
        if job.commits_itself and job.state == "Completed" and self._state.version.commits_completed_jobs:
            return {}
        self._check_two_phases(job)
        if job.state not in ("Uncommitted", "Committing", "Completed"):
            raise import_failed(f"job {job.id} is in state {job.state}, expected Uncommitted")
        if job.state == "Uncommitted" and job.phases:  # a script does not continue by itself
            rows = job.total_rows
            self._state.store.put(replace(job, state="Completed", progress=100, imported_rows=rows))
        elif job.state == "Uncommitted":
            job = self._state.store.put(replace(job, state="Committing"))
            self._state.importer.submit(job)
        return {}

    async def _abort(self, body: RequestBody, headers: Mapping[str, str]) -> dict[str, Any]:
        job = self._committable_job(body)
        self._check_two_phases(job)
        if job.state in ("Committing", "Completed"):
            raise import_failed(f"job {job.id} is in terminal/committed state {job.state}, abort not allowed")
        if job.state != ImportState.FAILED.value:
            self._state.importer.abort(job)
        return {}

    def _committable_job(self, body: RequestBody) -> Job:
        job, job_id = self._find(body)
        if job is not None:
            return job
        if self._cloud:
            raise Refusal(96026, "Job not found")
        if int64(job_id) is None:
            raise Refusal(1100, f"invalid parameter: int64 jobId expected, got {job_id[:100]}")
        raise Refusal(
            self._state.version.unknown_job_code, f"import job {int64(job_id)} not found: importing data failed"
        )

    def _check_two_phases(self, job: Job) -> None:
        if job.commits_itself:
            raise import_failed(f"job {job.id} was created with auto_commit=true")

    # -- jobs and places ------------------------------------------------------------------------------------------

    def _find(self, body: RequestBody) -> tuple[Job | None, str]:
        """Return the job that a request names, if it is known, and the id."""
        place = self._place(body)
        job_id = body.required_text("jobId")
        job = self._state.store.get(job_id)
        if job is None and not self._cloud and (number := int64(job_id)) is not None:
            job = self._state.store.get(str(number))
        return (job if job is not None and is_at(job, place) else None), job_id

    def _place(self, body: RequestBody) -> dict[str, str]:
        """Return the place of a request's job; Milvus has none."""
        return place_of(body, self._state.control.settings.clusters) if self._cloud else {}


def _may_be_in(job: Job, database: str) -> bool:
    return job.db_name == database or (bool(job.phases) and not job.db_name)


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)
