"""The local server's REST routes, on both faces."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from airflow_zilliz.local import jobs
from airflow_zilliz.local.control import Control, Fault
from airflow_zilliz.local.control_routes import CONTROL, ControlRoutes
from airflow_zilliz.local.engine import Engine, EngineMissing
from airflow_zilliz.local.faults import answer_with
from airflow_zilliz.local.importing import Importer
from airflow_zilliz.local.jobs import Face, Job, JobStore
from airflow_zilliz.wire import CLUSTERS, IMPORT_JOBS, is_idempotency_key

MAX_FILES = 1024
PLACE_KEYS = ("clusterId", "projectId", "regionId")


class Refusal(Exception):
    """An error answer: a code and a message, on Milvus and Zilliz Cloud mostly under HTTP 200."""

    def __init__(self, code: int, message: str, *, status: int = 200) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


@dataclass
class ImportServer:
    """Everything that the routes work on.

    :param api_key: what must follow ``Bearer``; None lets everybody in
    :param with_control: whether the control route exists
    """

    face: Face
    store: JobStore
    engine: Engine
    importer: Importer
    api_key: str | None = None
    with_control: bool = False

    def __post_init__(self) -> None:
        self.control = Control()

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(middlewares=[self._middleware], client_max_size=2 * 2**20)
        verbs = {
            "create": self._create,
            "describe": self._describe,
            "get_progress": self._describe,
            "list": self._list,
            "commit": self._commit,
            "abort": self._abort,
        }
        if self.face is Face.CLOUD:
            verbs["getProgress"] = self._describe  # one Cloud guide spells it so (wire 1.1)
        for name, verb in verbs.items():
            app.router.add_post(f"{IMPORT_JOBS}/{name}", self._route(verb))
        if self.face is Face.CLOUD:
            app.router.add_get(CLUSTERS, self._clusters)
        if self.with_control:
            ControlRoutes(self.control, self.store, self.face).add_to(app)
        return app

    # -- the way of a request -------------------------------------------------------------------------------------

    @web.middleware
    async def _middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.path.startswith(CONTROL):
            return await handler(request)
        record = self.control.record(request.method, request.path, request.headers, await _body_or_none(request))
        response = await self._answer(request, handler)
        record["status"] = response.status
        return response

    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        unrouted = request.path.endswith("/describe") and not self.control.settings.describe_routed
        if unrouted or request.match_info.http_exception is not None:
            return web.Response(status=404, text="404 page not found")
        if self.control.over_limit(request.path):
            fault = Fault("status", status=429, retry_after=1)
        else:
            fault = self.control.next_fault(request.path) or Fault("")
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        elif fault.kind and not fault.done:
            return await answer_with(fault, request)
        try:
            self._authenticate(request)
            response = await handler(request)
        except Refusal as refusal:
            return web.json_response({"code": refusal.code, "message": refusal.message}, status=refusal.status)
        return await answer_with(fault, request) if fault.done and fault.kind != "slow" else response

    def _authenticate(self, request: web.Request) -> None:
        key = self.control.settings.api_key or self.api_key
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if key and not hmac.compare_digest(given.encode(), key.encode()):
            if self.face is Face.CLOUD:
                raise Refusal(21119, "The apikey is illegal.")
            raise Refusal(1800, "user hasn't authenticated", status=401)

    def _route(
        self, verb: Callable[[dict[str, Any], Mapping[str, str]], Awaitable[Any]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await _body_or_none(request)
            if not isinstance(body, dict):
                raise Refusal(1801, "can only accept json format request, error: the body is no JSON object")
            # SDKs send "" and null for what is not set (wire 1.4)
            given = {name: value for name, value in body.items() if value not in ("", None)}
            data = await verb(given, request.headers)
            return web.json_response({"code": self.control.settings.success_code, "data": data})

        return handle

    # -- the import API -------------------------------------------------------------------------------------------

    async def _create(self, body: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        key = headers.get("Idempotency-Key") if self.control.settings.idempotency else None
        if key is not None and not is_idempotency_key(key):
            raise Refusal(1100, "invalid parameter: Idempotency-Key must be 1 to 256 bytes of printable ASCII")
        job = self._new_job(body, headers)
        scope = "/".join((job.db_name, job.collection, *job.place.values()))
        if key is not None and (known := self.store.by_key(scope, key)):
            return {"jobId": known}
        if not job.phases:
            await asyncio.get_running_loop().run_in_executor(None, self._check_collection, job)
        # nothing is awaited from here on, so that two requests with one key cannot both make a job
        if key is not None and (known := self.store.by_key(scope, key)):
            return {"jobId": known}
        self.store.put(job)
        if key is not None:
            self.store.bind_key(scope, key, job.id)
        if not job.phases:
            self.importer.submit(job)
        return {"jobId": job.id}

    def _new_job(self, body: dict[str, Any], headers: Mapping[str, str]) -> Job:
        place = self._place(body)
        collection = _text(body, "collectionName")
        if not collection:
            raise Refusal(1802, "missing required parameters, error: Key: 'collectionName' is required")
        options = body.get("options") or {}
        if not isinstance(options, dict) or not all(isinstance(value, str) for value in options.values()):
            raise Refusal(1801, "can only accept json format request, error: options must map text to text")
        if options.get("auto_commit", "true").lower() not in ("true", "false"):
            raise Refusal(1801, 'options.auto_commit must be one of "true" or "false"')
        options = {name: value.lower() if name == "auto_commit" else value for name, value in options.items()}
        if volume := _text(body, "volumeName"):
            options["volumeName"] = volume
        job = Job(
            id=self.face.new_job_id(),
            collection=collection,
            db_name=_text(body, "dbName") or headers.get("DB-Name", ""),
            partition=_text(body, "partitionName"),
            groups=self._groups(body),
            options=options,
            place=place,
        )
        if script := self.control.script:
            job = replace(job, phases=script.phases, total_rows=script.total_rows, files=script.files)
        return job

    def _groups(self, body: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
        name, value = "files", body.get("files")
        if self.face is Face.CLOUD:
            for name in ("objectUrls", "dataPaths", "objectUrl", "files"):
                if (value := body.get(name)) is not None:
                    break
            if name == "objectUrl":
                value = [[value]]
        if value is None or value == []:
            raise Refusal(1100, "import request is empty: no files")
        if not isinstance(value, list) or not all(
            isinstance(group, list) and group and all(isinstance(path, str) and path for path in group)
            for group in value
        ):
            raise Refusal(1801, f"can only accept json format request, error: {name} must be a list of lists of text")
        if len(value) > MAX_FILES:
            raise Refusal(
                2100,
                f"The max number of import files should not exceed {MAX_FILES}, but got {len(value)}: "
                "importing data failed",
            )
        return tuple(tuple(group) for group in value)

    def _check_collection(self, job: Job) -> None:
        if job.db_name not in ("", "default"):  # Milvus Lite has one database
            raise Refusal(800, f"database not found[database={job.db_name}]")
        try:
            if not self.engine.has_collection(job.collection):
                database = job.db_name or "default"
                raise Refusal(100, f"collection not found[database={database}][collection={job.collection}]")
            if job.partition and not self.engine.has_partition(job.collection, job.partition):
                raise Refusal(200, f"partition not found[partition={job.partition}]")
        except EngineMissing as err:
            raise Refusal(1, f"service not ready: {err}") from None

    async def _describe(self, body: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        job = self._job(body, describing=True)
        if self.control.settings.old_shape:
            return jobs.describe_old(job)
        return jobs.describe(job, self.face)

    async def _list(self, body: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        place = self._place(body)
        collection = _text(body, "collectionName")
        found = [
            job
            for job in self.store.all()
            if (not collection or job.collection == collection) and (not job.place or job.place == place)
        ]
        if self.face is Face.MILVUS:
            return {"records": [jobs.list_record(job, self.face) for job in found]}
        size, page = _number(body, "pageSize", 10), _number(body, "currentPage", 1)
        if not 1 <= size <= 100:
            raise Refusal(96008, "Invalid pageSize, it should be 1 to 100")
        if page < 1:
            raise Refusal(96009, "Invalid currentPage")
        records = [jobs.list_record(job, self.face) for job in found[(page - 1) * size : page * size]]
        return {"count": len(found), "currentPage": page, "pageSize": size, "records": records}

    async def _commit(self, body: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        job = self._two_phase_job(body)
        if job.state not in ("Uncommitted", "Committing", "Completed"):
            raise Refusal(2100, f"job {job.id} is in state {job.state}, expected Uncommitted: importing data failed")
        if job.state == "Uncommitted":
            self.importer.submit(self.store.put(replace(job, state="Committing")))
        return {}

    async def _abort(self, body: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        job = self._two_phase_job(body)
        if job.state in ("Committing", "Completed"):
            text = f"job {job.id} is in terminal/committed state {job.state}, abort not allowed"
            raise Refusal(2100, f"{text}: importing data failed")
        if job.state != "Failed":
            self.importer.abort(job)
        return {}

    def _two_phase_job(self, body: dict[str, Any]) -> Job:
        job = self._job(body, describing=False)
        if job.commits_itself:
            raise Refusal(2100, f"job {job.id} was created with auto_commit=true: importing data failed")
        return job

    def _job(self, body: dict[str, Any], *, describing: bool) -> Job:
        place = self._place(body)
        job_id = body.get("jobId")
        if not isinstance(job_id, str):
            raise Refusal(1802, "missing required parameters, error: Key: 'jobId' is required")
        job = self.store.get(job_id)
        if job is not None and (not job.place or job.place == place):
            return job
        if self.face is Face.CLOUD:
            raise Refusal(96026, "Job not found")
        if not job_id.isdigit():
            if not describing:
                raise Refusal(1100, f"invalid parameter: int64 jobId expected, got {job_id[:100]}")
            text = f'parse job id failed, err=%w<strconv.ParseInt: parsing "{job_id[:100]}": invalid syntax>'
            raise Refusal(2100, f"{text}: importing data failed")
        raise Refusal(2100, f"import job does not exist, jobID={job_id}: importing data failed")

    def _place(self, body: dict[str, Any]) -> dict[str, str]:
        """Return where a request says its job lives; Milvus does not look."""
        if self.face is Face.MILVUS:
            return {}
        place = {name: _text(body, name) for name in PLACE_KEYS if body.get(name)}
        if "clusterId" in place and len(place) > 1:
            raise Refusal(80000, "Incorrect parameter: clusterId and projectId or regionId are exclusive")
        if not place:
            raise Refusal(96025, "Empty clusterId")
        if "clusterId" not in place and len(place) != 2:
            raise Refusal(80000, "Incorrect parameter: projectId and regionId are both required")
        clusters = self.control.settings.clusters
        if clusters is not None and place.get("clusterId", clusters[0] if clusters else "") not in clusters:
            raise Refusal(96018, "Cluster not found")
        return place

    async def _clusters(self, request: web.Request) -> web.StreamResponse:
        names = self.control.settings.clusters or ["in01-local"]
        clusters = [{"clusterId": name, "clusterName": name, "status": "RUNNING"} for name in names]
        data = {"count": len(clusters), "currentPage": 1, "pageSize": 10, "clusters": clusters}
        return web.json_response({"code": 0, "data": data})


async def _body_or_none(request: web.Request) -> Any:
    try:
        return json.loads(await request.text())
    except (ValueError, RecursionError, web.HTTPException, ConnectionError):
        return None


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise Refusal(1801, f"can only accept json format request, error: {name} must be text")
    return value


def _number(body: dict[str, Any], name: str, default: int) -> int:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refusal(1801, f"can only accept json format request, error: {name} must be a number")
    return value
