"""How the local server handles a request: faults, authentication, routes."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from airflow_zilliz.local.cloud_routes import CloudRoutes
from airflow_zilliz.local.control import Fault
from airflow_zilliz.local.control_routes import CONTROL, ControlRoutes
from airflow_zilliz.local.database_routes import DatabaseRoutes
from airflow_zilliz.local.faults import break_off, respond_with
from airflow_zilliz.local.import_routes import ImportRoutes
from airflow_zilliz.local.jobs import Flavor
from airflow_zilliz.local.refusals import Refusal, not_json
from airflow_zilliz.local.request_body import RequestBody
from airflow_zilliz.local.server_state import ServerState

#: A body contains no files, only names.
MAX_BODY = 64 * 2**20

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Verb = Callable[[RequestBody, Mapping[str, str]], Awaitable[Any]]


class ImportServer:
    """The application: the routes over a `ServerState`.

    :param with_control: whether the control routes exist
    """

    def __init__(self, state: ServerState, *, with_control: bool = False) -> None:
        self.state = state
        self._with_control = with_control
        self._late: set[asyncio.Task[web.StreamResponse]] = set()

    def app(self) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application(middlewares=[self._middleware], client_max_size=MAX_BODY)
        app.on_shutdown.append(self._drop_late)
        verbs: dict[str, Verb] = dict(ImportRoutes(self.state).verbs())
        if self.state.flavor is Flavor.CLOUD:
            CloudRoutes(self.state).add_to(app)
        else:
            verbs |= DatabaseRoutes(self.state).verbs()
        for path, verb in verbs.items():
            app.router.add_post(path, self._route(verb))
        if self._with_control:
            ControlRoutes(self.state, self.drop_late).add_to(app)
        return app

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(CONTROL):
            return await handler(request)
        control = self.state.control
        body = await _body_or_none(request)
        record = control.record(request.method, request.path, request.headers, body)
        if self.state.clock.now() < control.down_until:
            return await break_off(request)
        job_id = body.get("jobId") if isinstance(body, dict) else request.match_info.get("job_id")
        response = await self._respond(request, handler, job_id)
        record["status"] = response.status
        return response

    async def _respond(self, request: web.Request, handler: Handler, job_id: object) -> web.StreamResponse:
        if request.match_info.http_exception is not None or not self._is_routed(request.path):
            return web.Response(status=404, text="404 page not found")
        control = self.state.control
        if control.over_limit(request.path):
            return await respond_with(Fault("status", status=429, retry_after=1), request)
        fault = control.next_fault(request.path, job_id)
        if fault is None:
            return await self._perform(request, handler)
        if fault.kind == "slow" and not fault.done:
            await self.state.clock.sleep(fault.seconds)
            return await self._perform(request, handler)
        response = await self._perform(request, handler) if fault.done else None
        if fault.kind == "slow" and response is not None:
            await self.state.clock.sleep(fault.seconds)
            return response
        return await self._go_wrong(fault, request, handler)

    async def _go_wrong(self, fault: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
        if fault.done_after is not None:
            self._perform_later(fault.done_after, request, handler)
        if fault.kind == "restart":
            self.state.control.down_until = self.state.clock.now() + fault.seconds
            if fault.loses_jobs:
                self.state.store.lose_jobs()
        return await respond_with(fault, request)

    async def _perform(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._authenticate(request)
            return await handler(request)
        except Refusal as refusal:
            return web.json_response({"code": refusal.code, "message": refusal.message}, status=refusal.status)

    def _perform_later(self, seconds: float, request: web.Request, handler: Handler) -> None:
        async def perform() -> web.StreamResponse:
            await self.state.clock.sleep(seconds)
            return await self._perform(request, handler)

        task = asyncio.get_running_loop().create_task(perform())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def drop_late(self) -> None:
        """Cancel the requests that were to take effect later."""
        for task in self._late:
            task.cancel()

    async def _drop_late(self, app: web.Application) -> None:
        self.drop_late()

    def _is_routed(self, path: str) -> bool:
        """Return whether the server's current version has a route; Zilliz Cloud has no versions."""
        if self.state.flavor is Flavor.CLOUD:
            return not path.endswith("/describe") or self.state.control.settings.describe_routed is not False
        version = self.state.version
        if path.endswith(("/import/commit", "/import/abort")):
            return version.two_phases
        return version.describe_routed or not path.endswith("/import/describe")

    def _authenticate(self, request: web.Request) -> None:
        key = self.state.control.settings.api_key or self.state.api_key
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if key and not hmac.compare_digest(given.encode(), key.encode()):
            if self.state.flavor is Flavor.CLOUD:
                raise Refusal(21119, "The apikey is illegal.")
            raise Refusal(1800, "user hasn't authenticated", status=401)

    def _route(self, verb: Verb) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                raw = await request.read()
            except (web.HTTPException, ConnectionError):
                raise not_json("the body cannot be read") from None
            data = await verb(RequestBody.parse(raw), request.headers)
            return web.json_response({"code": self.state.version.success_code, "data": data})

        return handle


async def _body_or_none(request: web.Request) -> Any:
    """Return a body for the record of requests."""
    try:
        return await request.json()
    except (ValueError, RecursionError, LookupError, web.HTTPException, ConnectionError):
        return None
