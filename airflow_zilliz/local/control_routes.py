"""The control route's HTTP side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import Any

from aiohttp import web

from airflow_zilliz.local.control import Control, Fault, Settings, scripted_job
from airflow_zilliz.local.jobs import Face, JobStore

CONTROL = "/_control"


class ControlRoutes:
    """Tells a `Control` what to do, over HTTP."""

    def __init__(self, control: Control, store: JobStore, face: Face) -> None:
        self._control = control
        self._store = store
        self._face = face

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        for name, verb in {
            "jobs": self._add_job,
            "faults": self._add_fault,
            "settings": self._set,
            "script": self._set_script,
        }.items():
            app.router.add_post(f"{CONTROL}/{name}", _checked(verb))
        app.router.add_post(CONTROL + "/jobs/{job_id}", _checked(self._add_job))
        app.router.add_delete(CONTROL + "/jobs/{job_id}", self._forget)
        app.router.add_get(f"{CONTROL}/requests", self._requests)
        app.router.add_delete(CONTROL + "/{what}", self._reset)

    def _add_job(self, request: web.Request, value: dict[str, Any]) -> dict[str, Any]:
        """Make a scripted job, or give one other phases."""
        job_id = request.match_info.get("job_id")
        job = scripted_job(self._face.new_job_id(), value | ({"jobId": job_id} if job_id else {}))
        return {"jobId": self._store.put(job).id}

    def _add_fault(self, request: web.Request, value: dict[str, Any]) -> dict[str, Any]:
        self._control.faults.append(Fault.from_json(value))
        return {}

    def _set(self, request: web.Request, value: dict[str, Any]) -> dict[str, Any]:
        self._control.settings = self._control.settings.changed(value)
        return asdict(replace(self._control.settings, api_key=None))

    def _set_script(self, request: web.Request, value: dict[str, Any]) -> dict[str, Any]:
        """Let every job that is created from now on be a scripted one."""
        self._control.script = scripted_job("", value)
        return {}

    async def _requests(self, request: web.Request) -> web.Response:
        return web.json_response(list(self._control.requests))

    async def _forget(self, request: web.Request) -> web.Response:
        """Lose a job, as retention does."""
        return web.json_response({"forgotten": self._store.forget(request.match_info["job_id"])})

    async def _reset(self, request: web.Request) -> web.Response:
        what = request.match_info["what"]
        if what in ("faults", "all"):
            self._control.faults.clear()
        if what in ("settings", "all"):
            self._control.settings = Settings()
        if what in ("script", "all"):
            self._control.script = None
        if what in ("requests", "all"):
            self._control.requests.clear()
        if what in ("jobs", "all"):
            self._store.clear()
        return web.json_response({})


def _checked(
    verb: Callable[[web.Request, dict[str, Any]], dict[str, Any]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(verb(request, dict(await request.json())))
        except (ValueError, TypeError, AttributeError) as err:
            return web.json_response({"error": str(err)}, status=400)

    return handle
